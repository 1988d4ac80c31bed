from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest

from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.ledger.log import read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.pipeline.importing import (
    check_room,
    import_history,
    import_labels,
    import_records,
)
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings
from sentinel.sources import SimulatorConfig, SimulatorSource

WORLD = SimulatorConfig(customers=60, merchants=60, days=40, start="2026-01-01", fraud_rate=0.05)


def entries(settings: Settings) -> int:
    with ledger_reader(settings) as ledger:
        return sum(batch.num_rows for _, batch in read_log(ledger))


def test_what_is_accepted_is_in_the_log(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    result = import_history(settings, SimulatorSource(WORLD), now_us=WORLD.end_us)
    report = result.report
    assert report.accepted + sum(report.rejected.values()) == report.read > 1_000
    assert entries(settings) == report.logged == result.last_sequence
    assert [(r.source, r.finished, r.entries) for r in import_records(settings)] == [
        ("simulator", True, report.logged)
    ]


def test_a_disk_without_room_is_said_before_a_row_is_read(tmp_path: Path) -> None:
    source = SimulatorSource(WORLD)
    rows = source.row_count()
    assert rows is not None
    with pytest.raises(ConfigurationError, match=r"may need .* Nothing was read yet"):
        check_room(source, tmp_path, rows * 100)
    check_room(source, tmp_path, rows * 1_000)


def test_an_import_needs_no_more_room_than_it_says(tmp_path: Path) -> None:
    settings, source = Settings(workspace=tmp_path), SimulatorSource(WORLD)
    rows, most = source.row_count(), 0

    def measure(stage: str, done: int, total: int | None) -> None:
        nonlocal most
        files = (file for file in tmp_path.rglob("*") if file.is_file())
        most = max(most, sum(file.stat().st_blocks * 512 for file in files))

    import_history(settings, source, now_us=WORLD.end_us, progress=measure)
    assert rows is not None
    with pytest.raises(ConfigurationError):
        check_room(source, tmp_path, most - (1 << 21))  # a small file's pages are not its rows'


def test_an_import_that_was_interrupted_is_started_again(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if stage == "log" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_history(settings, SimulatorSource(WORLD), now_us=WORLD.end_us, progress=interrupt)
    half = entries(settings)
    assert [r.finished for r in import_records(settings)] == [False]
    second = import_history(settings, SimulatorSource(WORLD), now_us=WORLD.end_us)
    whole = Settings(workspace=tmp_path / "whole")
    first = import_history(whole, SimulatorSource(WORLD), now_us=WORLD.end_us)
    assert half + second.report.logged == first.report.logged
    assert second.report.accepted + second.report.known == second.report.read
    assert not second.report.rejected


def test_the_same_file_twice_adds_nothing(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    import_history(settings, SimulatorSource(WORLD), now_us=WORLD.end_us)
    before = entries(settings)
    again = import_history(settings, SimulatorSource(WORLD), now_us=WORLD.end_us)
    assert again.report.accepted == 0
    assert again.first_sequence > again.last_sequence
    assert entries(settings) == before


def test_a_scorer_that_holds_the_ledger_is_named(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    with (
        SqliteLedger.open_writer(settings.ledger_path),
        pytest.raises(WorkspaceError, match="Another process is writing the ledger"),
    ):
        import_history(settings, SimulatorSource(WORLD), now_us=WORLD.end_us)


def test_labels_beside_a_scorer_are_sent_to_it(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "workspace")
    table = pa.table(
        {"transaction_id": ["a"], "verdict": ["fraud"], "received_at": ["2026-02-09T10:00:00Z"]}
    )
    pyarrow.csv.write_csv(table, tmp_path / "labels.csv")
    with (
        SqliteLedger.open_writer(settings.ledger_path),
        pytest.raises(WorkspaceError, match=r"Another process is writing .* POST /labels"),
    ):
        import_labels(settings, tmp_path / "labels.csv", now_us=WORLD.end_us)


def test_labels_come_in_a_file_of_their_own(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "workspace")
    import_history(settings, SimulatorSource(WORLD), now_us=WORLD.end_us)
    with ledger_reader(settings) as ledger:
        _, batch = next(read_log(ledger))
    known = batch.column("transaction_id")[0].as_py()
    table = pa.table(
        {
            "transaction_id": [known, "not-seen-yet", known],
            "verdict": ["fraud", "legitimate", "perhaps"],
            "received_at": ["2026-02-09T10:00:00Z"] * 3,
        }
    )
    pyarrow.csv.write_csv(table, tmp_path / "labels.csv")
    result = import_labels(settings, tmp_path / "labels.csv", now_us=WORLD.end_us)
    assert (result.report.labels_read, result.report.labels_accepted) == (3, 2)
    assert sum(result.report.labels_rejected.values()) == 1
    assert result.report.rejects_path is not None
    assert result.report.rejects_path.is_file()
