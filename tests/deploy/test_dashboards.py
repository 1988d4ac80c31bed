"""Every query of every panel has an answer: a real Prometheus scrapes a real scorer and monitor."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import build_dashboards
import httpx
import msgspec
import numpy as np
import pytest

from sentinel.drift.bins import SCORE, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.reference import DriftReference, freeze_reference
from sentinel.drift.segments import ALL, Segment, members
from sentinel.experiments.lineup import Experiment
from sentinel.features.plan.plan import Plan
from sentinel.models.champion import Champion
from sentinel.models.serving import model_folder
from testkit.experiments import install_version, run_experiments
from testkit.ports import free_port
from testkit.scratch import default_plan, make_workspace, serving
from testkit.signed_models import sign_folder
from testkit.watching import Prometheus

ELSEWHERE: dict[str, str] = {
    "time() - max(sentinel_follower_last_success_timestamp_seconds > 0)": "no registry answers here"
}
"""Queries without an answer here, and the reason."""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus before a scorer with a shadow, a monitor, a dashboard, and a follower whose
    registry is away, while payments and labels come.
    """
    settings = make_workspace(tmp_path_factory.mktemp("dashboards") / "w")
    install_version(settings, default_plan(), "12", verdict="candidate")
    install_version(settings, default_plan(), "7", verdict=None)
    folder = model_folder(settings, "7")
    reference_of(default_plan()).save(folder)
    sign_folder(settings, folder)
    champion = msgspec.json.encode(Champion(version="7", folder=folder.name))
    (settings.models_dir / "champion.json").write_bytes(champion)
    run_experiments(settings, Experiment(name="night", kind="shadow", version="12"))
    ports = {name: free_port() for name in ("monitor", "dashboard", "metrics", "follower")}
    given = {
        "SENTINEL_WORKSPACE": str(settings.workspace),
        "SENTINEL_FEATURE_STORE": str(settings.feature_store),
        "SENTINEL_MONITOR__PORT": str(ports["monitor"]),
        "SENTINEL_DASHBOARD__PORT": str(ports["dashboard"]),
        "SENTINEL_DASHBOARD__METRICS_PORT": str(ports["metrics"]),
        "SENTINEL_FOLLOWER__PORT": str(ports["follower"]),
        "SENTINEL_MLFLOW__TRACKING_URI": f"http://127.0.0.1:{free_port()}",
    }
    with serving(settings) as scorer:
        beside = [
            subprocess.Popen([sys.executable, "-m", module], env={**os.environ, **given})
            for module in (
                "sentinel.pipeline.monitor",
                "sentinel.pipeline.follow",
                "sentinel.dashboard.serve",
            )
        ]
        address = scorer.url.removeprefix("http://")
        folder = tmp_path_factory.mktemp("prometheus")
        try:
            with Prometheus(
                folder,
                scorers=[address],
                alertmanager="127.0.0.1:9",
                monitor=f"127.0.0.1:{ports['monitor']}",
                dashboard=f"127.0.0.1:{ports['metrics']}",
                follower=f"127.0.0.1:{ports['follower']}",
            ) as server:
                load(scorer.url, f"http://127.0.0.1:{ports['dashboard']}", server)
                yield server
        finally:
            for process in beside:
                process.kill()
                process.wait()


def reference_of(plan: Plan) -> DriftReference:
    """A reference of an hour: too short for a test, and long enough for counts."""
    names = (*plan.feature_names, SCORE)
    X = np.random.default_rng(1).normal(size=(200, len(names))).astype(np.float32)
    segments = (Segment(ALL),)
    bins = freeze_bins(X, names)
    counts = np.zeros((1, 1, bins.cells), np.uint32)
    count_cells(bins, X, members(segments, X, names), counts[0])
    return freeze_reference(bins, segments, np.array([490_000]), counts)


def load(url: str, dashboard: str, prometheus: Prometheus) -> None:
    """Payments, a label, an error and a page, again and again until all has been scraped twice."""
    waited_for = [
        'increase(sentinel_watch_runs_total{watch="label-feed"}[1h])',
        'increase(sentinel_drift_entries_total{kind="labels"}[1h])',
        "sentinel_drift_missing_share",
        "sentinel_label_feed_accepted_silence_seconds > 0",
        'rate(sentinel_dashboard_requests_total{page="live",status="200"}[30s])',
        'rate(sentinel_follower_looks_total{result="failure"}[30s])',
        "sentinel:slow_decisions:ratio_rate1h",
    ]
    deadline = time.monotonic() + 60
    number = 0
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < deadline:
            for _ in range(3):
                number += 1
                name = {"transaction_id": f"t{number}", "card_id": f"K{number}"}
                client.post("/predict", json={**name, "amount_minor": 100}).raise_for_status()
            client.post("/predict", json={})
            label = {"transaction_id": f"t{number}", "verdict": "fraud"}
            client.post("/labels", json=label).raise_for_status()
            with contextlib.suppress(httpx.TransportError):  # it takes seconds to start
                httpx.get(f"{dashboard}/", timeout=10)
            waited_for = [one for one in waited_for if not ask(prometheus, one)]
            if not waited_for:
                return
            time.sleep(0.5)
    raise AssertionError(f"There is no answer yet to {', '.join(waited_for)}.")


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
