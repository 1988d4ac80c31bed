"""Every query of every panel has an answer: a real Prometheus scrapes a real scorer and monitor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import build_dashboards
import httpx
import pytest

from sentinel.experiments.lineup import Experiment
from testkit.experiments import install_version, run_experiments
from testkit.ports import free_port
from testkit.scratch import default_plan, make_workspace, serving
from testkit.watching import Prometheus

ELSEWHERE: dict[str, str] = {}
"""Queries without an answer here, and the reason."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus before a scorer with a shadow, and a monitor, while payments and labels come."""
    settings = make_workspace(tmp_path_factory.mktemp("dashboards") / "w")
    install_version(settings, default_plan(), "12", verdict="candidate")
    run_experiments(settings, Experiment(name="night", kind="shadow", version="12"))
    port = free_port()
    given = {
        "SENTINEL_WORKSPACE": str(settings.workspace),
        "SENTINEL_FEATURE_STORE": str(settings.feature_store),
        "SENTINEL_MONITOR__PORT": str(port),
    }
    with serving(settings) as scorer:
        monitor = subprocess.Popen(
            [sys.executable, "-m", "sentinel.pipeline.monitor"], env={**os.environ, **given}
        )
        address = scorer.url.removeprefix("http://")
        folder = tmp_path_factory.mktemp("prometheus")
        try:
            with Prometheus(
                folder,
                scorers=[address],
                alertmanager="127.0.0.1:9",
                monitor=f"127.0.0.1:{port}",
            ) as server:
                load(scorer.url, server)
                yield server
        finally:
            monitor.kill()
            monitor.wait()


def load(url: str, prometheus: Prometheus) -> None:
    """Payments, a label and an error, again and again until all that is scraped has come twice."""
    watched = 'increase(sentinel_watch_runs_total{watch="label-feed"}[1h])'
    deadline = time.monotonic() + 120
    number = 0
    while time.monotonic() < deadline:
        for _ in range(20):
            number += 1
            body = {"transaction_id": f"t{number}", "amount_minor": 100, "card_id": f"K{number}"}
            httpx.post(f"{url}/predict", json=body, timeout=60).raise_for_status()
        httpx.post(f"{url}/predict", json={}, timeout=60)
        label = {"transaction_id": f"t{number}", "verdict": "fraud"}
        httpx.post(f"{url}/labels", json=label, timeout=60).raise_for_status()
        if ask(prometheus, watched) and ask(prometheus, "sentinel:slow_decisions:ratio_rate1h"):
            return
    raise AssertionError("The monitor was not scraped twice.")


def ask(prometheus: Prometheus, expression: str) -> list[Any]:
    answer = httpx.get(f"{prometheus.url}/api/v1/query", params={"query": expression}, timeout=60)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["data"]["result"]
    return found


def test_every_query_of_every_panel_has_an_answer(prometheus: Prometheus) -> None:
    silent = [
        f"{name}: {picture.title}: {query.expression}"
        for name, board in build_dashboards.BOARDS.items()
        for picture in board.pictures
        for query in picture.queries
        if query.expression not in ELSEWHERE
        and not ask(prometheus, query.expression.replace(build_dashboards.RATE, "30s"))
    ]
    assert not silent, "\n".join(silent)


def test_every_recorded_figure_has_a_value_and_every_rule_is_well(prometheus: Prometheus) -> None:
    answer = httpx.get(f"{prometheus.url}/api/v1/rules", timeout=60).json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    assert len(recorded) > 10
    assert not [name for name in recorded if not ask(prometheus, name)]
