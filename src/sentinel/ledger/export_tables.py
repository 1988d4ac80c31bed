"""The four tables of the Parquet export, made from groups of the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.ledger.columns import unify
from sentinel.ledger.log import MOST_ATTRIBUTES, batches_of
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_EXPIRED_EVENT,
    FLAG_IS_FRAUD,
    FLAG_LATE_EVENT,
    N_REASONS,
    OUTCOMES,
    Group,
    GroupKind,
    decode_decisions,
    decode_labels,
    decode_voids,
    outcome_codes,
)
from sentinel.log.schema import (
    ARRIVED,
    ATTRIBUTE_PREFIX,
    KIND_LABEL,
    KIND_TRANSACTION,
    attribute_columns,
)

DAY_US: Final = 86_400_000_000

OTHER_ATTRIBUTES: Final = "other_attributes"
"""Column of what has none of its own: an object in JSON, null where there is nothing."""

_TIME: Final = pa.timestamp("us", tz="UTC")
_LABEL_COLUMNS: Final = ("label_id", "transaction_id", "verdict", "received_at_us", "origin")
_NOT_OF_TRANSACTIONS: Final = ("kind", "label_id", "verdict", "origin", ARRIVED)

DECISIONS_SCHEMA: Final = pa.schema(
    [
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("event_timestamp", _TIME),
        pa.field("transaction_id", pa.string()),
        pa.field("event_time_us", pa.int64()),
        pa.field("received_at_us", pa.int64()),
        pa.field("fraud_probability", pa.float64()),
        pa.field("score", pa.float64()),
        pa.field("outcome", pa.string()),
        pa.field("is_fraud", pa.bool_()),
        pa.field("degraded", pa.bool_()),
        pa.field("late_event", pa.bool_()),
        pa.field("expired_event", pa.bool_()),
        pa.field("model_name", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("plan_hash", pa.string()),
        pa.field("latency_us", pa.int64()),
        pa.field("reason_features", pa.list_(pa.int16())),
        pa.field("reason_contributions", pa.list_(pa.float32())),
        pa.field("vector", pa.list_(pa.float32())),
        pa.field("policy_hash", pa.string()),
        pa.field("base_outcome", pa.string()),
        pa.field("eligible", pa.bool_()),
        pa.field("propensity", pa.float32()),
        pa.field("rules", pa.list_(pa.string())),
        pa.field("called_by", pa.string()),
    ]
)


VOIDS_SCHEMA: Final = pa.schema(
    [
        pa.field("sequence", pa.int64(), nullable=False),
        pa.field("event_timestamp", _TIME),
        pa.field("transaction_id", pa.string()),
        pa.field("received_at_us", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("called_by", pa.string()),
    ]
)


def log_tables(
    groups: Sequence[Group], known: Collection[str] = ()
) -> tuple[pa.Table | None, pa.Table | None]:
    """Transactions and labels of groups, each with its sequence; None where there are none.

    Args:
        groups: Of the log.
        known: Attributes that have a column already. With them there are at most MOST_ATTRIBUTES;
            those that are given most often come first, and the column OTHER_ATTRIBUTES holds all
            others, as JSON.
    """
    transactions: list[pa.RecordBatch] = []
    labels: list[pa.RecordBatch] = []
    for first_sequence, batch in batches_of(groups):
        sequences = pa.array(np.arange(first_sequence, first_sequence + batch.num_rows))
        numbered = batch.append_column("sequence", sequences)
        kind = batch.column("kind")
        for value, found in ((KIND_TRANSACTION, transactions), (KIND_LABEL, labels)):
            rows = numbered.filter(pc.equal(kind, value))
            if rows.num_rows:
                found.append(rows)
    transactions = _narrowed(transactions, known)
    return (
        _transactions_table(unify(transactions)) if transactions else None,
        _labels_table(unify(labels), groups) if labels else None,
    )


def _narrowed(batches: list[pa.RecordBatch], known: Collection[str]) -> list[pa.RecordBatch]:
    """Batches with a column for no more attributes than may have one; see `log_tables`."""
    given: Counter[str] = Counter()
    for batch in batches:
        for name in attribute_columns(batch.schema):
            column = batch.column(ATTRIBUTE_PREFIX + name)
            given[name] += len(column) - column.null_count
    if len(given.keys() | set(known)) <= MOST_ATTRIBUTES:
        return batches
    room = max(0, MOST_ATTRIBUTES - len(known))
    new = sorted(given.keys() - set(known), key=lambda name: (-given[name], name))
    kept = {*known, *new[:room]}
    return [_with_others(batch, kept) for batch in batches]


def _with_others(batch: pa.RecordBatch, kept: Collection[str]) -> pa.RecordBatch:
    """A batch whose other attributes are one column of JSON."""
    others = [name for name in attribute_columns(batch.schema) if name not in kept]
    if not others:
        return batch
    rows: list[dict[str, str | float]] = [{} for _ in range(batch.num_rows)]
    for name in others:
        column = batch.column(ATTRIBUTE_PREFIX + name)
        for row in np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)).tolist():
            rows[row][name] = column[row].as_py()
    texts = pa.array([msgspec.json.encode(row).decode() if row else None for row in rows])
    dropped = {ATTRIBUTE_PREFIX + name for name in others}
    left = batch.select([name for name in batch.schema.names if name not in dropped])
    return left.append_column(OTHER_ATTRIBUTES, texts.cast(pa.string()))


def decisions_table(groups: Sequence[Group]) -> pa.Table | None:
    """Decisions of groups; None where there are none."""
    batches = [_decisions_batch(group) for group in groups if group.kind == GroupKind.DECISIONS]
    return pa.Table.from_batches(batches).combine_chunks() if batches else None


def voids_table(groups: Sequence[Group]) -> pa.Table | None:
    """Voids of groups: the transactions that are void are in the other tables all the same."""
    rows: list[dict[str, object]] = []
    for group in groups:
        if group.kind == GroupKind.VOIDS:
            asked = decode_voids(group.payload)
            for sequence, void in enumerate(asked.voids, group.first_sequence):
                received_at_us = max(void.received_at_us, group.floor_us)
                rows.append(
                    {
                        "sequence": sequence,
                        "event_timestamp": received_at_us,
                        "transaction_id": void.transaction_id,
                        "received_at_us": received_at_us,
                        "reason": void.reason,
                        "called_by": asked.called_by,
                    }
                )
    return pa.Table.from_pylist(rows, VOIDS_SCHEMA) if rows else None


def by_date(rows: pa.Table, time_us: str) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each day (UTC), in their order; days as YYYY-MM-DD.

    Args:
        rows: Any rows.
        time_us: The column that says when, microseconds.
    """
    days: npt.NDArray[np.int64] = rows.column(time_us).to_numpy() // DAY_US
    order = np.argsort(days, kind="stable")
    ordered = rows.take(pa.array(order))
    values, starts = np.unique(days[order], return_index=True)
    stops = [*starts[1:].tolist(), len(days)]
    for day, start, stop in zip(values.tolist(), starts.tolist(), stops, strict=True):
        yield str(np.datetime64(day, "D")), ordered.slice(start, stop - start)


