"""Photograph the pipeline in a running Airflow for the docs.

    .venv/bin/python -m tests.airflow.screenshot --url http://127.0.0.1:8080

needs the Debian packages chromium and fonts-dejavu-core, and an Airflow that asks for no password
(AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS=True).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import Browser

from testkit.browsing import browser

TARGET = Path("docs/images/airflow.png")
DAG = "sentinel_mlops_pipeline"


def photograph(chromium: Browser, url: str, target: Path) -> None:
    """Save a picture of the graph and of the newest run's tasks."""
    page = chromium.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
    page.goto(f"{url}/dags/{DAG}")
    page.get_by_text("build_dataset").first.wait_for(timeout=120_000)
    page.keyboard.press("g")  # from the grid to the graph
    page.wait_for_timeout(8_000)  # it lays itself out
    page.screenshot(path=target, animations="disabled")
    page.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Photograph the pipeline in Airflow.")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--out", type=Path, default=TARGET)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        photograph(chromium, given.url, given.out)
    print(f"{given.out}: {given.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
