"""Many entries of the log into shared records: one call for each record that they change."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.features.encode import EventEncoder
from sentinel.features.encode_batch import encode_batch
from sentinel.features.kernel.words import NO_RECORD
from sentinel.features.plan.program import EVENT_VIEWS, KIND_ADD, Program
from sentinel.state.known_ids import id_hash
from sentinel.state.redis.effects import Change, step_of
from sentinel.state.redis.layout import KIND_BITS, Record
from sentinel.state.redis.records import Records

Words = npt.NDArray[np.int64]

MOST_ENTRIES: Final = 50_000
"""Entries of the log that are appended together, so that a hot record's tail stays readable."""

_REPLY: Final = struct.Struct("<qq")
_RECORDS_AT_ONCE: Final = 500


class Placed(NamedTuple):
    """Where a piece of the log stands in the records.

    Attributes:
        entries: int64 (n, views), the position of each entry's event; 0 where it has none, or
            where the event is part of a base by now.
        changes: int64 (changes, views), the same for the changes that labels make.
        grown: Records that got many events.
    """

    entries: Words
    changes: Words
    grown: list[Record]


class _Places:
    """Stands in for an arena: numbers the records that events are about, by view."""

    def __init__(self, views: int) -> None:
        self.keys: tuple[dict[str, int], ...] = tuple({} for _ in range(views))

    def locate(self, view: int, key: str) -> int:
        """The number of a record; a new one gets the next."""
        known = self.keys[view]
        return known.setdefault(key, len(known))

    find = locate

    def locate_column(self, view: int, keys: pa.Array) -> Words:
        """`locate` for a column of strings without nulls: int64 (len(keys),)."""
        encoded = keys.dictionary_encode()
        numbers = [self.locate(view, key) for key in encoded.dictionary.to_pylist()]
        places: Words = np.array(numbers, dtype=np.int64)
        found: Words = places[encoded.indices.to_numpy(zero_copy_only=False)]
        return found


def append_piece(
    records: Records,
    batch: pa.RecordBatch,
    is_label: npt.NDArray[np.bool_],
    first_sequence: int,
    changes: Iterable[Change],
    grown_from: int,
) -> Placed:
    """Append what consecutive entries of the log do to the records, each step once.

    Args:
        records: The records.
        batch: The entries, a log batch.
        is_label: bool (n,), which of them are labels.
        first_sequence: Of the first entry.
        changes: What the labels among them do, and labels that waited for their transactions.
        grown_from: A record that got so many events is named in the answer.

    Raises:
        StateUnavailable: Redis did not answer. Make the same call again.
    """
    program = records.program
    places = _Places(len(program.plan.views))
    arena: Any = places
    added = np.flatnonzero(~is_label)
    transactions = batch.filter(pa.array(~is_label)) if is_label.any() else batch
    events, _ = encode_batch(program, arena, transactions)
    ids = _hashes(transactions.column("transaction_id").to_pylist())
    numbers = (step_of(first_sequence) + 2 * added << KIND_BITS) | KIND_ADD
    several = list(changes)
    others = _encoded(program, arena, several)
    events = np.concatenate([events, others])
    ids = np.concatenate([ids, _hashes([c.transaction.transaction_id for c in several])])
    kinds = np.array([(c.step << KIND_BITS) | c.kind for c in several], dtype=np.int64)
    numbers = np.concatenate([numbers, kinds])
    in_order = np.argsort(numbers >> KIND_BITS, kind="stable")
    positions = np.zeros((len(events), len(places.keys)), dtype=np.int64)
    grown: list[Record] = []
    for view, keys in enumerate(places.keys):
        of_view = events[in_order, EVENT_VIEWS + view]
        order = in_order[of_view != NO_RECORD]
        order = order[np.argsort(events[order, EVENT_VIEWS + view], kind="stable")]
        if len(order):
            data = records.layout.events(events[order], view, ids[order], 0, numbers[order])
            numbered = events[order, EVENT_VIEWS + view]
            starts = np.flatnonzero(np.diff(numbered, prepend=-1))
            names = list(keys)
            named = [names[number] for number in numbered[starts].tolist()]
            positions[order, view] = _append(records, view, named, starts, data)
            counts = np.diff(starts, append=len(order))
            grown += [(view, named[at]) for at in np.flatnonzero(counts >= grown_from).tolist()]
    entries = np.zeros((batch.num_rows, len(places.keys)), dtype=np.int64)
    entries[added] = positions[: len(added)]
    return Placed(entries, positions[len(added) :], grown)


def _append(records: Records, view: int, keys: list[str], starts: Words, data: bytes) -> Words:
    """Append the events of a view, record by record; the position of each, int64 (n,)."""
    width = records.layout.widths[view]
    n = len(data) // width
    ends = np.append(starts[1:], n).tolist()
    first = starts.tolist()
    after = np.empty(len(keys), dtype=np.int64)
    found_before: list[tuple[int, Words]] = []
    for at in range(0, len(keys), _RECORDS_AT_ONCE):
        end = min(at + _RECORDS_AT_ONCE, len(keys))
        part = [(keys[i], data[first[i] * width : ends[i] * width]) for i in range(at, end)]
        for place, reply in enumerate(records.follow_many(view, part), at):
            after[place], again = _REPLY.unpack_from(reply)
            if again:
                # The events behind those that stood there already follow the record's end.
                after[place] -= again
                found = np.frombuffer(reply, "<i8", again, _REPLY.size)
                found_before.append((first[place], found))
    counts = np.diff(starts, append=n)
    positions: Words = np.repeat(after - starts, counts) + np.arange(1, n + 1)
    for begin, found in found_before:
        positions[begin : begin + len(found)] = found
    return positions


def _encoded(program: Program, arena: Any, changes: list[Change]) -> Words:
    encoder = EventEncoder(program, arena, max(len(changes), 1))
    for row, change in enumerate(changes):
        encoder.put(row, change.transaction)
    return encoder.events[: len(changes)]


def _hashes(identifiers: list[str]) -> Words:
    return np.array([id_hash(identifier) for identifier in identifiers], dtype=np.int64)
