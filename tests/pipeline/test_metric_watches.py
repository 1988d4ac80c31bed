"""Watches that measure: the feed of labels, and samples of served rows."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from sentinel.domain import Label, Outcome, SentinelError, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.columns import DecisionColumns, with_control_group
from sentinel.log.entries import (
    LABEL_FORMAT,
    OUTCOMES,
    GroupKind,
    LabelGroup,
    decisions_payload,
    encode_group,
)
from sentinel.models.label_feed import FEWEST_ARRIVALS
from sentinel.monitoring.figures import Figures
from sentinel.monitoring.table import MEASURED
from sentinel.pipeline import parity_watch
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.label_feed_watch import MINUTE_US, watch_label_feed
from sentinel.pipeline.parity_watch import FIRST_SECONDS, ParityWatch
from sentinel.pipeline.watches import STUCK_SECONDS, MonitorContext, WatchThread
from sentinel.settings import LabelSettings, Settings
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
    first = context.label_feed.seen
    assert first is not None
    assert first.newest_us is None
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
        assert figure(registry, "sentinel_label_feed_silent_seconds") < 1
        assert figure(registry, "sentinel_label_feed_accepted_silence_seconds") == 2 * 86_400
        seen = context.label_feed.seen
        assert seen is not None
        assert seen.newest_us == START_US + FEWEST_ARRIVALS * DAY_US
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


def test_a_feed_of_many_labels_is_told_by_the_minute_and_its_newest_label_by_the_microsecond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path)
    context = MonitorContext(settings, threading.Event(), CollectorRegistry())
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        for day in range(FEWEST_ARRIVALS + 1):
            label(ledger, day)
    watch_label_feed(context).run(START_US)
    exact = context.label_feed.seen
    monkeypatch.setattr("sentinel.pipeline.label_feed_watch.MOST_MOMENTS", 3)
    watch_label_feed(
        MonitorContext(settings, threading.Event(), CollectorRegistry(), context.label_feed)
    ).run(START_US)
    coarse = context.label_feed.seen
    assert exact is not None
    assert coarse is not None
    assert coarse is not exact
    assert (coarse.newest_us, coarse.silent_us) == (exact.newest_us, exact.silent_us)
    assert coarse.limit_us is not None
    assert exact.limit_us is not None
    assert abs(coarse.limit_us - exact.limit_us) <= 2 * MINUTE_US


def test_nothing_is_known_of_the_feed_while_the_log_cannot_be_read(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    context = MonitorContext(settings, threading.Event(), CollectorRegistry())
    watch = watch_label_feed(context)
    watch.run(START_US)
    before = context.label_feed.seen
    assert before is not None
    settings.ledger_path.write_bytes(b"no ledger" * 1_000)
    with pytest.raises(SentinelError):
        watch.run(START_US)
    assert context.label_feed.seen is None


def explored(n: int, at_us: int) -> bytes:
    """Payments of 1,000 with a probability of .5: two were let through, one passed anyway."""
    sent = [
        Transaction(
            transaction_id=f"t{n}-{row}", event_time_us=at_us, received_at_us=at_us,
            amount_minor=1_000,
        )
        for row in range(3)
    ]  # fmt: skip
    columns = with_control_group(
        DecisionColumns(),
        np.array([OUTCOMES.index(Outcome.DECLINE)] * 2 + [0], np.uint8),
        np.array([True, True, False]),
        np.array([0.05, 0.05, 1.0], np.float32),
    )
    nothing = np.zeros(len(sent))
    figures: Any = SimpleNamespace(
        vectors=nothing.astype(np.float32), scores=nothing, probabilities=nothing + 0.5,
        flags=nothing.astype(np.uint32), reason_features=nothing, reason_contributions=nothing,
        positions=b"",
    )  # fmt: skip
    return decisions_payload(
        sent, figures, [1] * 3, plan_hash="p", model_name="m", model_version="1", columns=columns
    )


def test_the_control_group_is_told_with_what_it_lost_beside_what_was_expected(
    tmp_path: Path,
) -> None:
    settings = Settings(workspace=tmp_path, labels=LabelSettings(maturity_days=20))
    context = MonitorContext(settings, threading.Event(), CollectorRegistry())
    watch = watch_label_feed(context)
    days = 45  # of 30 days before the last 20, those from day 0 on; of the last 30, from day 20 on
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        for n, day in enumerate((0, 10, days)):
            at_us = START_US + day * DAY_US
            ledger.append(GroupKind.DECISIONS, 3, at_us, explored(n, at_us))
        for day, name, verdict in (
            (46, "t0-0", Verdict.FRAUD), (46, "t0-1", Verdict.LEGITIMATE),
            (46, "t0-2", Verdict.FRAUD),  # it would have passed anyway
            (47, "t1-0", Verdict.FRAUD), (48, "t1-0", Verdict.LEGITIMATE),  # corrected
        ):  # fmt: skip
            at_us = START_US + day * DAY_US
            said = Label(
                label_id=f"{name}{day}", transaction_id=name, verdict=verdict, received_at_us=at_us
            )
            group = encode_group(LabelGroup(LABEL_FORMAT, [said]))
            ledger.append(GroupKind.LABELS, 1, at_us, group)
        watch.run(START_US)

    def of(name: str, **labels: str) -> float | None:
        return context.registry.get_sample_value(f"sentinel_control_group_{name}", labels)

    assert of("budget_minor") == 0
    assert of("realised_loss_minor", days="mature") == 1_000
    assert of("expected_cost_minor", days="mature") == 2_000
    truths = [of("payments", days="mature", truth=t) for t in ("fraud", "legitimate", "unknown")]
    assert truths == [1, 2, 1]
    assert of("payments", days="last", truth="unknown") == 2
    assert of("realised_loss_minor", days="last") == 0
