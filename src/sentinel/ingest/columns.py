"""Whole Arrow columns in their normal form; the twins of `values`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import MAX_ID_LENGTH
from sentinel.ingest.values import (
    CONTROL_CHARACTER,
    CONTROL_PATTERN,
    EXACT,
    LOST_DIGITS,
    LOST_PATTERN,
    NUMBER_PATTERN,
    TOO_LONG,
    WHOLE_PATTERN,
    Flaw,
    as_text,
    has_lost_digits,
    normal_address,
    plain_text,
    without_decimals,
)

BoolMask = npt.NDArray[np.bool_]

# `pyarrow.array` and `pyarrow.scalar` import pandas, which a scorer must do without.
_NO_TEXT: Final = pa.nulls(1, pa.string())[0]
_TRUE_FALSE: Final = pa.StringArray.from_buffers(
    2, pa.py_buffer(np.array([0, 4, 9], dtype=np.int32)), pa.py_buffer(b"truefalse")
)
_FLOAT_BOUND: Final = {"halffloat": 2**11, "float": 2**24, "double": EXACT}


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
    """Ids in normal form, null where there is none; see `values.normal_id`.

    What cannot be an id stays recognisable for `flaws`.

    >>> id_column(pa.array([13926.0, None, 1234567890123456789.0])).to_pylist()
    ['13926', None, '1.2345678901234568e+18']
    >>> id_column(pa.array([" c-1 ", "", "1001.0"])).to_pylist()
    ['c-1', None, '1001']
    """
    values = flat(column)
    if not is_text(values.type):
        return _plain_texts(values)
    text = _trimmed(values)
    return _replaced(
        text, _whole(text), lambda item: item if has_lost_digits(item) else without_decimals(item)
    )


def address_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """IP addresses in their one spelling; see `values.normal_address`.

    >>> address_column(pa.array(["2001:DB8::1", "::ffff:192.0.2.1", "unknown"])).to_pylist()
    ['2001:db8::1', '192.0.2.1', 'unknown']
    """
    text = id_column(column)
    return _replaced(text, pc.match_substring(text, ":"), normal_address)


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
    joined = pc.if_else(given, joined, _NO_TEXT)
    for part in parts:  # what cannot be a part must not hide behind the others
        lost = _lost(part)
        if lost.any():
            joined = pc.if_else(pa.array(lost), part, joined)
    return joined


def category_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Categories in normal form; see `values.normal_category`.

    >>> category_column(pa.array(["166.0", "chrome 63.0 ", "", None, "TRUE"])).to_pylist()
    ['166', 'chrome 63.0', None, None, 'true']
    """
    values = flat(column)
    if pa.types.is_floating(values.type):
        return _each(pc.cast(values, pa.float64()), lambda v: as_text(v) if v == v else None)
    if not is_text(values.type):
        return _plain_texts(values)
    text = _trimmed(values)
    text = _replaced(text, _whole(text), without_decimals)
    length = pc.binary_length(text)
    lower = pc.utf8_lower(text) if pc.any(pc.is_in(length, pa.array([4, 5]))).as_py() else None
    if lower is None:
        return text
    return pc.if_else(pc.fill_null(pc.is_in(lower, _TRUE_FALSE), False), lower, text)


def number_column(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, BoolMask]:
    """Numbers as float64, and a mask of what is there but is none (infinity included).

    NaN is null: unknown. The words true and false are 1 and 0; see `values.number_of`.

    >>> values, bad = number_column(pa.array(["1.5", "-2e3", "", "many", None, "True"]))
    >>> values.to_pylist(), bad.tolist()
    ([1.5, -2000.0, None, None, None, 1.0], [False, False, False, True, False, False])
    """
    values = flat(column)
    nothing = pa.scalar(None, pa.float64())
    if is_text(values.type):
        text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
        good = pc.match_substring_regex(text, NUMBER_PATTERN)
        clean = pc.if_else(good, pc.utf8_ltrim(text, "+"), _NO_TEXT)
        numbers = pc.cast(clean, pa.float64())
        if pc.all(good).as_py() is not False:
            given = mask_of(pc.is_valid(text))
        else:
            lower = pc.utf8_lower(text)
            absent = pc.is_in(lower, pa.array(["", "nan"]))
            given = mask_of(pc.and_(pc.is_valid(text), pc.invert(absent)))
            for word, number in (("true", 1.0), ("false", 0.0)):
                said = pc.fill_null(pc.equal(lower, word), False)
                numbers = pc.if_else(said, pa.scalar(number), numbers)
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


