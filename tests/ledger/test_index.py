"""The index says what the ledger says, however and whenever it was built."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.domain import (
    Entry,
    Label,
    LedgerUnavailable,
    Outcome,
    Transaction,
    Void,
    WorkspaceError,
)
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.index_rows import _DecisionGroup, _Transaction
from sentinel.ledger.index_schema import TABLES
from sentinel.ledger.index_values import DecisionFilter
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import DecisionGroup, GroupKind
from tests.ledger.backends import Backend
from tests.ledger.material import (
    NOON_US,
    append_all,
    append_decisions,
    append_history,
    append_labels,
    fill,
    label,
    logs,
    new_ledger,
    transaction,
)


def _content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    connection = sqlite3.connect(path)
    tables = {
        name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
        for name in TABLES
    }
    connection.close()
    return tables


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=logs(),
    pieces=st.lists(st.tuples(st.booleans(), st.integers(1, 4)), min_size=6, max_size=6),
)
def test_an_index_that_kept_up_equals_one_built_from_scratch(
    backend: Backend,
    drawn: list[tuple[GroupKind, list[Entry]]],
    pieces: list[tuple[bool, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name, backend.empty() as ledger:
        folder = Path(name)
        kept = LedgerIndex(folder / "kept.db", ledger)
        for group, (reopen, limit) in zip(drawn, pieces, strict=False):
            append_all(ledger, [group])
            if reopen:
                kept.close()
                kept = LedgerIndex(folder / "kept.db", ledger)
            kept.catch_up(limit=limit)
        kept.catch_up()
        kept.close()
        scratch = LedgerIndex(folder / "scratch.db", ledger)
        scratch.catch_up()
        entries = [entry for _, of_group in drawn for entry in of_group]
        labels = [entry for entry in entries if isinstance(entry, Label)]
        assert scratch.labels(entry.label_id for entry in labels) == {
            entry.label_id: entry for entry in labels
        }
        first_voids: dict[str, int] = {}
        for sequence, entry in enumerate(entries, 1):
            if isinstance(entry, Void):
                first_voids.setdefault(entry.transaction_id, sequence)
        assert scratch.voids_of([*first_voids, "tx-unknown"]) == first_voids
        for entry in entries:
            if isinstance(entry, Transaction):
                given_ones = {k: v for k, v in entry.attributes.items() if v is not None}
                expected = msgspec.structs.replace(entry, attributes=given_ones)
                assert scratch.transaction(entry.transaction_id) == expected
        scratch.close()
        ours, theirs = _content(folder / "kept.db"), _content(folder / "scratch.db")
        assert ours == theirs


def test_the_quick_decoders_see_the_leading_fields() -> None:
    for quick, full in ((_Transaction, Transaction), (_DecisionGroup, DecisionGroup)):
        names = quick.__struct_fields__
        assert names == full.__struct_fields__[: len(names)]


def test_a_repeated_id_does_not_stop_the_index(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [transaction(1, NOON_US), label(1, "tx-1", NOON_US)])
        append_decisions(ledger, [transaction(1, NOON_US + 1), transaction(1, NOON_US + 1)])
        append_labels(ledger, [label(1, "tx-1", NOON_US + 2)])
        index = LedgerIndex(tmp_path / "index.db", ledger)
        assert index.catch_up() == 5
        found = index.find("tx-1")
        assert found is not None
        assert found.sequence == 1
        index.close()


def test_an_index_of_another_ledger_is_built_anew(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    (tmp_path / "other").mkdir()
    with new_ledger(tmp_path) as ledger, new_ledger(tmp_path / "other") as other:
        fill(ledger)
        append_decisions(other, [transaction(1_000, NOON_US)])
        first = LedgerIndex(path, ledger)
        first.catch_up()
        first.close()
        second = LedgerIndex(path, other)
        assert second.indexed_through == 0
        assert second.catch_up() == 1
        assert second.find("tx-1") is None
        assert second.find("tx-1000") is not None
        second.close()


def test_an_index_beyond_a_restored_ledger_is_built_anew(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_decisions(ledger, [transaction(1, NOON_US)])
    backup = ledger.path.read_bytes()
    with SqliteLedger.open_writer(ledger.path) as ledger:
        append_decisions(ledger, [transaction(2, NOON_US + 1)])
        index = LedgerIndex(tmp_path / "index.db", ledger)
        index.catch_up()
        index.close()
    ledger.path.write_bytes(backup)
    with SqliteLedger.open_writer(ledger.path) as ledger:
        append_decisions(ledger, [transaction(3, NOON_US + 1)])
        index = LedgerIndex(tmp_path / "index.db", ledger)
        index.catch_up()
        assert set(index.find_many(["tx-1", "tx-2", "tx-3"])) == {"tx-1", "tx-3"}
        index.close()


def test_an_index_of_another_version_is_built_anew(filled: SqliteLedger, tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    LedgerIndex(path, filled).close()
    connection = sqlite3.connect(path)
    connection.executescript("PRAGMA user_version = 99; DROP TABLE decisions;")
    connection.close()
    index = LedgerIndex(path, filled)
    assert index.catch_up() == 44
    index.close()


def test_another_programs_file_is_left_alone(filled: SqliteLedger, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no index of a ledger"):
        LedgerIndex(filled.path, filled)
    text = tmp_path / "notes.txt"
    text.write_text("hello " * 1_000)
    with pytest.raises(WorkspaceError, match="not a SQLite database"):
        LedgerIndex(text, filled)


def test_a_failed_chunk_leaves_no_trace(filled: SqliteLedger, tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    index = LedgerIndex(path, filled)
    index.catch_up(limit=1)
    blocker = sqlite3.connect(path)
    blocker.execute(
        "CREATE TRIGGER stop BEFORE INSERT ON labels BEGIN SELECT RAISE(ABORT, 'stopped'); END"
    )
    with pytest.raises(LedgerUnavailable, match="write the index"):
        index.catch_up()
    assert index.decisions_page().decisions == ()
    blocker.execute("DROP TRIGGER stop")
    blocker.close()
    assert index.catch_up() == 33
    assert len(index.decisions_page().decisions) == 30
    index.close()


def test_processes_may_fill_it_at_once(filled: SqliteLedger, tmp_path: Path) -> None:
    for i in range(200):
        append_decisions(
            filled, [transaction(1_000 + i, NOON_US * 2 + i)], model_version=str(i % 9)
        )
    path = tmp_path / "index.db"
    script = (
        "import sys; from pathlib import Path\n"
        "from sentinel.ledger.index import LedgerIndex\n"
        "from sentinel.ledger.sqlite import SqliteLedger\n"
        "index = LedgerIndex(Path(sys.argv[2]), SqliteLedger.open_reader(Path(sys.argv[1])))\n"
        "while index.catch_up(limit=3): pass\n"
    )
    command = [sys.executable, "-c", script, str(filled.path), str(path)]
    others = [subprocess.Popen(command) for _ in range(3)]
    assert [other.wait() for other in others] == [0, 0, 0]
    index = LedgerIndex(path, filled)
    assert index.catch_up() == 0
    assert len(index.decisions_page(limit=1000).decisions) == 230
    index.close()
    scratch = LedgerIndex(tmp_path / "scratch.db", filled)
    scratch.catch_up()
    scratch.close()
    assert _content(path) == _content(tmp_path / "scratch.db")


def test_threads_ask_while_it_is_filled(filled: SqliteLedger, tmp_path: Path) -> None:
    index = LedgerIndex(tmp_path / "index.db", filled)
    problems: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            through = index.indexed_through
            page = index.decisions_page(DecisionFilter(outcomes=(Outcome.DECLINE,)), limit=1_000)
            declined = [d.sequence for d in page.decisions if d.sequence > 44]
            if declined[::-1] != list(range(45, 45 + len(declined))):
                problems.append("a decision is missing between two that are shown")
            if len(declined) < through - 44:
                problems.append("an entry is indexed that is not shown")

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for thread in askers:
        thread.start()
    for i in range(100):
        append_decisions(filled, [transaction(100 + i, NOON_US * 2 + i)], outcomes=(2,))
        index.catch_up()
    done.set()
    for thread in askers:
        thread.join()
    assert problems == []
    assert index.indexed_through == 144
    index.close()
