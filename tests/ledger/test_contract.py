"""What every ledger backend keeps, whatever it is made of."""

from __future__ import annotations

import itertools
import threading

import pytest

from sentinel.domain import LedgerUnavailable, WorkspaceError
from sentinel.ledger.base import Ledger
from sentinel.log.entries import Group, GroupKind
from tests.ledger.backends import Backend

_numbers = itertools.count()


def _append(ledger: Ledger, entries: int, received_at_us: int, payload: bytes = b"x") -> int:
    ids = [f"tx-{next(_numbers)}" for _ in range(entries)]
    return ledger.append(
        GroupKind.DECISIONS, entries, received_at_us, payload, transaction_ids=ids
    ).first_sequence


def test_an_empty_ledger_holds_nothing(backend: Backend) -> None:
    ledger = backend.open_writer()
    assert (ledger.last_sequence(), ledger.last_received_at_us()) == (0, 0)
    assert list(ledger.groups()) == []
    ledger.close()


def test_sequences_number_the_entries_of_all_groups_from_one(backend: Backend) -> None:
    ledger = backend.open_writer()
    assert [_append(ledger, n, 10) for n in (1, 3, 2)] == [1, 2, 5]
    assert ledger.last_sequence() == 6
    ledger.close()


def test_a_group_reads_as_it_was_appended(backend: Backend) -> None:
    ledger = backend.open_writer()
    payload = bytes(range(256)) * 5_000
    first = _append(ledger, 7, 123, payload)
    expected = Group(
        first_sequence=first,
        entries=7,
        kind=GroupKind.DECISIONS,
        received_at_us=123,
        payload=payload,
    )
    assert list(ledger.groups()) == [expected]
    ledger.close()


def test_reading_starts_with_the_group_that_holds_the_next_entry(backend: Backend) -> None:
    ledger = backend.open_writer()
    for n in (1, 3, 2):
        _append(ledger, n, 10)
    firsts = {after: [g.first_sequence for g in ledger.groups(after)] for after in range(8)}
    assert firsts == {
        0: [1, 2, 5],
        1: [2, 5],
        2: [2, 5],
        3: [2, 5],
        4: [5],
        5: [5],
        6: [],
        7: [],
    }
    ledger.close()


def test_many_groups_come_in_order(backend: Backend) -> None:
    ledger = backend.open_writer()
    for i in range(700):
        _append(ledger, 1 + i % 3, i)
    groups = list(ledger.groups())
    assert [g.received_at_us for g in groups] == list(range(700))
    ends = [0] + [g.first_sequence + g.entries - 1 for g in groups]
    assert [g.first_sequence for g in groups] == [end + 1 for end in ends[:-1]]
    ledger.close()


def test_reopening_goes_on_where_it_was(backend: Backend) -> None:
    ledger = backend.open_writer()
    _append(ledger, 3, 10)
    ledger.close()
    ledger = backend.open_writer()
    assert (ledger.last_sequence(), ledger.last_received_at_us()) == (3, 10)
    assert _append(ledger, 1, 10) == 4
    ledger.close()


def test_a_group_without_entries_is_refused(backend: Backend) -> None:
    ledger = backend.open_writer()
    with pytest.raises(ValueError, match="at least one entry"):
        _append(ledger, 0, 10)
    ledger.close()


def test_only_one_writer(backend: Backend) -> None:
    ledger = backend.open_writer()
    with pytest.raises(WorkspaceError, match="Another process is writing"):
        backend.open_writer()
    ledger.close()
    backend.open_writer().close()


def test_a_reader_sees_every_group_as_soon_as_it_is_appended(backend: Backend) -> None:
    writer = backend.open_writer()
    reader = backend.open_reader()
    for i in range(1, 20):
        _append(writer, 1, i)
        assert (reader.last_sequence(), reader.last_received_at_us()) == (i, i)
        assert [g.first_sequence for g in reader.groups(i - 1)] == [i]
    reader.close()
    writer.close()


def test_a_reader_cannot_append(backend: Backend) -> None:
    backend.open_writer().close()
    reader = backend.open_reader()
    with pytest.raises(LedgerUnavailable, match="open for reading"):
        _append(reader, 1, 10)
    reader.close()


def test_there_is_nothing_to_read_before_a_writer_came(backend: Backend) -> None:
    with pytest.raises(WorkspaceError, match="no ledger"):
        backend.open_reader()


def test_closing_twice_is_closing(backend: Backend) -> None:
    ledger = backend.open_writer()
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerUnavailable, match="closed"):
        _append(ledger, 1, 10)
    with pytest.raises(LedgerUnavailable, match="closed"):
        list(ledger.groups())


def test_a_slow_reader_holds_up_no_writer_and_misses_nothing(backend: Backend) -> None:
    writer = backend.open_writer()
    for i in range(1, 30):
        _append(writer, 1, i, b"p" * 1_000)
    reading = writer.groups()
    seen = [next(reading)]
    for i in range(30, 60):
        _append(writer, 1, i, b"p" * 1_000)
    seen += reading
    assert [g.first_sequence for g in seen] == list(range(1, 60))
    writer.close()


def test_threads_read_while_another_appends(backend: Backend) -> None:
    writer = backend.open_writer()
    total = 300
    wrong: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            groups = list(writer.groups())
            if [g.first_sequence for g in groups] != list(range(1, len(groups) + 1)):
                wrong.append("a gap")
            if any(int(g.payload) != g.first_sequence for g in groups):
                wrong.append("another group's payload")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    appender = threading.Thread(
        target=lambda: [_append(writer, 1, i, str(i).encode()) for i in range(1, total + 1)]
    )
    appender.start()
    appender.join()
    done.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    assert writer.last_sequence() == total
    writer.close()
