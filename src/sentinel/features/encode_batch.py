"""The columnar twin of `encode`: a log batch's transactions to the kernel's events at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS
from sentinel.features.arena import KEY_SEPARATOR, Arena
from sentinel.features.encode import _COMPARE, category_codes, is_boolean, text_hash
from sentinel.features.kernel.words import NO_RECORD
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Filter, View
from sentinel.features.plan.plan import UNKNOWN_CATEGORY_CODE
from sentinel.features.plan.program import EVENT_FILTERS, EVENT_VIEWS, KIND_ADD, Program
from sentinel.ingest.values import as_text
from sentinel.log.schema import ATTRIBUTE_PREFIX, UNTRACKED, UNTRACKED_SEPARATOR

Events = npt.NDArray[np.int64]
Given = npt.NDArray[np.float32]


def encode_batch(
    program: Program,
    arena: Arena,
    batch: pa.RecordBatch,
    kind: int = KIND_ADD,
    events: Events | None = None,
) -> tuple[Events, Given]:
    """Encode the transactions of a log batch; makes records for new entities.

    Args:
        program: The compiled plan.
        arena: Where the entities' records are.
        batch: Log batch of transactions only.
        kind: What the events ask for.
        events: Where they go, int64 (n_rows, event_width), whatever it holds; default: new memory.

    Returns:
        int64 (n_rows, event_width) events and float32 (n_rows, n_given) request values.
    """
    plan = program.plan
    rows = batch.num_rows
    if events is None:
        events = np.empty((rows, program.event_width), dtype=np.int64)
    events[:] = 0
    events[:, 0] = batch.column("event_time_us").to_numpy(zero_copy_only=False)
    events[:, 1] = batch.column("amount_minor").to_numpy(zero_copy_only=False)
    events[:, 2] = kind
    for bit, conditions in enumerate(plan.filter_sets):
        events[:, EVENT_FILTERS] |= _satisfied(batch, conditions).astype(np.int64) << bit
    at = batch.schema.get_field_index(UNTRACKED)
    untracked = batch.column(at) if at >= 0 and batch.column(at).null_count < rows else None
    for i, view in enumerate(plan.views):
        keys = [batch.column(key) for key in view.keys]
        joined = keys[0] if len(keys) == 1 else pc.binary_join_element_wise(*keys, KEY_SEPARATOR)
        if untracked is not None:
            joined = pc.if_else(_names(untracked, view), pa.scalar(None, pa.string()), joined)
        events[:, EVENT_VIEWS + i] = _records(arena, i, joined)
    hashes = EVENT_VIEWS + 2 * len(plan.views)
    for i, column in enumerate(plan.distinct_columns):
        values = _text_column(batch, column)
        if values is not None:
            events[:, hashes + i] = _by_value(values, _hashes, 0)
    given = np.full((rows, program.n_given), np.nan, dtype=np.float32)
    place = 0
    for feature in plan.request:
        if feature.kind == "category":
            values = _text_column(batch, feature.column)
            if values is not None:
                codes = category_codes(feature.categories)
                coded = _by_value(values, partial(_codes, codes), -1)
                given[:, place] = np.where(coded < 0, np.nan, coded)
            place += 1
        elif feature.kind == "number":
            numbers = _number_column(batch, feature.column)
            if numbers is not None:
                with np.errstate(over="ignore"):
                    given[:, place] = numbers.astype(np.float32)
            place += 1
    return events, given


def _names(untracked: pa.Array, view: View) -> pa.Array:
    """Which rows name a view among those whose records do not hold them, bool (n_rows,)."""
    lists, names = untracked.unique().drop_null(), view.untracked_as
    with_view = [x for x in lists.to_pylist() if not names.isdisjoint(x.split(UNTRACKED_SEPARATOR))]
    return pc.is_in(untracked, value_set=pa.array(with_view, pa.string()))


def _records(arena: Arena, view: int, keys: pa.Array) -> npt.NDArray[np.int64]:
    """Where each row's record begins, NO_RECORD where the key is null: int64 (n_rows,)."""
    if keys.null_count == 0:
        return arena.locate_column(view, keys)
    offsets = np.full(len(keys), NO_RECORD, dtype=np.int64)
    held = keys.is_valid().to_numpy(zero_copy_only=False)
    offsets[held] = arena.locate_column(view, keys.drop_null())
    return offsets


def _hashes(texts: list[str]) -> npt.NDArray[np.int64]:
    return np.array([text_hash(text) for text in texts], dtype=np.int64)


def _codes(codes: dict[str, int], texts: list[str]) -> npt.NDArray[np.int64]:
    return np.array([codes.get(t, UNKNOWN_CATEGORY_CODE) for t in texts], dtype=np.int64)


def _by_value(
    column: pa.Array, compute: Callable[[list[str]], npt.NDArray[np.int64]], missing: int
) -> npt.NDArray[np.int64]:
    """Compute once per distinct text and spread over the rows: int64 (n_rows,)."""
    encoded = column.dictionary_encode()
    per_value = compute(encoded.dictionary.to_pylist())
    indices = encoded.indices
    if indices.null_count:
        places = indices.fill_null(0).to_numpy(zero_copy_only=False)
        known = indices.is_valid().to_numpy(zero_copy_only=False)
        if len(per_value) == 0:
            return np.full(len(column), missing, dtype=np.int64)
        return np.where(known, per_value[places], missing)
    spread: npt.NDArray[np.int64] = per_value[indices.to_numpy(zero_copy_only=False)]
    return spread


def _column(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    column = name if name in ENTITY_COLUMNS or name == AMOUNT else ATTRIBUTE_PREFIX + name
    at = batch.schema.get_field_index(column)
    return batch.column(at) if at >= 0 else None


def _text_column(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """A column as the text forms of its values, null where unknown; None if there is none."""
    column = _column(batch, name)
    if column is None or pa.types.is_string(column.type):
        return column
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    numbers = column.dictionary_encode()
    texts = pa.array([as_text(value) for value in numbers.dictionary.to_pylist()], pa.string())
    return texts.take(numbers.indices)


def _number_column(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.float64] | None:
    """A column as float64, NaN where unknown; None if there is none or it holds text."""
    column = _column(batch, name)
    if column is None or pa.types.is_string(column.type):
        return None
    numbers: npt.NDArray[np.float64] = column.to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers


def _satisfied(batch: pa.RecordBatch, conditions: tuple[Filter, ...]) -> npt.NDArray[np.bool_]:
    result = np.ones(batch.num_rows, dtype=np.bool_)
    for condition in conditions:
        compare = _COMPARE[condition.operator]
        if condition.column == AMOUNT:
            amounts = batch.column(AMOUNT).to_numpy(zero_copy_only=False)
            result &= np.asarray(compare(amounts, condition.value))
        elif isinstance(condition.value, str):
            texts = _text_column(batch, condition.column)
            if texts is None:
                result[:] = False
            else:
                test = pc.equal if condition.operator == "==" else pc.not_equal
                wanted = condition.value
                if is_boolean(wanted):
                    texts, wanted = pc.utf8_lower(texts), wanted.lower()
                held = test(texts, pa.scalar(wanted)).fill_null(False)
                result &= held.to_numpy(zero_copy_only=False)
        else:
            numbers = _number_column(batch, condition.column)
            if numbers is None:
                result[:] = False
            else:
                known = ~np.isnan(numbers)
                result &= known & np.asarray(compare(numbers, condition.value))
    return result
