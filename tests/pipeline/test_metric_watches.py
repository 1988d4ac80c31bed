"""Watches that measure: the feed of labels, and samples of served rows."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from sentinel.domain import Label, Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import LABEL_FORMAT, GroupKind, LabelGroup, encode_group
from sentinel.models.label_feed import FEWEST_ARRIVALS
from sentinel.monitoring.figures import Figures
from sentinel.monitoring.table import MEASURED
from sentinel.pipeline import parity_watch
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.label_feed_watch import watch_label_feed
from sentinel.pipeline.parity_watch import FIRST_SECONDS, ParityWatch
from sentinel.pipeline.watches import STUCK_SECONDS, MonitorContext, WatchThread
from sentinel.settings import Settings
from testkit.scratch import make_workspace, serving

START_US = 1_700_000_000_000_000


def figure(registry: CollectorRegistry, name: str) -> float:
    value = registry.get_sample_value(name)
    assert value is not None, name
    return value


def label(ledger: SqliteLedger, day: int) -> None:
    at_us = START_US + day * DAY_US
    said = Label(
        label_id=f"l{day}",
        transaction_id=f"t{day}",
        verdict=Verdict.FRAUD,
        received_at_us=at_us,
    )
    ledger.append(GroupKind.LABELS, 1, at_us, encode_group(LabelGroup(LABEL_FORMAT, [said])))


def test_the_feed_of_labels_is_read_once_and_its_silence_measured(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    context = MonitorContext(settings, threading.Event(), CollectorRegistry())
    watch = watch_label_feed(context)
    watch.run(START_US)  # there is no log yet
    assert figure(context.registry, "sentinel_label_feed_newest_time_seconds") == 0
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        for day in range(FEWEST_ARRIVALS + 1):
            label(ledger, day)
        watch.run(START_US)
        watch.run(START_US)
        registry = context.registry
        assert figure(registry, "sentinel_label_feed_labels_total") == FEWEST_ARRIVALS + 1
        newest = START_US / 1e6 + FEWEST_ARRIVALS * 86_400
        assert figure(registry, "sentinel_label_feed_newest_time_seconds") == newest
        assert figure(registry, "sentinel_label_feed_stopped") == 0
        assert figure(registry, "sentinel_label_feed_sequence") == ledger.last_sequence()


def test_a_sample_of_served_rows_agrees_with_the_log(tmp_path: Path) -> None:
    settings = make_workspace(tmp_path / "w")
    apply_definitions(settings)
    with serving(settings) as server:
        for number in range(20):
            body = {"transaction_id": f"t{number}", "amount_minor": 100, "card_id": "K1"}
            httpx.post(f"{server.url}/predict", json=body, timeout=60).raise_for_status()
        registry = CollectorRegistry()
        rows = [row for row in MEASURED if row.name.startswith("sentinel_parity")]
        watch = ParityWatch(settings, Figures(rows, registry), threading.Event(), 0.0)
        watch.run(time.time_ns() // 1000)
    assert figure(registry, "sentinel_parity_samples_total") >= 20
    assert figure(registry, "sentinel_parity_mismatches_total") == 0
    assert figure(registry, "sentinel_parity_time_seconds") == pytest.approx(time.time(), abs=120)
    assert watch.every_seconds >= settings.monitor.parity_hours * 3600


def test_a_sample_that_takes_too_long_is_ended_and_the_watch_has_failed_until_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parity_watch.SAMPLE_SECONDS < STUCK_SECONDS  # no sample makes the monitor unwell
    monkeypatch.setattr(parity_watch, "SAMPLE_SECONDS", 0.0)
    settings = make_workspace(tmp_path / "w")
    rows = [row for row in MEASURED if row.name.startswith("sentinel_parity")]
    registry = CollectorRegistry()
    watch = ParityWatch(settings, Figures(rows, registry), threading.Event(), 0.0)
    thread = WatchThread(watch, threading.Event())
    for _ in range(2):
        thread.run_once()
    state = thread.state()
    assert (state.runs, state.failures) == (0, 2)
    assert "took longer" in state.problem
    assert FIRST_SECONDS <= watch.every_seconds < settings.monitor.parity_hours * 3600
    assert figure(registry, "sentinel_parity_time_seconds") == 0
