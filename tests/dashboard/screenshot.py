"""Photograph a running dashboard for the README.

    make up                                  # and let it run for a quarter of an hour
    .venv/bin/python -m tests.dashboard.screenshot

needs the Debian packages chromium and fonts-dejavu-core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import Browser

from testkit.browsing import browser

TARGET = Path("docs/images/dashboard.png")
WIDTH = 1440
HEIGHT = 1345


def photograph(
    chromium: Browser, url: str, target: Path, *, span: str = "15 min", scheme: str = "light"
) -> None:
    """Save a picture of the first page.

    Args:
        chromium: A browser.
        url: The dashboard.
        target: A PNG file.
        span: What the page covers, as its control says it.
        scheme: "light" or "dark".
    """
    page = chromium.new_page(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page.goto(url)
    page.get_by_text("Service health").wait_for(timeout=30_000)
    page.locator("tr[data-sequence]").nth(5).wait_for(timeout=30_000)
    page.get_by_text(span, exact=True).click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(5_000)  # charts have drawn themselves, new rows have faded in
    page.screenshot(path=target, animations="disabled")
    page.close()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Photograph a running dashboard.")
    parser.add_argument("--url", default="http://127.0.0.1:8501")
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--scheme", choices=("light", "dark"), default="light")
    parser.add_argument("--span", choices=("15 min", "1 hour", "All"), default="15 min")
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        photograph(chromium, given.url, given.out, span=given.span, scheme=given.scheme)
    print(f"{given.out}: {given.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