def id_flaws(ids: pa.Array) -> Iterator[tuple[Flaw, BoolMask]]:
    r"""Why ids in normal form cannot be taken, with the rows; see `values.id_flaw`.

    >>> ids = pa.array(["a", "a\nb", None, "1.5e+20"])
    >>> [(flaw.code, rows.tolist()) for flaw, rows in id_flaws(ids)]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('control_character', [False, True, False, False]),
     ('lost_digits', [False, False, False, True])]
    """
    control = _control(ids)
    if control.any():
        yield CONTROL_CHARACTER, control
    long = mask_of(pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH))
    if long.any():
        yield TOO_LONG, long & ~control
    lost = _lost(ids)
    if lost.any():
        yield LOST_DIGITS, lost & ~long


def text_flaws(texts: pa.Array) -> Iterator[tuple[Flaw, BoolMask]]:
    """Why categories cannot be stored, with the rows; see `values.text_flaw`."""
    control = _control(texts)
    if control.any():
        yield CONTROL_CHARACTER, control


def _control(texts: pa.Array) -> BoolMask:
    """Mask of texts with a control character; most columns are through with a glance."""
    if pc.all(pc.ascii_is_printable(texts)).as_py() is not False:
        return np.zeros(len(texts), np.bool_)
    return mask_of(pc.match_substring_regex(texts, CONTROL_PATTERN))


def _trimmed(values: pa.Array) -> pa.Array:
    """Text without white space around it; null where nothing is left."""
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    return pc.if_else(pc.equal(text, ""), _NO_TEXT, text)


def _whole(text: pa.Array) -> pa.Array:
    """Mask of texts such as "1001.0"; most columns are through with a glance at their ends."""
    ends = pc.ends_with(text, ".0")
    if not pc.any(pc.ends_with(text, "00")).as_py():
        if not pc.any(ends).as_py():
            return ends
    return pc.match_substring_regex(text, WHOLE_PATTERN)


def _lost(text: pa.Array) -> BoolMask:
    """Mask of texts that lost digits."""
    suspects = pc.match_substring_regex(text, LOST_PATTERN)
    if not pc.any(suspects).as_py():
        return np.zeros(len(text), np.bool_)
    rows = np.flatnonzero(mask_of(suspects))
    lost = np.zeros(len(text), np.bool_)
    lost[rows] = [has_lost_digits(item) for item in text.take(pa.array(rows)).to_pylist()]
    return lost


def _replaced(text: pa.Array, where: pa.Array, replace: Callable[[str], str]) -> pa.Array:
    """Some texts replaced, each distinct one once."""
    if not pc.any(where).as_py():
        return text
    where = pc.fill_null(where, False)
    return pc.replace_with_mask(text, where, _each(text.filter(where), replace))


def _each(values: pa.Array, make: Callable[..., str | None]) -> pa.Array:
    """The texts of values, each distinct one made once."""
    encoded = values.dictionary_encode()
    made = pa.array([make(item) for item in encoded.dictionary.to_pylist()], pa.string())
    return made.take(encoded.indices)


def _plain_texts(values: pa.Array) -> pa.Array:
    """Values of other types as text in normal form."""
    kind = values.type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return pc.cast(values, pa.string())
    if pa.types.is_floating(kind):
        bound = _FLOAT_BOUND[str(kind)]
        return _each(pc.cast(values, pa.float64()), lambda value: _float_id(value, bound))
    if isinstance(values, pa.ExtensionArray):
        if str(kind) == "extension<arrow.uuid>":
            return pa.array([plain_text(item) for item in values.to_pylist()], pa.string())
        return id_column(values.storage)
    if pa.types.is_decimal(kind) or _is_binary(kind):
        return _each(values, plain_text)
    return pc.cast(values, pa.string())


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def _float_id(value: float, bound: int) -> str | None:
    if value != value:
        return None
    return as_text(value) if abs(value) < bound or abs(value) >= EXACT else f"{value:e}"


def numbers_as_text(numbers: pa.Array) -> pa.Array:
    """The text forms of numbers, null where null."""
    values = numbers.dictionary_encode()
    texts = pa.array([as_text(value) for value in values.dictionary.to_pylist()], pa.string())
    return texts.take(values.indices)
