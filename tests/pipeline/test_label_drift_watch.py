"""Drift of labels is watched by the rules of learning, and everybody who reads drift sees it."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from sentinel.alerts.conditions import CONDITIONS
from sentinel.cli.main import app
from sentinel.domain import Label, Verdict, Void, WorkspaceError
from sentinel.drift.overview import DriftView
from sentinel.drift.report_page import drift_page
from sentinel.drift.store import open_drift
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.open import open_reader, open_writer
from sentinel.log.columns import DecisionColumns
from sentinel.log.entries import (
    LABEL_FORMAT,
    VOID_FORMAT,
    GroupKind,
    LabelGroup,
    VoidGroup,
    encode_group,
)
from sentinel.pipeline.alert_sight import Sight
from sentinel.pipeline.digest import digest
from sentinel.pipeline.label_days import decided_labels
from sentinel.pipeline.label_drift_watch import LabelDriftWatch, label_figures
from sentinel.pipeline.watches import MonitorContext
from sentinel.settings import LabelSettings, LedgerSettings, Settings
from testkit.drifting_log import group_of

START_US = 20_400 * DAY_US
DAYS = 120
PER_DAY = 250
CHANGED = 70
NOW_US = START_US + DAYS * DAY_US
run = CliRunner().invoke


def fill(settings: Settings, *, times: float) -> None:
    """Days of approved payments, 3 % of them fraud and from a day on so many times more."""
    random = np.random.default_rng(11)
    entries: list[tuple[int, int, GroupKind, bytes]] = []
    for day in range(DAYS):
        p = random.beta(0.3, 9.7, PER_DAY)
        fraud = random.random(PER_DAY) < np.minimum(p * (times if day >= CHANGED else 1.0), 0.99)
        at = START_US + day * DAY_US + np.sort(random.integers(0, DAY_US, PER_DAY))
        X = np.column_stack((np.zeros((PER_DAY, 2)), p)).astype(np.float32)
        group = msgspec.structs.replace(
            group_of(X, at, f"d{day}", "1", False, 0), flags=bytes(4 * PER_DAY)
        )
        entries.append((int(at[-1]), PER_DAY, GroupKind.DECISIONS, encode_group(group)))
        for row in np.flatnonzero(fraud).tolist():
            reported = int(at[row]) + int(random.exponential(4) * DAY_US)
            label = Label(
                label_id=f"l{day}-{row}",
                transaction_id=f"d{day}-{row}",
                verdict=Verdict.FRAUD,
                received_at_us=reported,
            )
            if reported < NOW_US:
                body = encode_group(LabelGroup(LABEL_FORMAT, [label]))
                entries.append((reported, 1, GroupKind.LABELS, body))
    with open_writer(settings) as ledger:
        for at_us, n, kind, body in sorted(entries, key=lambda one: one[0]):
            ledger.append(kind, n, at_us, body)


def watch_of(settings: Settings) -> tuple[LabelDriftWatch, CollectorRegistry]:
    registry = CollectorRegistry()
    return LabelDriftWatch(MonitorContext(settings, threading.Event(), registry)), registry


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace in which fraud became three times as frequent, as its monitor left it."""
    settings = Settings(
        workspace=tmp_path_factory.mktemp("labels"), labels=LabelSettings(maturity_days=20)
    )
    fill(settings, times=3.0)
    watch_of(settings)[0].run(NOW_US)
    return settings


def test_more_fraud_is_found_and_shown_by_the_status_the_report_and_metrics(
    changed: Settings,
) -> None:
    watch, registry = watch_of(changed)
    assert registry.get_sample_value("sentinel_label_drift_tested_days") is None
    watch.run(NOW_US)  # what is kept holds for this day of the log
    store = open_drift(changed)
    found = store.labels(NOW_US)
    assert found is not None
    (change,) = found.alarms
    assert abs(change.since_day - 20_400 - CHANGED) <= 4
    assert change.now > 2 * change.before
    labels = {"stream": change.stream}
    assert registry.get_sample_value("sentinel_label_drift_alarms", labels) == 1
    assert registry.get_sample_value("sentinel_label_drift_tested_days") == found.tested_days > 60
    said = run(app, ["drift", "status", "--workspace", str(changed.workspace)]).stdout
    assert change.words in " ".join(said.split())
    assert "Alarms that are on: 1." in said
    overview = DriftView(store, lambda _: None).overview(NOW_US)
    store.close()
    assert overview.labels == found
    page = drift_page(overview, shares={}, moved=0.0, estimate=None, made_us=NOW_US)
    assert "What labels say" in page
    assert change.words in page


def test_it_is_an_alert_and_a_line_of_the_digest_until_it_is_silenced(changed: Settings) -> None:
    judge = CONDITIONS["LabelDriftFound"]
    (found,) = judge(Sight(changed).around(NOW_US)) or ()
    assert found.summary.startswith("Labels have changed: ")
    text = digest(changed, "day", NOW_US).text
    assert "Labels have changed, and nobody silenced it: " in text
    options = ["--why", "a campaign", "--feature", "labels: *", "--from", "2025-11-01T00:00"]
    where = ["--hours", "4000", "--workspace", str(changed.workspace)]
    assert run(app, ["drift", "silence", *options, *where]).exit_code == 0
    watch, registry = watch_of(changed)
    watch.run(NOW_US)
    labels = {"stream": found.subject}
    assert registry.get_sample_value("sentinel_label_drift_alarms", labels) == 0
    assert judge(Sight(changed).around(NOW_US)) == []
    said = run(app, ["drift", "status", "--workspace", str(changed.workspace)]).stdout
    assert "silenced: a campaign" in " ".join(said.split())
    assert "nobody silenced it" not in digest(changed, "day", NOW_US).text


