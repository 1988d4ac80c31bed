"""Columns of any type to ids, categories and numbers, a whole column at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.sources.base import BoolMask

NUMBER_PATTERN: Final = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_WHOLE_BOUND: Final = 2.0**53


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one plain array: chunks combined, dictionaries decoded."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no chunk at all
        column = pa.array([], column.type)
    return column.dictionary_decode() if isinstance(column, pa.DictionaryArray) else column


def mask_of(column: pa.Array) -> BoolMask:
    """A boolean array as a numpy mask; null counts as False.

    >>> mask_of(pa.array([True, None, False])).tolist()
    [True, False, False]
    """
    filled = pc.fill_null(flat(column), False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this Arrow type holds text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def id_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Identifiers: text without surrounding blanks; whole numbers without a decimal point.

    Empty text and NaN are null: an id that is not there.

    >>> id_column(pa.array([13926.0, None])).to_pylist()
    ['13926', None]
    >>> id_column(pa.array([" c-1 ", ""])).to_pylist()
    ['c-1', None]
    """
    values = flat(column)
    if is_text(values.type):
        text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    elif pa.types.is_floating(values.type):
        values = pc.cast(values, pa.float64())
        numbers = np.nan_to_num(values.to_numpy(zero_copy_only=False), nan=0.5)
        whole = (numbers == np.floor(numbers)) & (np.abs(numbers) < _WHOLE_BOUND)
        as_integer = pc.cast(pa.array(np.where(whole, numbers, 0).astype(np.int64)), pa.string())
        given = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        text = pc.if_else(pa.array(whole), as_integer, pc.cast(given, pa.string()))
        text = pc.if_else(pc.is_valid(given), text, pa.scalar(None, pa.string()))
    elif pa.types.is_binary(values.type) or pa.types.is_fixed_size_binary(values.type):
        text = pa.array([None if item is None else item.hex() for item in values.to_pylist()])
        text = pc.cast(text, pa.string())
    else:
        text = pc.cast(values, pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def joined_id(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array:
    """One identifier of several columns, joined by ``|``; "-" stands for a missing part.

    Null where all parts are missing.

    >>> joined_id([pa.array([13926, None]), pa.array(["visa", None])]).to_pylist()
    ['13926|visa', None]
    >>> joined_id([pa.array([None], pa.int64()), pa.array(["visa"])]).to_pylist()
    ['-|visa']
    """
    parts = [id_column(column) for column in columns]
    if len(parts) == 1:
        return parts[0]
    joined = pc.binary_join_element_wise(*parts, "|", null_handling="replace", null_replacement="-")
    given = pc.is_valid(parts[0])
    for part in parts[1:]:
        given = pc.or_(given, pc.is_valid(part))
    return pc.if_else(given, joined, pa.scalar(None, pa.string()))


def category_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Categories: text; whole numbers, also those written as "166.0", without decimals.

    >>> category_column(pa.array(["166.0", "chrome 63.0 ", "", None])).to_pylist()
    ['166', 'chrome 63.0', None, None]
    """
    text = id_column(column)
    return pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")


def number_column(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, BoolMask]:
    """Numbers as float64, and a mask of what is there but is none (infinity included).

    NaN is null: unknown.

    >>> values, bad = number_column(pa.array(["1.5", "-2e3", "", "many", None]))
    >>> values.to_pylist(), bad.tolist()
    ([1.5, -2000.0, None, None, None], [False, False, False, True, False])
    """
    values = flat(column)
    nothing = pa.scalar(None, pa.float64())
    if is_text(values.type):
        text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
        lower = pc.utf8_lower(text)
        text = pc.if_else(
            pc.is_in(lower, pa.array(["", "nan"])), pa.scalar(None, pa.string()), text
        )
        good = pc.match_substring_regex(text, NUMBER_PATTERN)
        clean = pc.if_else(good, pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
        numbers = pc.cast(clean, pa.float64())
        given = mask_of(pc.is_valid(text))
    elif pa.types.is_null(values.type):
        return pa.nulls(len(values), pa.float64()), np.zeros(len(values), np.bool_)
    else:
        if pa.types.is_boolean(values.type):
            values = pc.cast(values, pa.int8())
        try:
            numbers = pc.cast(values, pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return pa.nulls(len(values), pa.float64()), mask_of(pc.is_valid(values))
        numbers = pc.if_else(pc.is_nan(numbers), nothing, numbers)
        given = mask_of(pc.is_valid(numbers))
    finite = pc.is_finite(numbers)
    return pc.if_else(finite, numbers, nothing), given & ~mask_of(finite)
