"""Features as of the past: what a reader at time t would have seen, for many t in one fold.

A row as of t sees the log entries with ``received_at < t``. Rows are put into the log before the
first entry with ``received_at >= t`` and read by the same kernel as everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import DefinitionError
from sentinel.features.encode_batch import Events
from sentinel.features.offline import LabelBook
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import (
    EVENT_KIND,
    KIND_ADD,
    KIND_PEEK,
    KIND_READ,
    compile_program,
)
from sentinel.features.used_columns import as_kind, only_used, used_columns
from sentinel.features.voids import Batches, LogFold, between_voids
from sentinel.log.schema import KIND_TRANSACTION, KIND_VOID, LOG_SCHEMA


@dataclass(frozen=True)
class RowsAsOf:
    """Entities or payments, each at a time of the past.

    Attributes:
        sees_before_us: int64 (n,); entries received before this are seen.
        time_us: int64 (n,); the moment that windows end at.
        columns: Entity columns (string), and for rows that are payments ``amount_minor``
            (int64) and ``attributes.NAME`` (string or float64). A row with an amount gets
            request features, a row without one has none.
    """

    sees_before_us: npt.NDArray[np.int64]
    time_us: npt.NDArray[np.int64]
    columns: dict[str, pa.Array]

    def __len__(self) -> int:
        return len(self.time_us)


def features_as_of(
    plan: Plan, batches: Batches, asked: RowsAsOf, *, threads: int | None = None
) -> npt.NDArray[np.float32]:
    """Fold the log once and read every row on the way.

    Args:
        plan: What to compute.
        batches: Gives the log batches in log order, each time anew.
        asked: The rows, in any order.
        threads: See `OfflineFold`.

    Returns:
        float32 (len(asked), n_features) in the order of the rows, NaN = unknown.
    """
    program = compile_program(plan)
    result = np.empty((len(asked), program.n_features), dtype=np.float32)
    if len(asked) == 0:
        return result
    order = np.argsort(asked.sees_before_us, kind="stable")
    times = asked.sees_before_us[order]

    def entries(start: int, end: int) -> pa.RecordBatch:
        """Some of the rows: all of them may be more than one column of strings holds."""
        return _entries(program.plan, asked, order[start:end])

    book = LabelBook()
    book.scan(_received_before(batches(), int(times[-1])))
    fold = _FoldAsOf(program, batches, book=book, threads=threads)
    done = 0
    for batch in _received_before(batches(), int(times[-1])):
        received = batch.column("received_at_us").to_numpy()
        end = int(np.searchsorted(times, received[-1], side="right"))
        places = np.searchsorted(received, times[done:end], side="left")
        result[order[done:end]] = fold.read(
            only_used(batch, program.plan), entries(done, end), places
        )
        done = end
    result[order[done:]] = fold.read_now(entries(done, len(asked)))
    return result


class _FoldAsOf(LogFold):
    """The offline fold with rows put between the entries of the log."""

    _kinds: npt.NDArray[np.int64] | None = None
    """What each transaction row of the batch asks for; None if all are added."""

    def read(
        self, batch: pa.RecordBatch, asked: pa.RecordBatch, places: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        """Fold a log batch and read the rows that stand before its entries ``places``.

        Returns:
            float32 (len(asked), n_features).
        """
        if asked.num_rows == 0:
            if batch.num_rows:
                self.step(batch, vectors=False)
            return np.empty((0, self.program.n_features), dtype=np.float32)
        stretches = list(between_voids(batch))
        if len(stretches) > 1:
            return self._read_between(stretches, batch, asked, places)
        log_rows = batch.num_rows
        both = _join(batch, asked)
        order = np.insert(np.arange(log_rows), places, np.arange(log_rows, len(both)))
        kinds = np.full(len(both), KIND_ADD, dtype=np.int64)
        is_payment = asked.column(AMOUNT).is_valid().to_numpy(zero_copy_only=False)
        kinds[log_rows:] = np.where(is_payment, KIND_PEEK, KIND_READ)
        merged = both.take(pa.array(order))
        is_transaction = merged.column("kind").to_numpy() == KIND_TRANSACTION
        self._kinds = kinds[order][is_transaction]
        out = self.step(_with_amounts(merged))
        self._kinds = None
        self.entries -= asked.num_rows  # they are no entries of the log
        return out[: asked.num_rows]

    def _read_between(
        self,
        stretches: list[tuple[int, int]],
        batch: pa.RecordBatch,
        asked: pa.RecordBatch,
        places: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """`read` for a batch with voids: a row that stands before a void does not see it."""
        found = []
        done = 0
        for start, stop in stretches:
            part = batch.slice(start, stop - start)
            if not part.num_rows:
                continue
            if part.column("kind")[0].as_py() != KIND_VOID:
                end = int(np.searchsorted(places, stop, side="right"))
                here = places[done:end] - start
                found.append(self.read(part, asked.slice(done, end - done), here))
                done = end
                continue
            ids = part.column("transaction_id").to_pylist()
            at = start
            for place in sorted({p for p in places[done:].tolist() if p < stop}):
                self.void(ids[at - start : place - start])
                end = int(np.searchsorted(places, place, side="right"))
                found.append(self.read_now(asked.slice(done, end - done)))
                at, done = place, end
            self.void(ids[at - start :])
        found.append(self.read_now(asked.slice(done)))
        return np.concatenate(found)

    def read_now(self, asked: pa.RecordBatch) -> npt.NDArray[np.float32]:
        """Read rows that stand where the fold is."""
        return self.read(asked.slice(0, 0), asked, np.zeros(len(asked), dtype=np.int64))

    def _merge_labels(
        self,
        batch: pa.RecordBatch,
        is_label: npt.NDArray[np.bool_],
        events: Events,
        rows: npt.NDArray[np.int64],
    ) -> tuple[Events, npt.NDArray[np.int64]]:
        if self._kinds is not None:
            asked = self._kinds != KIND_ADD
            events[:, EVENT_KIND] = self._kinds
            rows[:] = np.where(asked, np.cumsum(asked) - 1, -1)
        return super()._merge_labels(batch, is_label, events, rows)


def only_needed(plan: Plan, features: Iterable[str]) -> Plan:
    """The part of a plan that computes some features: whole views, so that records are the same.

    Raises:
        DefinitionError: A feature is not in the plan.
    """
    wanted = set(features)
    unknown = sorted(wanted - set(plan.feature_names))
    if unknown:
        raise DefinitionError(
            f"The applied plan {plan.hash} has no feature {unknown[0]!r}. "
            "If the definitions changed, run `sentinel features apply`."
        )
    ratios = tuple(ratio for ratio in plan.ratios if ratio.name in wanted)
    for ratio in ratios:
        wanted |= {ratio.numerator, ratio.denominator}
    return Plan(
        views=tuple(v for v in plan.views if wanted & {a.name for a in v.aggregates}),
        request=tuple(f for f in plan.request if f.name in wanted),
        ratios=ratios,
    )


def _received_before(batches: Iterable[pa.RecordBatch], time_us: int) -> Iterator[pa.RecordBatch]:
    """The part of the log that was received before a time."""
    for batch in batches:
        received = batch.column("received_at_us").to_numpy()
        seen = int(np.searchsorted(received, time_us, side="left"))
        if seen:
            yield batch.slice(0, seen)
        if seen < batch.num_rows:
            return


def _entries(plan: Plan, asked: RowsAsOf, order: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Some rows in the form of log entries, in the order they stand in the log.

    Args:
        plan: Says what is read of them.
        asked: All rows.
        order: int64 (n,), which of them.
    """
    n = len(order)
    at = pa.array(order)
    given: dict[str, pa.Array] = {
        "kind": pa.array(np.full(n, KIND_TRANSACTION, dtype=np.int8)),
        # No transaction has an empty id, so no label is about a row.
        "transaction_id": pa.array([""] * n, pa.string()),
        "received_at_us": pa.array(asked.sees_before_us[order]),
        "event_time_us": pa.array(asked.time_us[order]),
        **{name: column.take(at) for name, column in asked.columns.items()},
    }
    kinds = {field.name: field.type for field in LOG_SCHEMA} | used_columns(plan)
    arrays = [
        as_kind(given[name], kind) if name in given else pa.nulls(n, kind)
        for name, kind in kinds.items()
    ]
    schema = pa.schema([*LOG_SCHEMA, *(pa.field(name, kinds[name]) for name in used_columns(plan))])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _join(batch: pa.RecordBatch, asked: pa.RecordBatch) -> pa.RecordBatch:
    return pa.concat_batches([batch.cast(asked.schema), asked])


def _with_amounts(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows that are no payment have no amount; the encoder wants a number."""
    at = batch.schema.get_field_index(AMOUNT)
    amounts = pc.fill_null(batch.column(at), 0)
    return batch.set_column(at, batch.schema.field(at), amounts)