@pytest.mark.parametrize("where", ["sqlite", "postgres"])
def test_payments_weigh_what_training_lets_them_weigh(
    tmp_path: Path, where: str, request: pytest.FixtureRequest
) -> None:
    """By row: approved, declined, let through, reviewed and answered, void, approved fraud."""
    url = request.getfixturevalue("postgres_url") if where == "postgres" else ""
    settings = Settings(
        workspace=tmp_path, ledger=LedgerSettings(url=url, namespace="label_weights")
    )
    at = START_US + np.arange(6) * 1_000_000
    X = np.column_stack((np.zeros((6, 2)), np.arange(6) / 10)).astype(np.float32)
    group = msgspec.structs.replace(
        group_of(X, at, "t", "1", False, 0),
        flags=np.array([0, 2, 0, 1, 0, 0], "<u4").tobytes(),
        columns=DecisionColumns(
            base_outcomes=np.array([0, 2, 2, 1, 0, 0], np.uint8).tobytes(),
            eligible=np.array([0, 1, 1, 0, 0, 0], np.uint8).tobytes(),
            propensities=np.array([1, 0.9, 0.1, 1, 1, 1], "<f4").tobytes(),
        ),
    )
    said = [("t-3", Verdict.LEGITIMATE), ("t-5", Verdict.FRAUD), ("t-1", Verdict.FRAUD)]
    labels = [
        Label(
            label_id=str(n), transaction_id=one, verdict=verdict, received_at_us=START_US + DAY_US
        )
        for n, (one, verdict) in enumerate(said)
    ]
    void = Void(transaction_id="t-4", received_at_us=START_US + DAY_US, reason="sent twice")
    with open_writer(settings) as ledger:
        ids = [one.transaction_id for one in group.transactions]
        ledger.append(GroupKind.DECISIONS, 6, int(at[-1]), encode_group(group), transaction_ids=ids)
        body = encode_group(LabelGroup(LABEL_FORMAT, labels))
        ledger.append(GroupKind.LABELS, 3, START_US + DAY_US, body)
        body = encode_group(VoidGroup(VOID_FORMAT, [void], called_by=""))
        ledger.append(GroupKind.VOIDS, 1, START_US + DAY_US, body)
    with open_reader(settings) as ledger:
        rows = decided_labels(ledger, START_US)
        later = decided_labels(ledger, START_US + 2_000_000)
    assert rows.weight.tolist() == pytest.approx([1, 0, 10, 1, 0, 1])
    assert rows.label_us.tolist()[5] >= START_US + DAY_US
    assert rows.label_us.tolist()[3] == -1
    assert rows.probability.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert len(later.time_us) == 4
    store = open_drift(settings)
    assert store.labels(NOW_US) is None
    store.keep_labels(label_figures(settings, "1", 0))  # in PostgreSQL a migration made the table
    found = store.labels(NOW_US)
    store.close()
    assert found is not None
    assert "Labels that mature bring them" in found.missing


def test_the_log_is_not_read_for_what_cannot_be_kept(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        workspace=tmp_path, ledger=LedgerSettings(url=postgres_url, namespace="no_labels")
    )
    at = START_US + np.arange(6) * 1_000_000
    group = group_of(np.zeros((6, 3), np.float32), at, "t", "1", False, 0)
    ids = [one.transaction_id for one in group.transactions]
    with open_writer(settings) as ledger:
        ledger.append(GroupKind.DECISIONS, 6, int(at[-1]), encode_group(group), transaction_ids=ids)
    store = open_drift(settings)
    store.forget_counts()  # makes the tables
    store.close()
    with psycopg.connect(postgres_url, autocommit=True) as older:
        older.execute("DROP TABLE no_labels.drift_labels")
    monkeypatch.setattr(
        "sentinel.pipeline.label_drift_watch.label_figures", lambda *_: pytest.fail("it was read")
    )
    with pytest.raises(WorkspaceError, match="sentinel ledger migrate"):
        watch_of(settings)[0].run(NOW_US)


def test_a_record_of_before_there_were_labels_gets_the_table(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path, labels=LabelSettings(maturity_days=20))
    store = open_drift(settings)
    store.forget_counts()  # makes the file
    with closing(sqlite3.connect(tmp_path / "drift.db")) as older:
        older.execute("DROP TABLE labels")
        older.commit()
    assert store.labels(NOW_US) is None
    fill(settings, times=1.0)
    watch_of(settings)[0].run(NOW_US)
    found = store.labels(NOW_US)
    store.close()
    assert found is not None
    assert (found.missing, found.alarms) == ("", ())


def test_a_record_that_cannot_be_read_silences_no_other_alert_and_is_made_anew(
    tmp_path: Path, changed: Settings
) -> None:
    settings = changed.model_copy(update={"workspace": tmp_path})
    shutil.copytree(changed.workspace, tmp_path, dirs_exist_ok=True)
    record = tmp_path / "drift.db"
    with closing(sqlite3.connect(record)) as file, file:
        file.execute("INSERT INTO notices VALUES (99, x'00')")
    seen = Sight(settings).around(NOW_US)
    assert seen.label_drift is None
    assert seen.disk is not None
    with closing(sqlite3.connect(record)) as file, file:
        file.execute("DELETE FROM notices WHERE id = 99")
        file.execute(
            "UPDATE labels SET document = CAST(replace(document, 'before', 'was') AS BLOB)"
        )
    assert open_drift(settings).labels(NOW_US) is None
    watch_of(settings)[0].run(NOW_US)
    assert open_drift(settings).labels(NOW_US) == open_drift(changed).labels(NOW_US)
