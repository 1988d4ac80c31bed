"""Log batches with the columns that a plan reads, the same ones whatever a batch has."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.plan import Plan
from sentinel.ingest.columns import numbers_as_text
from sentinel.log.schema import ATTRIBUTE_PREFIX, LOG_SCHEMA, UNTRACKED


def used_columns(plan: Plan) -> dict[str, pa.DataType]:
    """Columns beside those of `LOG_SCHEMA` that a plan reads, and as what."""
    used = {f.column for f in plan.request if f.column} | set(plan.distinct_columns)
    used |= {condition.column for conditions in plan.filter_sets for condition in conditions}
    attributes = {
        ATTRIBUTE_PREFIX + name: pa.float64() if name in plan.number_columns else pa.string()
        for name in sorted(used - {AMOUNT, *ENTITY_COLUMNS})
    }
    return {UNTRACKED: pa.string(), **attributes}


def only_used(batch: pa.RecordBatch, plan: Plan) -> pa.RecordBatch:
    """A log batch with the columns that the plan reads, attributes in the type it reads."""
    arrays = [batch.column(name) for name in LOG_SCHEMA.names]
    fields = list(LOG_SCHEMA)
    for name, kind in used_columns(plan).items():
        at = batch.schema.get_field_index(name)
        column = batch.column(at) if at >= 0 else pa.nulls(batch.num_rows, kind)
        arrays.append(as_kind(column, kind))
        fields.append(pa.field(name, kind))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def as_kind(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column as the plan reads it: numbers have a text form, text is no number."""
    if column.type == kind:
        return column
    if kind == pa.string():
        unknown = pc.is_nan(column)  # as `encode_batch` has it
        return numbers_as_text(pc.if_else(unknown, pa.scalar(None, column.type), column))
    return pa.nulls(len(column), kind)
