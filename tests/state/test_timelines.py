"""What was made of one log is not used with another that has taken its place."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import Transaction, WorkspaceError
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import Program, compile_program
from sentinel.ledger.base import Appended, Ledger
from sentinel.ledger.export import export_parquet
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.ledger.timeline import LogOf, timeline_at
from sentinel.scoring.recovery import recover
from sentinel.state.embedded import EmbeddedState, restore, sound_snapshot
from sentinel.state.snapshot_file import FrozenState, read_header
from tests.features.plans import aggregate, plan_of
from tests.golden.make import FILES, find, golden_ledger
from tests.ledger.material import (
    NOON_US,
    append_decisions,
    append_history,
    append_labels,
    label,
    transaction,
)

PLAN = plan_of(aggregate("customer_count_1d"))


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_program(PLAN)


def payments(names: Sequence[str], start_us: int, customer: str) -> list[Transaction]:
    made = [transaction(i, start_us + 1_000 * i, customer_id=customer) for i in range(len(names))]
    return [
        msgspec.structs.replace(payment, transaction_id=name)
        for payment, name in zip(made, names, strict=True)
    ]


def recovered(program: Program, ledger: Ledger, snapshots: Path) -> EmbeddedState:
    return recover(program, ledger, snapshots, lambda _: None)


def applied(state: EmbeddedState, customer: str) -> int:
    """Log entries that a customer's record holds."""
    return int(state.arena.record(0, customer)[1])


@pytest.fixture
def put_back(program: Program, tmp_path: Path) -> Path:
    """A folder with a ledger that was put back from a backup and went on, and its old state.

    Entries 1 to 5 are in the backup; 6 to 10 were lost after a snapshot had been written; since
    then the log has gone on to entry 12, with payments of somebody else.
    """
    path = tmp_path / "ledger.db"
    with SqliteLedger.open_writer(path) as ledger:
        append_decisions(ledger, payments(["a1", "a2", "a3", "a4", "a5"], NOON_US, "victim"))
    shutil.copy(path, tmp_path / "backup.db")
    with SqliteLedger.open_writer(path) as ledger:
        lost = payments(["b1", "b2", "b3", "b4", "b5"], NOON_US + 10_000, "victim")
        append_decisions(ledger, lost)
        recovered(program, ledger, tmp_path / "state").freeze().write(tmp_path / "state")
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    shutil.copy(tmp_path / "backup.db", path)
    with SqliteLedger.open_writer(path) as ledger:
        others = [f"x{i}" for i in range(7)]
        append_decisions(ledger, payments(others, NOON_US + 20_000, "other"), seed=1)
    return tmp_path


def test_a_snapshot_of_entries_that_are_no_more_is_passed_over(
    program: Program, put_back: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        SqliteLedger.open_reader(put_back / "ledger.db") as ledger,
    ):
        state = recovered(program, ledger, put_back / "state")
    assert (state.sequence, applied(state, "victim"), applied(state, "other")) == (12, 5, 7)
    assert "it was made of another log: entry 10 is another one there" in caplog.text


