"""The ledger as the log: record batches of `LOG_SCHEMA` in log order, whatever the groups are."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import AttributeValue, Entry, InputError, Transaction
from sentinel.ledger.base import Ledger
from sentinel.ledger.columns import entries_batch
from sentinel.ledger.imports import read_import
from sentinel.log.entries import Group, GroupKind, entries_of
from sentinel.log.schema import (
    ARRIVED,
    ATTRIBUTE_PREFIX,
    KIND_LABEL,
    KIND_TRANSACTION,
    LOG_SCHEMA,
)

_MARK: Final = "sentinel.mark"

DEFAULT_MAX_ROWS: Final = 100_000

MOST_ATTRIBUTES: Final = 1_000
"""Attribute columns of a batch of live entries. Each is as long as the batch, so that payments that
all name others would make it as wide as it is long; a further name begins a new batch."""

_NEEDED: Final = {
    KIND_TRANSACTION: ("event_time_us", "amount_minor"),
    KIND_LABEL: ("label_id", "verdict", "origin"),
}
_WORDS: Final = {KIND_TRANSACTION: "transaction", KIND_LABEL: "label"}


class LogBatch(NamedTuple):
    """Consecutive entries of the log.

    Attributes:
        first_sequence: Sequence of the first row; row i has ``first_sequence + i``.
        batch: The entries, see `sentinel.log.schema`.
    """

    first_sequence: int
    batch: pa.RecordBatch


def sequence_before(ledger: Ledger, start_us: int, last: int) -> int:
    """A sequence such that everything received from a moment on is behind it, found by halving.

    Args:
        ledger: The log.
        start_us: The moment, microseconds UTC.
        last: The last sequence to look at.
    """
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        group = next(iter(ledger.groups(middle)), None)
        if group is None or group.received_at_us >= start_us:
            high = middle
        else:
            low = middle
    return low


class Imported(NamedTuple):
    """What `append_import` did.

    Attributes:
        first_sequence: Sequence of the batch's first row.
        clamped: Rows whose ``received_at_us`` lay before the end of the log and was raised to it.
    """

    first_sequence: int
    clamped: int


def read_log(
    ledger: Ledger,
    after: int = 0,
    until: int | None = None,
    max_rows: int = DEFAULT_MAX_ROWS,
    columns: Collection[str] | None = None,
) -> Iterator[LogBatch]:
    """The entries of the log, in order, in bounded memory.

    Small groups are joined into batches of up to ``max_rows``. Within a batch an attribute is
    all numbers or all text: an entry that gives it the other kind begins a new batch, so that
    no value changes its meaning on the way.

    Args:
        ledger: Where the log is.
        after: Only entries with a sequence above this.
        until: Only entries with a sequence up to this; None: to the end as of now.
        max_rows: Most rows in a batch.
        columns: Columns that are wanted; imported history is decoded no further. Batches have
            those of them that their entries have, and may have others. None: all.

    Raises:
        LedgerUnavailable: The ledger cannot be read right now.
    """
    yield from batches_of(ledger.groups(after), after, until, max_rows, columns)


def whole_log(ledger: Ledger, until: int | None = None) -> Callable[[], Iterator[pa.RecordBatch]]:
    """What reads the log from its beginning, each time it is called; see `read_log`."""
    return lambda: (batch for _, batch in read_log(ledger, until=until))


def batches_of(
    groups: Iterable[Group],
    after: int = 0,
    until: int | None = None,
    max_rows: int = DEFAULT_MAX_ROWS,
    columns: Collection[str] | None = None,
) -> Iterator[LogBatch]:
    """`read_log` over groups at hand."""
    live = _LiveEntries(max_rows)
    for group in groups:
        if until is not None and group.first_sequence > until:
            break
        skip = max(0, after + 1 - group.first_sequence)
        stop = group.entries
        if until is not None:
            stop = min(stop, until + 1 - group.first_sequence)
        if skip >= stop:
            continue
        if group.kind == GroupKind.IMPORT:
            yield from live.flush()
            batch = read_import(group, columns)
            for start in range(skip, stop, max_rows):
                rows = batch.slice(start, min(max_rows, stop - start))
                yield LogBatch(group.first_sequence + start, rows)
        else:
            yield from live.add(group.first_sequence + skip, entries_of(group)[skip:stop])
    yield from live.flush()


def append_import(ledger: Ledger, batch: pa.RecordBatch) -> Imported:
    """Append history to the log.

    Args:
        ledger: Where to.
        batch: A log batch, ``received_at_us`` non-decreasing. Rows received before the end of
            the log enter it with the time of that end, since that is when Sentinel learnt of
            them; their event time stays, and when they were received is kept beside.

    Raises:
        InputError: The batch is empty, lacks a column of the log, has one of another type, or
            is not in order.
        LedgerUnavailable: It could not be made durable; nothing was appended.
    """
    _check(batch)
    received = batch.column("received_at_us").to_numpy(zero_copy_only=False)
    if bool((received[1:] < received[:-1]).any()):
        raise InputError("received_at_us decreases within the batch: sort it by received_at_us.")
    last = ledger.last_received_at_us()
    clamped = int(np.searchsorted(received, last, side="left"))
    if clamped:
        at = batch.schema.get_field_index("received_at_us")
        raised = pa.array(np.maximum(received, last), pa.int64())
        batch = batch.set_column(at, batch.schema.field(at), raised)
        batch = batch.append_column(ARRIVED, pa.array(received, mask=received >= last))
    # Makes the same rows in the same place another append; see `sentinel.ledger.timeline`.
    batch = batch.replace_schema_metadata({_MARK: secrets.token_bytes(16)})
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    appended = ledger.append(
        GroupKind.IMPORT,
        batch.num_rows,
        max(last, int(received[-1])),
        sink.getvalue().to_pybytes(),
    )
    return Imported(appended.first_sequence, clamped)


def _check(batch: pa.RecordBatch) -> None:
    if batch.num_rows == 0:
        raise InputError("The batch is empty: there is nothing to append.")
    for field in LOG_SCHEMA:
        at = batch.schema.get_field_index(field.name)
        if at < 0:
            raise InputError(f"The batch has no column {field.name!r}; see sentinel.log.schema.")
        if batch.schema.field(at).type != field.type:
            raise InputError(
                f"Column {field.name!r} is {batch.schema.field(at).type}, not {field.type}."
            )
        if not field.nullable and batch.column(at).null_count:
            raise InputError(f"Column {field.name!r} has nulls; every entry needs one.")
    for field in batch.schema:
        if field.name in LOG_SCHEMA.names:
            continue
        if not field.name.startswith(ATTRIBUTE_PREFIX):
            raise InputError(
                f"Column {field.name!r} is not of the log; name it {ATTRIBUTE_PREFIX}{field.name}."
            )
        if field.type not in (pa.string(), pa.float64()):
            raise InputError(
                f"Column {field.name!r} is {field.type}; attributes are string or double."
            )
    kinds = pc.unique(batch.column("kind")).to_pylist()
    if not set(kinds) <= {KIND_TRANSACTION, KIND_LABEL}:
        raise InputError(f"Column 'kind' is 0 (transaction) or 1 (label), not {sorted(kinds)}.")
    for kind, names in _NEEDED.items():
        rows = batch.filter(pc.equal(batch.column("kind"), kind))
        for name in names:
            if rows.column(name).null_count:
                raise InputError(f"Column {name!r} has nulls; every {_WORDS[kind]} needs one.")


class _LiveEntries:
    """Entries of live groups on their way into a batch."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._first = 0
        self._entries: list[Entry] = []
        self._is_text: dict[str, bool] = {}

    def add(self, first_sequence: int, entries: Sequence[Entry]) -> Iterator[LogBatch]:
        for offset, entry in enumerate(entries):
            if len(self._entries) >= self._max_rows or not self._fits(entry):
                yield from self.flush()
                self._fits(entry)
            if not self._entries:
                self._first = first_sequence + offset
            self._entries.append(entry)

    def flush(self) -> Iterator[LogBatch]:
        if self._entries:
            yield LogBatch(self._first, entries_batch(self._entries, self._is_text))
            self._entries, self._is_text = [], {}

    def _fits(self, entry: Entry) -> bool:
        """Whether the entry's attributes are of the kinds that the batch has; notes new ones."""
        if not isinstance(entry, Transaction):
            return True
        kinds = self._is_text
        if len(kinds) + len(entry.attributes) > MOST_ATTRIBUTES:
            new = sum(name not in kinds for name in entry.attributes)
            if kinds and len(kinds) + new > MOST_ATTRIBUTES:
                return False
        for name, value in entry.attributes.items():
            if value is not None and kinds.setdefault(name, _is_text(value)) is not _is_text(value):
                return False
        return True


def _is_text(value: AttributeValue) -> bool:
    return type(value) is str