def _transactions_table(batch: pa.RecordBatch) -> pa.Table:
    names = [name for name in batch.schema.names if name not in _NOT_OF_TRANSACTIONS]
    return _led_by_time(batch.select(names), "event_time_us")


def _labels_table(batch: pa.RecordBatch, groups: Sequence[Group]) -> pa.Table:
    """Labels with who sent them: empty if nobody is known, null for imports."""
    labels = _led_by_time(batch.select(["sequence", *_LABEL_COLUMNS]), "received_at_us")
    firsts = np.array([group.first_sequence for group in groups], dtype=np.int64)
    callers = pa.array([_caller_of(group) for group in groups], pa.string())
    of_group = np.searchsorted(firsts, labels.column("sequence").to_numpy(), side="right") - 1
    return labels.append_column("called_by", callers.take(pa.array(of_group)))


def _caller_of(group: Group) -> str | None:
    return decode_labels(group.payload).called_by if group.kind == GroupKind.LABELS else None


def _led_by_time(batch: pa.RecordBatch, time_us: str) -> pa.Table:
    """The batch with its sequence first and its time as a timestamp second."""
    others = [name for name in batch.schema.names if name != "sequence"]
    columns = [
        batch.column("sequence"),
        batch.column(time_us).cast(_TIME),
        *(batch.column(name) for name in others),
    ]
    return pa.Table.from_arrays(columns, names=["sequence", "event_timestamp", *others])


def _decisions_batch(in_log: Group) -> pa.RecordBatch:
    group = decode_decisions(in_log.payload)
    first_sequence, transactions = in_log.first_sequence, group.transactions
    n = len(transactions)
    flags, more = group.flag_array(), group.columns
    models = group.decided_by()
    event_times = pa.array([t.event_time_us for t in transactions], pa.int64())
    columns = [
        pa.array(np.arange(first_sequence, first_sequence + n)),
        event_times.cast(_TIME),
        pa.array([t.transaction_id for t in transactions], pa.string()),
        event_times,
        pa.array([max(t.received_at_us, in_log.floor_us) for t in transactions], pa.int64()),
        pa.array(group.deciding_probabilities()),
        pa.array(group.deciding_scores()),
        _outcomes(outcome_codes(flags)),
        *(
            pa.array((flags & bit) > 0)
            for bit in (FLAG_IS_FRAUD, FLAG_DEGRADED, FLAG_LATE_EVENT, FLAG_EXPIRED_EVENT)
        ),
        pa.array([name for name, _ in models], pa.string()),
        pa.array([version for _, version in models], pa.string()),
        pa.array([group.plan_hash] * n, pa.string()),
        pa.array(np.frombuffer(group.latencies_us, "<u4").astype(np.int64)),
        _lists(np.frombuffer(group.reason_features, "<i2").reshape(n, N_REASONS)),
        _lists(np.frombuffer(group.reason_contributions, "<f4").reshape(n, N_REASONS)),
        _lists(group.vector_array()),
        pa.array([group.policy_hash] * n, pa.string()),
        _outcomes(group.base_outcome_codes()),
        pa.array(more.eligible_array(n)),
        pa.array(more.propensity_array(n)),
        pa.array([list(fired) for fired in more.rules_by_row(n)], pa.list_(pa.string())),
        pa.array(more.callers_by_row(n), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DECISIONS_SCHEMA)


def _outcomes(codes: npt.NDArray[np.unsignedinteger]) -> pa.Array:
    return pa.array([OUTCOMES[code].value for code in codes.tolist()], pa.string())


def _lists(rows: npt.NDArray[np.int16] | npt.NDArray[np.float32]) -> pa.Array:
    """A list per row; NaN stays NaN, as the vectors have it."""
    n, width = rows.shape
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(offsets, pa.array(rows.ravel()))
