"""What the log says of its payments beside their vectors: labels, and what was decided on each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Label, Transaction, Verdict
from sentinel.ledger.columns import conform
from sentinel.ledger.imports import read_import
from sentinel.log.entries import (
    OUTCOMES,
    Group,
    GroupKind,
    decode_decisions,
    entries_of,
    outcome_codes,
)
from sentinel.log.schema import ARRIVED, ATTRIBUTE_PREFIX, KIND_LABEL
from sentinel.models.dataset import Ints, LabelLog, rows_of
from sentinel.models.decided import BEFORE, SENTINEL, UNSAID, Decided
from sentinel.pipeline.served_columns import ServedColumns
from sentinel.pipeline.served_vectors import NO_GROUPS, ServedGroups

OUTCOME_BEFORE: Final = "outcome_before"
"""The attribute that says what the system before decided; see `docs/sources.md`."""

_COLUMN: Final = ATTRIBUTE_PREFIX + OUTCOME_BEFORE
_READ: Final = ("kind", "transaction_id", "verdict", "received_at_us", ARRIVED, _COLUMN)
_SAID: Final = pa.array([outcome.value for outcome in OUTCOMES])
_CODES: Final = {outcome.value: code for code, outcome in enumerate(OUTCOMES)}
_LABELS: Final = pa.schema(
    [
        pa.field("transaction_id", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("received_at_us", pa.int64()),
    ]
)
_NO_IDS: Final = pa.array([], pa.large_string())


@dataclass(frozen=True, eq=False)
class History:
    """What the log says beside vectors.

    Attributes:
        labels: All labels.
        arrived_at_us: int64 (n_rows,), when each transaction arrived at its source, where an import
            came later; 0 where it arrived when the log received it.
        decided: What was decided on each transaction; None if the log holds no decision and no
            outcome of the system before.
        void: bool (n_rows,), which transactions are void; None if none is. Labels about them are
            about nothing.
        served: The groups of decisions whose vectors have the features that were asked for.
        end_us: The moment after the last entry.
    """

    labels: LabelLog
    arrived_at_us: Ints
    decided: Decided | None
    void: npt.NDArray[np.bool_] | None
    served: ServedGroups
    end_us: int


def read_history(
    groups: Iterable[Group], ids: pa.Array, until: int, columns: ServedColumns | None = None
) -> History:
    """Read labels and decisions from the log.

    Args:
        groups: All groups of the log, in order.
        ids: large_string (n_rows,), ids of the transactions up to `until`, in log order.
        until: The last entry to look at.
        columns: Say whose served vectors are looked for; None for none.
    """
    reader = _Reader(len(ids), columns)
    for group in groups:
        if group.first_sequence > until:
            break
        reader.take(group, min(group.entries, until + 1 - group.first_sequence))
    void = reader.void(ids)
    labels = reader.labels(ids, void)
    return History(
        labels, reader.arrived_at_us, reader.decided(), void, reader.served(), reader.end_us
    )


def read_arrivals(groups: Iterable[Group]) -> Ints:
    """When each label of the log arrived: int64 (n_labels,), microseconds UTC.

    Args:
        groups: All groups of the log.
    """
    found = [np.empty(0, dtype=np.int64)]
    for group in groups:
        if group.kind == GroupKind.LABELS:
            times = [label.received_at_us for label in entries_of(group)]
            found.append(np.array(times, dtype=np.int64))
        elif group.kind == GroupKind.IMPORT:
            batch = read_import(group, ("kind", "received_at_us", ARRIVED))
            few = _by_arrival(batch.filter(pc.equal(batch.column("kind"), KIND_LABEL)))
            found.append(few.column("received_at_us").to_numpy())
    return np.concatenate(found)


class _Reader:
    """Collects what groups say, row by row."""

    def __init__(self, n_rows: int, columns: ServedColumns | None) -> None:
        self._columns = columns
        self._served: list[tuple[int, int, int]] = []
        self.end_us = 0
        self.arrived_at_us: Ints = np.zeros(n_rows, dtype=np.int64)
        self._row = 0
        self._outcome = np.zeros(n_rows, dtype=np.int8)
        self._base = np.zeros(n_rows, dtype=np.int8)
        self._eligible = np.zeros(n_rows, dtype=np.bool_)
        self._propensity = np.ones(n_rows, dtype=np.float32)
        self._source = np.zeros(n_rows, dtype=np.int8)
        self._labels: list[pa.RecordBatch] = []
        self._voids: list[str] = []

    def take(self, group: Group, entries: int) -> None:
        """Take the first entries of a group in."""
        if group.kind == GroupKind.IMPORT:
            self._take_import(read_import(group, _READ).slice(0, entries))
        elif group.kind == GroupKind.DECISIONS:
            self._take_decisions(group, entries)
        elif group.kind == GroupKind.VOIDS:
            voids = entries_of(group)[:entries]
            self.end_us = voids[-1].received_at_us + 1
            self._voids += [void.transaction_id for void in voids]
        else:
            found = [label for label in entries_of(group)[:entries] if isinstance(label, Label)]
            self._take_labels(found)

    def _take_import(self, batch: pa.RecordBatch) -> None:
        self.end_us = batch.column("received_at_us")[-1].as_py() + 1
        is_label = pc.equal(batch.column("kind"), KIND_LABEL)
        few = batch.filter(is_label)
        if few.num_rows:
            self._labels.append(conform(_by_arrival(few), _LABELS))
        rows = self._next(batch.num_rows - few.num_rows)
        if ARRIVED in batch.schema.names:
            arrived = batch.column(ARRIVED).filter(pc.invert(is_label)).fill_null(0)
            self.arrived_at_us[rows] = arrived.to_numpy()
        at = batch.schema.get_field_index(_COLUMN)
        if at >= 0:
            said = batch.column(at).filter(pc.invert(is_label)).cast(pa.string())
            codes = pc.index_in(said, value_set=_SAID).fill_null(-1)
            codes = codes.to_numpy(zero_copy_only=False)
            places = np.flatnonzero(codes >= 0)
            self._put_before(rows.start + places, codes[places])

    def _take_decisions(self, group: Group, entries: int) -> None:
        decided = decode_decisions(group.payload)
        n, columns = len(decided.transactions), decided.columns
        self.end_us = max(decided.transactions[entries - 1].received_at_us, group.floor_us) + 1
        rows = self._next(entries)
        if self._columns is not None and self._columns.serve(decided.plan_hash):
            self._served.append((group.first_sequence, rows.start, entries))
        self._outcome[rows] = outcome_codes(decided.flag_array())[:entries]
        self._base[rows] = decided.base_outcome_codes()[:entries]
        self._eligible[rows] = columns.eligible_array(n)[:entries]
        self._propensity[rows] = columns.propensity_array(n)[:entries]
        self._source[rows] = SENTINEL
        said = np.array([_said_before(one) for one in decided.transactions[:entries]])
        # A payment that both looked at went through only if both approved it.
        places = np.flatnonzero(said > self._outcome[rows])
        if len(places):
            self._put_before(rows.start + places, said[places])

    def _take_labels(self, labels: list[Label]) -> None:
        self.end_us = labels[-1].received_at_us + 1
        columns = [
            [one.transaction_id for one in labels],
            [one.verdict.value for one in labels],
            [one.received_at_us for one in labels],
        ]
        arrays = [pa.array(v, f.type) for v, f in zip(columns, _LABELS, strict=True)]
        self._labels.append(pa.RecordBatch.from_arrays(arrays, schema=_LABELS))

    def _next(self, entries: int) -> slice:
        """The rows of the next transactions."""
        first = self._row
        self._row += entries
        return slice(first, self._row)

    def _put_before(self, rows: Ints, codes: Ints) -> None:
        """Let outcomes of the system before count.

        Args:
            rows: int64 (k,), which rows.
            codes: int64 (k,), their outcomes.
        """
        self._outcome[rows] = self._base[rows] = codes
        self._eligible[rows] = False
        self._propensity[rows] = 1.0
        self._source[rows] = BEFORE

    def void(self, ids: pa.Array) -> npt.NDArray[np.bool_] | None:
        """Which transactions are void: bool (n_rows,); None if none is."""
        if not self._voids:
            return None
        rows = rows_of(ids, pa.array(self._voids, pa.large_string()))
        void = np.zeros(len(ids), dtype=np.bool_)
        void[rows[rows >= 0]] = True
        return void

    def labels(self, ids: pa.Array, void: npt.NDArray[np.bool_] | None) -> LabelLog:
        """The labels, each with the row that it is about, those of void transactions with none."""
        if not self._labels:
            nothing = np.empty(0, dtype=np.int64)
            return LabelLog(row=nothing, fraud=nothing.astype(np.bool_), received_at_us=nothing)
        table = pa.Table.from_batches(self._labels)
        rows = rows_of(ids, ids_of(table.column("transaction_id")))
        if void is not None:
            rows = np.where((rows >= 0) & void[rows], -1, rows)
        return LabelLog(
            row=rows,
            fraud=pc.equal(table.column("verdict"), Verdict.FRAUD.value).to_numpy(),
            received_at_us=table.column("received_at_us").to_numpy(),
        )

    def served(self) -> ServedGroups:
        """The groups whose vectors have the features."""
        if not self._served:
            return NO_GROUPS
        return ServedGroups(*np.array(self._served, dtype=np.int64).T)

    def decided(self) -> Decided | None:
        """What was decided; None if nobody said anything."""
        if not (self._source != UNSAID).any():
            return None
        return Decided(
            outcome=self._outcome,
            base_outcome=self._base,
            eligible=self._eligible,
            propensity=self._propensity,
            source=self._source,
        )


def _by_arrival(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Imported entries, each received when it arrived at its source."""
    if ARRIVED not in batch.schema.names:
        return batch
    times = pc.coalesce(batch.column(ARRIVED), batch.column("received_at_us"))
    at = batch.schema.get_field_index("received_at_us")
    return batch.set_column(at, batch.schema.field(at), times)


def _said_before(transaction: Transaction) -> int:
    """Code of what the system before said of a live payment; -1 if nothing."""
    said = transaction.attributes.get(OUTCOME_BEFORE)
    return _CODES.get(said, -1) if isinstance(said, str) else -1


def ids_of(column: pa.ChunkedArray) -> pa.LargeStringArray:
    """A column of ids as one array.

    Its offsets have 64 bits: those of Arrow's plain strings end at 2 GiB of text, which is what
    60 million ids of 36 characters take.
    """
    combined = column.cast(pa.large_string()).combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else _NO_IDS
    return combined
