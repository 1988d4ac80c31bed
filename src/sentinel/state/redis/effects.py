"""What happens to shared records beside the decisions: log entries, voids, compaction.

For a thread with a connection of its own. Everything here may be done twice and by two scorers at
once: a record takes each step of the log once, each void once, and a compaction of what it still
holds.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.features.encode import EventEncoder
from sentinel.features.plan.program import EVENT_VIEWS, KIND_ADD
from sentinel.state.known_ids import id_hash
from sentinel.state.redis import fold
from sentinel.state.redis.asked import AskedRecords
from sentinel.state.redis.intents import Touched
from sentinel.state.redis.layout import (
    EVENT_NUMBER,
    EVENT_SESSION,
    FIELDS_AT,
    KIND_BITS,
    KIND_VOID,
    Record,
)
from sentinel.state.redis.records import Records, Stored

Words = npt.NDArray[np.int64]

_AT_ONCE: Final = 256
_KIND_MASK: Final = (1 << KIND_BITS) - 1
_BEGINNING: Final = struct.Struct("<qqq")
_LEAST_COMPACTED: Final = 8


class Change(NamedTuple):
    """What an entry of the log does to the records of a transaction.

    Attributes:
        transaction: The transaction, or the one that a label is about.
        kind: KIND_ADD, KIND_FRAUD or KIND_RETRACT.
        step: Of `step_of`.
    """

    transaction: Transaction
    kind: int
    step: int


class Voided(NamedTuple):
    """An event that was taken back.

    Attributes:
        view, key: The record.
        position: Of the event.
        at: Of its void: readings from there on are without the event.
    """

    view: int
    key: str
    position: int
    at: int


def step_of(sequence: int, *, label: bool = False) -> int:
    """The step of a log entry; that of a label which waited for the entry's transaction is later.

    >>> step_of(5), step_of(5, label=True), step_of(6)
    (10, 11, 12)
    """
    return 2 * sequence + label


class Effects:
    """Changes shared records as the log says. For one thread.

    Args:
        records: Of a connection that is this object's own.
    """

    def __init__(self, records: Records) -> None:
        self.records = records
        self._layout = records.layout
        self._n_views = len(records.program.plan.views)
        self._asked = AskedRecords(self._n_views)
        self._encoder = self._room_for(64)

    # The log.

    def apply(self, changes: Sequence[Change]) -> Words:
        """Append what log entries do, each step once.

        Args:
            changes: By rising step.

        Returns:
            int64 (n, views), the position of each event; 0 where the transaction has no key, or
            where the event is part of a base by now.

        Raises:
            StateUnavailable: Redis did not answer. Make the same call again.
        """
        positions = np.zeros((len(changes), self._n_views), dtype=np.int64)
        for start in range(0, len(changes), _AT_ONCE):
            part = changes[start : start + _AT_ONCE]
            encoded = self._put([change.transaction for change in part])
            ids = np.array([id_hash(c.transaction.transaction_id) for c in part], dtype=np.int64)
            number = np.array([(c.step << KIND_BITS) | c.kind for c in part], dtype=np.int64)
            events = [
                self._layout.events(encoded, view, ids, 0, number) for view in range(self._n_views)
            ]
            rows, views = np.nonzero(encoded[:, EVENT_VIEWS : EVENT_VIEWS + self._n_views] >= 0)
            calls = []
            for row, (view, key) in zip(rows.tolist(), self._asked.records, strict=True):
                width = self._layout.widths[view]
                event = events[view][row * width : (row + 1) * width]
                calls.append((view, key, part[row].step, event))
            positions[start + rows, views] = self.records.follow(calls)
        return positions

    # What did not reach the log.

    def void(self, ticket: bytes, touched: Iterable[Touched]) -> list[Voided]:
        """Take back the events of a ticket; those that no record holds are passed over.

        Nothing that was sent for them may still be under way: see `Wire.settle`.

        Raises:
            StateUnavailable: Redis did not answer. Make the same call again.
        """
        session = int.from_bytes(ticket[:8], "little")
        number = (int.from_bytes(ticket[8:], "little") << KIND_BITS) | KIND_ADD
        wanted = [
            (view, key, _BEGINNING.pack(identifier, session, number))
            for view, key, ids in touched
            for identifier in ids
        ]
        found = []
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            for (view, key, _), places in zip(part, self.records.void(part), strict=True):
                if places is not None:
                    found.append(Voided(view, key, *places))
        return found

    def touched_by(self, transactions: Sequence[Transaction]) -> list[Touched]:
        """The records of transactions, and by which of them each is changed."""
        places = self._put(transactions)[:, EVENT_VIEWS : EVENT_VIEWS + self._n_views]
        found: dict[Record, list[int]] = {}
        for row, record in zip(
            np.nonzero(places >= 0)[0].tolist(), self._asked.records, strict=True
        ):
            found.setdefault(record, []).append(id_hash(transactions[row].transaction_id))
        return [Touched(view, key, ids) for (view, key), ids in found.items()]

    # Long tails.

    def compact(self, named: Sequence[Record], followed: int) -> list[Record]:
        """Fold the settled beginning of tails into their bases.

        An event is settled if its ticket is no longer among the intents, or if it is the effect of
        a log entry that the followers are past. Tails are read before the intents, and the server
        refuses a compaction if an event of it was voided after it was read.

        Args:
            named: Records whose tails are long.
            followed: The log entry through which effects are in the records and noted.

        Returns:
            Those of which too little was settled: their turn comes again.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        later: list[Record] = []
        for start in range(0, len(named), _AT_ONCE):
            part = named[start : start + _AT_ONCE]
            values = self.records.stored(part)
            open_tickets = self.records.intents()
            changes = []
            for record, value in zip(part, values, strict=True):
                if value is None:
                    continue
                taken = _settled_events(value, open_tickets, followed)
                if taken < _LEAST_COMPACTED:
                    later.append(record)
                    continue
                seen = value.position + len(value.tail)
                base = self.records.packed(self.folded(record[0], value, taken))
                after = value.position + taken
                changes.append((record, value.position, after, seen, base))
            self.records.compact(changes)
        return later

    def folded(self, view: int, value: Stored, taken: int | None = None) -> Words:
        """The words of a record with the first events of its tail, those left out that are void.

        Args:
            view: Of the record.
            value: As it was read.
            taken: Number of events; None: all.
        """
        taken = len(value.tail) if taken is None else taken
        kinds = value.tail[:, EVENT_NUMBER] & _KIND_MASK
        voids = value.tail[kinds == KIND_VOID, FIELDS_AT] - value.position - 1
        kept = kinds != KIND_VOID
        kept[voids[(voids >= 0) & (voids < len(kept))]] = False
        kept[taken:] = False
        events = np.ascontiguousarray(value.tail[kept])
        program = self.records.program
        arena = np.zeros(program.record_words[view], dtype=np.int64)
        table = np.zeros((1, fold.COLUMNS), dtype=np.int64)
        table[0, fold.VIEW], table[0, fold.WHOLE] = view, 1
        table[0, fold.BASE_WORDS] = table[0, fold.EVENTS_AT] = len(value.base)
        table[0, fold.EVENTS] = len(events)
        table[0, fold.FROM] = value.position + taken - len(events)
        table[0, fold.OWN_FROM] = -1
        fold.fold_records(
            arena,
            program.code,
            self._layout.columns,
            table,
            np.concatenate([value.base, events.ravel()]),
            np.empty(0, dtype=np.int64),
            self._encoder.events,
            np.empty((0, program.n_features), dtype=np.float32),
        )
        return arena

    def _put(self, transactions: Sequence[Transaction]) -> Words:
        if len(transactions) > self._encoder.capacity:
            self._encoder = self._room_for(2 * len(transactions))
        self._asked.records.clear()
        for row, transaction in enumerate(transactions):
            self._encoder.put(row, transaction)
        return self._encoder.events[: len(transactions)]

    def _room_for(self, rows: int) -> EventEncoder:
        asked: Any = self._asked
        return EventEncoder(self.records.program, asked, rows)


def _settled_events(value: Stored, open_tickets: Collection[bytes], followed: int) -> int:
    """How many events at the beginning of a tail are settled."""
    sessions, counts = value.tail[:, EVENT_SESSION], value.tail[:, EVENT_NUMBER] >> KIND_BITS
    unsettled = (sessions == 0) & (counts > step_of(followed, label=True))
    for place in np.flatnonzero(sessions).tolist() if open_tickets else ():
        session, count = int(sessions[place]), int(counts[place])
        ticket = session.to_bytes(8, "little") + count.to_bytes(8, "little")
        unsettled[place] = ticket in open_tickets
    return int(np.argmax(unsettled)) if unsettled.any() else len(unsettled)
