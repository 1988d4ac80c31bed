"""What the monitor does about drift: follows, tells, asks for a new model once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.drift import following
from sentinel.drift.missing import missing_shares
from sentinel.drift.notices import HOUR_US
from sentinel.drift.rows import HourRow
from sentinel.drift.store import DriftStore, open_drift
from sentinel.ledger.open import open_writer
from sentinel.models.serving import model_folder
from sentinel.pipeline.alert_sight import Sight
from sentinel.pipeline.drift_status import status_of
from sentinel.pipeline.drift_watch import DriftWatch
from sentinel.pipeline.last_training import LastTraining, keep_training, requests_of
from sentinel.pipeline.retired import drop_retired
from sentinel.pipeline.watches import MonitorContext
from sentinel.settings import RetrainingSettings, Settings
from testkit.drifting_log import MODEL, PLAN, fill_hours, install_followed, reference_of
from testkit.experiments import install_version

NOW_US = time.time_ns() // 1000
CHANGED = NOW_US // HOUR_US - 30
"""When the payments of `drifted` change, hours since 1970."""
REFERENCE = reference_of(until_hour=CHANGED - 48)
run = CliRunner().invoke


@pytest.fixture
def drifted(tmp_path: Path) -> Settings:
    """A workspace whose payments changed a day ago; nobody has followed its log."""
    settings = Settings(workspace=tmp_path)
    install_followed(settings, "1", REFERENCE)
    with open_writer(settings) as ledger:
        fill_hours(ledger, range(CHANGED - 48, CHANGED), per_hour=120)
        fill_hours(ledger, range(CHANGED, CHANGED + 25), per_hour=120, shift=1.0)
    return settings


@pytest.fixture
def store(drifted: Settings) -> Iterator[DriftStore]:
    opened = open_drift(drifted)
    yield opened
    opened.close()


def watch_of(settings: Settings) -> tuple[DriftWatch, CollectorRegistry]:
    registry = CollectorRegistry()
    return DriftWatch(MonitorContext(settings, threading.Event(), registry)), registry


def test_drift_asks_for_a_retraining_once_and_says_which(
    drifted: Settings, store: DriftStore
) -> None:
    watch, _ = watch_of(drifted)
    watch.run(NOW_US)
    (request,) = requests_of(drifted)
    assert request.kind == "drift"
    assert "risk in all payments" in request.why
    assert "for version 1" in request.why
    keep_training(
        drifted, LastTraining(version="2", known_until_us=0, at_us=NOW_US + 1, why=request.why)
    )
    assert requests_of(drifted) == []
    watch.run(NOW_US + 2)
    store.forget_counts()
    again, _ = watch_of(drifted)
    again.run(NOW_US + 3)
    assert [one.change.feature for one in store.open_alarms(NOW_US)].count("risk") == 3
    assert requests_of(drifted) == []
    told = Sight(drifted).around(NOW_US).drift  # what alerts are made of
    assert told is not None
    assert list(told) == ["risk"]
    assert "risk of all payments by 0." in told["risk"]


def test_the_monitors_metrics_say_what_changed_and_what_became_of_each_decision(
    drifted: Settings, store: DriftStore
) -> None:
    watch, registry = watch_of(drifted)

    def seen(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"sentinel_drift_{name}", labels)

    assert seen("alarms") is None  # no look yet: nothing says that all is well
    watch.run(NOW_US)
    decisions = (48 + 25) * 120
    assert (seen("alarms"), seen("changes"), seen("untested"), seen("lag_entries")) == (3, 3, 0, 0)
    assert seen("feature_alarms", feature="risk") == 3
    assert seen("largest_distance") == max(
        one.change.total_variation for one in store.open_alarms(NOW_US)
    )
    assert seen("followed_sequence") == seen("entries_total", kind="decisions") == decisions
    assert seen("entries_total", kind="labels") == 0
    assert seen("decisions_total", result="degraded") == decisions / 10
    assert seen("decisions_total", result="counted") == decisions * 9 / 10
    assert seen("decisions_total", result="late") == 0
    assert seen("tested_timestamp_seconds") == (CHANGED + 24) * 3600
    assert seen("missing_share", feature="amount") == 0
    assert 0 < (seen("missing_share", feature="risk") or 0) < 0.15
    options = ["--why", "known", "--hours", "96", "--workspace", str(drifted.workspace)]
    assert run(app, ["drift", "silence", *options]).exit_code == 0
    watch.run(time.time_ns() // 1000)
    assert (seen("alarms"), seen("changes"), seen("largest_distance")) == (0, 3, 0)
    assert seen("feature_alarms", feature="risk") == 0  # so that an alert sees the end


def test_features_whose_unknown_values_are_farthest_from_the_reference_come_first() -> None:
    cells = REFERENCE.bins.cells
    counts = np.zeros((3, cells), np.uint32)
    amount, risk, _ = REFERENCE.bins.starts[:3]
    counts[0, amount], counts[0, risk] = 40, 10  # of 100; one in 20 risks was unknown before
    rows = [HourRow(CHANGED, 1, np.array([50, 0, 0]), counts // 2) for _ in range(2)]
    assert missing_shares(REFERENCE, rows) == {"amount": 0.4, "risk": 0.1}
    assert list(missing_shares(REFERENCE, rows, most=1)) == ["amount"]
    assert missing_shares(REFERENCE, []) == {}


@pytest.mark.parametrize("mature", [False, True])
def test_a_change_that_a_new_champion_does_not_end_asks_again_once_its_payments_are_mature(
    drifted: Settings, store: DriftStore, mature: bool
) -> None:
    days = 0.5 if mature else 45.0  # the change was found a day ago
    labels = drifted.labels.model_copy(update={"maturity_days": days})
    settings = drifted.model_copy(update={"labels": labels})
    watch_of(settings)[0].run(NOW_US)
    (request,) = requests_of(settings)
    trained = LastTraining(version="2", known_until_us=0, at_us=NOW_US + 1, why=request.why)
    keep_training(settings, trained)
    install_followed(settings, "2", REFERENCE)
    with open_writer(settings) as ledger:
        hours = range(CHANGED + 25, CHANGED + 37)
        fill_hours(ledger, hours, per_hour=120, shift=1.0, version="2")
    watch_of(settings)[0].run(NOW_US + 2)
    found = store.open_alarms(NOW_US)
    assert {(one.model_version, one.change.feature) for one in found} == {("1", "risk")}
    assert len(requests_of(settings)) == mature
    keep_training(
        settings, LastTraining(version="3", known_until_us=0, at_us=NOW_US + 3, why="drift")
    )
    watch_of(settings)[0].run(NOW_US + 4)
    assert requests_of(settings) == []


def test_a_change_is_recent_however_long_late_payments_are_waited_for(
    drifted: Settings, store: DriftStore
) -> None:
    waiting = drifted.drift.model_copy(update={"late_minutes": 2880.0})
    settings = drifted.model_copy(update={"drift": waiting})
    with open_writer(settings) as ledger:
        fill_hours(ledger, [CHANGED + 75])
    watch_of(settings)[0].run((CHANGED + 76) * HOUR_US)
    assert store.open_alarms(NOW_US) != []
    assert len(requests_of(settings)) == 1


@pytest.mark.parametrize("why_not", ["setting", "silence", "old"])
def test_drift_asks_for_none_where_that_is_not_wanted(
    drifted: Settings, store: DriftStore, why_not: str
) -> None:
    now_us, settings = NOW_US, drifted
    if why_not == "setting":
        settings = drifted.model_copy(update={"retraining": RetrainingSettings(on_drift=False)})
    elif why_not == "silence":
        options = ["--why", "a test", "--hours", "96", "--from", "2020-01-01", "--by", "ann"]
        at = time.strftime("%Y-%m-%dT%H:%M", time.gmtime((CHANGED - 1) * 3600))
        options[5] = at
        done = run(app, ["drift", "silence", *options, "--workspace", str(drifted.workspace)])
        assert done.exit_code == 0, done.output
    else:
        now_us += 72 * HOUR_US
    watch_of(settings)[0].run(now_us)
    assert len(store.changes(now_us)) == 3
    assert requests_of(settings) == []


def test_the_status_says_what_changed_what_is_silenced_and_what_is_not_counted(
    drifted: Settings, store: DriftStore
) -> None:
    where = ["--workspace", str(drifted.workspace)]
    untested = run(app, ["drift", "status", *where]).stdout
    assert "sentinel monitor" in untested
    assert "Nothing was tested yet." in untested
    with open_writer(drifted) as ledger:
        fill_hours(ledger, [CHANGED + 26], version="0")
    planned = ["drift", "plan", "--why", "a new merchant", "--feature", "risk", "--hours", "1"]
    at = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(CHANGED * 3600))
    assert run(app, [*planned, "--from", at, *where]).exit_code == 0
    watch_of(drifted)[0].run(NOW_US)
    said = run(app, ["drift", "status", *where]).stdout
    assert "version 0: nothing is tested, since its folder is not here" in said
    assert "54 without a reference" in said
    assert "version 1: tested up to" in said
    assert max(map(len, said.splitlines()[3:-1])) <= 120
    found = status_of(drifted, store, NOW_US)
    assert found.followed == found.entries
    assert {one.plan.why for one in found.changes if one.plan} == {"a new merchant"}
    assert found.alarms == 3  # version 0 decides now; payments are as they were
    done = run(app, ["drift", "end", "9", *where])
    assert (done.exit_code, "no silence or planned change 9" in done.output) == (1, True)
    assert run(app, ["drift", "silence", "--why", "x", "--from", "noon", *where]).exit_code == 2
    assert run(app, ["drift", "rebuild", *where]).exit_code == 0
    assert (store.progress().through, store.changes(NOW_US)) == (0, [])
    assert len(store.notices()) == 1


def test_the_model_that_drift_is_measured_from_stays_on_disk(
    drifted: Settings, store: DriftStore
) -> None:
    for version in ("2", "3", "4", "5"):
        install_followed(drifted, version, REFERENCE)
    with open_writer(drifted) as ledger:
        fill_hours(ledger, [CHANGED + 26], version="5")
    long_ago = time.time() - 400 * 86_400
    for version, age in (("1", 2), ("2", 1)):
        os.utime(model_folder(drifted, version), (long_ago - age, long_ago - age))
    watch_of(drifted)[0].run(NOW_US)
    assert drop_retired(drifted) == [model_folder(drifted, "2")]
    assert model_folder(drifted, "1").is_dir()
    assert {one.model_version for one in store.open_alarms(NOW_US)} == {"1"}


def test_a_watch_that_is_told_to_stop_ends_within_a_batch(
    drifted: Settings, monkeypatch: pytest.MonkeyPatch, store: DriftStore
) -> None:
    monkeypatch.setattr(following, "BATCH_ROWS", 500)
    stop = threading.Event()
    watch = DriftWatch(MonitorContext(drifted, stop, CollectorRegistry()))
    thread = threading.Thread(target=watch.run, args=(NOW_US,))
    thread.start()
    while not store.progress().through:
        time.sleep(0.001)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert 0 < store.progress().through < 73 * 120


def test_a_workspace_without_a_log_is_waited_for(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    watch, _ = watch_of(settings)
    watch.run(NOW_US)
    assert not (tmp_path / "drift.db").exists()
    install_followed(settings, "1", REFERENCE)
    with open_writer(settings) as ledger:
        fill_hours(ledger, [CHANGED, CHANGED + 2])
    watch.run(NOW_US)
    store = open_drift(settings)
    (stream,) = store.streams()
    store.close()
    assert (stream.model_name, stream.tested_hour) == (MODEL, CHANGED)


def test_a_run_ends_where_the_log_ended_though_payments_never_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path)
    install_followed(settings, "1", REFERENCE)
    real = following.DriftFollower.step
    with open_writer(settings) as ledger:
        fill_hours(ledger, [CHANGED])
        hours = iter(range(CHANGED + 1, CHANGED + 9))

        def step_while_payments_come(follower: following.DriftFollower) -> int:
            taken = real(follower)
            fill_hours(ledger, [next(hours)], per_hour=20)
            return taken

        monkeypatch.setattr(following.DriftFollower, "step", step_while_payments_come)
        watch, _ = watch_of(settings)
        for run_number in (1, 2):
            watch.run(NOW_US)
            store = open_drift(settings)
            assert store.progress().through == ledger.last_sequence() - 20
            store.close()
            assert next(hours) == CHANGED + 2 * run_number


@pytest.mark.parametrize("hours", ["nan", "inf", "1e30", "0"])
def test_a_silence_lasts_a_year_at_most(tmp_path: Path, hours: str) -> None:
    asked = ["drift", "silence", "--why", "x", "--hours", hours, "--workspace", str(tmp_path)]
    done = run(app, asked)
    assert (done.exit_code, type(done.exception)) == (2, SystemExit)
    assert not (tmp_path / "drift.db").exists()


def test_alarms_do_not_come_and_go_while_scorers_have_different_versions(
    drifted: Settings, store: DriftStore
) -> None:
    install_version(drifted, PLAN, "2", verdict=None)  # without a reference: nothing is tested
    watch, registry = watch_of(drifted)
    watch.run(NOW_US)
    found, hour = [], CHANGED + 25
    for turn, order in enumerate(("21", "12", "21", "12")):
        with open_writer(drifted) as ledger:
            for version in order:
                many = 40 if version == "1" else 20
                fill_hours(ledger, [hour], per_hour=many, shift=1.0, version=version, seed=turn)
        watch.run(NOW_US)
        shown = (registry.get_sample_value(f"sentinel_drift_{n}") for n in ("alarms", "untested"))
        found.append((*shown, len(store.open_alarms(NOW_US))))
    assert found == [(3, 0, 3)] * 4