def test_a_snapshot_without_a_mark_is_known_by_its_payments(
    program: Program, put_back: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Format 1 kept nothing of the log; it is used if its last payments are those of the log."""
    (path,) = (put_back / "state").rglob("*.snapshot")
    older(restore(program, put_back / "state").freeze()).write(put_back / "older")
    with (
        caplog.at_level(logging.WARNING),
        SqliteLedger.open_reader(put_back / "ledger.db") as ledger,
    ):
        state = recovered(program, ledger, put_back / "older")
        assert (applied(state, "victim"), applied(state, "other")) == (5, 7)
        assert "it knows other payments before entry 10" in caplog.text
        caplog.clear()
        older(state.freeze()).write(put_back / "older")
        assert recovered(program, ledger, put_back / "older").timeline == state.timeline
    assert caplog.text == ""
    assert path.exists()


def older(frozen: FrozenState) -> FrozenState:
    """The snapshot as the version before wrote it."""
    header = msgspec.structs.replace(frozen.header, format=1, timeline="")
    return FrozenState(**{**vars(frozen), "header": header})


def test_a_snapshot_of_an_earlier_format_serves_its_own_log(tmp_path: Path) -> None:
    plan = Plan.load(FILES / "plan.json")
    golden = compile_program(plan)
    with golden_ledger(tmp_path / "ledger.db") as ledger:
        assert restore(golden, FILES / "snapshots", origin=LogOf(ledger)).sequence == 17
        state = recover(golden, ledger, FILES / "snapshots", find)
        state.freeze().write(tmp_path / "state")
        (path,) = (tmp_path / "state").rglob("*.snapshot")
        header = read_header(path)
        assert header is not None
        assert (header.format, header.timeline) == (2, timeline_at(ledger, 17))


def test_retention_never_deletes_what_was_just_written(program: Program, put_back: Path) -> None:
    """Snapshots of later entries may be of a log that is no more."""
    folder = put_back / "state"
    for sequence in (100, 200):
        stale = EmbeddedState.empty(program)
        stale.sequence, stale.timeline = sequence, "another log"
        stale.freeze().write(folder)
    with SqliteLedger.open_reader(put_back / "ledger.db") as ledger:
        state = recovered(program, ledger, folder)
        written = state.freeze().write(folder)
        assert written.exists()
        origin = LogOf(ledger)
        assert sound_snapshot(program, folder, origin, least=12) == written
        assert sound_snapshot(program, folder, origin, least=13) is None
    # Of all others, the one that was written last: never more than two.
    assert sorted(path.stem[-3:] for path in folder.rglob("*.snapshot")) == ["012", "200"]


def test_older_snapshots_go_by_when_they_were_written(program: Program, tmp_path: Path) -> None:
    for age, sequence in ((3, 30), (2, 10), (1, 20)):
        state = EmbeddedState.empty(program)
        state.sequence = sequence
        path = state.freeze().write(tmp_path)
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    state.sequence = 5
    state.freeze().write(tmp_path)
    assert sorted(path.stem[-2:] for path in tmp_path.rglob("*.snapshot")) == ["05", "20"]


def test_a_state_that_went_on_names_the_log_that_it_is_of(program: Program, tmp_path: Path) -> None:
    with SqliteLedger.open_writer(tmp_path / "ledger.db") as ledger:
        append_history(ledger, payments(["h1", "h2"], NOON_US, "c"))
        state = recovered(program, ledger, tmp_path / "none")
        assert state.freeze().header.timeline == timeline_at(ledger, 2) == timeline_at(ledger, 1)
        late = payments(["d1"], NOON_US + 10_000, "c")
        state.add(late)
        group = append_decisions(ledger, late)
        assert group.transactions == late
        (tail,) = ledger.groups(2)
        state.settle(b"", late, Appended(3, late[-1].received_at_us, group=tail))
        assert state.freeze().header.timeline == timeline_at(ledger, 3)


def test_the_same_rows_imported_again_are_another_log(tmp_path: Path) -> None:
    rows = payments(["h1", "h2"], NOON_US, "c")
    marks = []
    for name in ("one.db", "two.db"):
        with SqliteLedger.open_writer(tmp_path / name) as ledger:
            append_history(ledger, rows)
            marks.append(timeline_at(ledger, 2))
            assert timeline_at(ledger, 3) == ""
    assert marks[0] != marks[1]


def test_an_export_of_another_log_is_not_added_to(put_back: Path, tmp_path: Path) -> None:
    with SqliteLedger.open_reader(put_back / "ledger.db") as ledger:
        export_parquet(ledger, tmp_path / "export")
    for file in put_back.glob("ledger.db*"):
        file.unlink()
    shutil.copy(put_back / "backup.db", put_back / "ledger.db")
    with SqliteLedger.open_writer(put_back / "ledger.db") as ledger:
        names = [f"y{i}" for i in range(9)]
        append_decisions(ledger, payments(names, NOON_US + 30_000, "third"), seed=2)
        append_labels(ledger, [label(1, "y1", NOON_US + 40_000)])
        with pytest.raises(WorkspaceError, match="another ledger"):
            export_parquet(ledger, tmp_path / "export")
