"""Log entries as columns, and batches whose attribute columns differ brought to one schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, Entry, Label, PartlyTracked, Transaction, Void
from sentinel.ingest.columns import numbers_as_text
from sentinel.log.schema import (
    ATTRIBUTE_PREFIX,
    KIND_LABEL,
    KIND_TRANSACTION,
    KIND_VOID,
    LOG_SCHEMA,
    UNTRACKED,
    UNTRACKED_SEPARATOR,
)

_KINDS: Final = {
    Transaction: KIND_TRANSACTION,
    PartlyTracked: KIND_TRANSACTION,
    Label: KIND_LABEL,
    Void: KIND_VOID,
}


def entries_batch(entries: Sequence[Entry], is_text: Mapping[str, bool]) -> pa.RecordBatch:
    """Log entries as a log batch.

    Args:
        entries: In log order.
        is_text: For every attribute with a value, whether its values are text or numbers.
    """
    transactions = [entry for entry in entries if isinstance(entry, Transaction)]
    labels = [entry for entry in entries if isinstance(entry, Label)]
    voids = [entry for entry in entries if isinstance(entry, Void)]
    parts = []
    if transactions:
        parts.append(_transactions_batch(transactions, is_text))
    if labels:
        parts.append(_labels_batch(labels))
    if voids:
        parts.append(_voids_batch(voids))
    if len(parts) == 1:
        return parts[0]
    kinds = np.array([_KINDS[type(entry)] for entry in entries], dtype=np.int8)
    order = np.empty(len(entries), dtype=np.int64)
    order[np.argsort(kinds, kind="stable")] = np.arange(len(entries))
    return unify(parts).take(pa.array(order))


def unify(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Log batches joined into one; what a batch lacks is null.

    Columns come in the order of `LOG_SCHEMA`, then as they turn up.

    An attribute that is numbers here and text there becomes text (see `as_text`), which suits
    files that people query. Don't feed it to the fold, where a number must stay one.
    """
    if len(batches) == 1:
        return batches[0]
    kinds: dict[str, pa.DataType] = {}
    for batch in batches:
        for field in batch.schema:
            if kinds.setdefault(field.name, field.type) != field.type:
                kinds[field.name] = pa.string()
    schema = pa.schema(
        list(LOG_SCHEMA)
        + [pa.field(name, kind) for name, kind in kinds.items() if name not in LOG_SCHEMA.names]
    )
    return pa.concat_batches([conform(batch, schema) for batch in batches])


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with exactly the columns of a schema; numbers become text where it says so."""
    columns = []
    for field in schema:
        at = batch.schema.get_field_index(field.name)
        if at < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
        elif batch.schema.field(at).type == field.type:
            columns.append(batch.column(at))
        else:
            columns.append(numbers_as_text(batch.column(at)))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _transactions_batch(
    transactions: Sequence[Transaction], is_text: Mapping[str, bool]
) -> pa.RecordBatch:
    n = len(transactions)
    columns: dict[str, pa.Array] = {
        "kind": pa.array(np.full(n, KIND_TRANSACTION, dtype=np.int8)),
        "transaction_id": pa.array([t.transaction_id for t in transactions], pa.string()),
        "received_at_us": pa.array([t.received_at_us for t in transactions], pa.int64()),
        "event_time_us": pa.array([t.event_time_us for t in transactions], pa.int64()),
        "amount_minor": pa.array([t.amount_minor for t in transactions], pa.int64()),
    }
    for name in ENTITY_COLUMNS:
        columns[name] = pa.array([getattr(t, name) for t in transactions], pa.string())
    if any(t.untracked for t in transactions):
        views = [UNTRACKED_SEPARATOR.join(t.untracked) or None for t in transactions]
        columns[UNTRACKED] = pa.array(views, pa.string())
    attributes = [t.attributes for t in transactions]
    for name, text in is_text.items():
        kind = pa.string() if text else pa.float64()
        columns[ATTRIBUTE_PREFIX + name] = pa.array([a.get(name) for a in attributes], kind)
    return _with_nulls(columns, n)


def _labels_batch(labels: Sequence[Label]) -> pa.RecordBatch:
    columns: dict[str, pa.Array] = {
        "kind": pa.array(np.full(len(labels), KIND_LABEL, dtype=np.int8)),
        "transaction_id": pa.array([x.transaction_id for x in labels], pa.string()),
        "received_at_us": pa.array([x.received_at_us for x in labels], pa.int64()),
        "label_id": pa.array([x.label_id for x in labels], pa.string()),
        "verdict": pa.array([x.verdict.value for x in labels], pa.string()),
        "origin": pa.array([x.origin for x in labels], pa.string()),
    }
    return _with_nulls(columns, len(labels))


def _voids_batch(voids: Sequence[Void]) -> pa.RecordBatch:
    columns: dict[str, pa.Array] = {
        "kind": pa.array(np.full(len(voids), KIND_VOID, dtype=np.int8)),
        "transaction_id": pa.array([x.transaction_id for x in voids], pa.string()),
        "received_at_us": pa.array([x.received_at_us for x in voids], pa.int64()),
    }
    return _with_nulls(columns, len(voids))


def _with_nulls(columns: dict[str, pa.Array], rows: int) -> pa.RecordBatch:
    """A log batch: the columns of `LOG_SCHEMA` that are given, nulls, then the attributes."""
    fields = list(LOG_SCHEMA) + [
        pa.field(name, column.type)
        for name, column in columns.items()
        if name not in LOG_SCHEMA.names
    ]
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(rows, field.type)
        for field in fields
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def payments_batch(transactions: Sequence[Transaction]) -> pa.RecordBatch:
    """Transactions as a log batch, without their attributes."""
    bare = [msgspec.structs.replace(one, attributes={}) for one in transactions]
    return entries_batch(bare, {})
