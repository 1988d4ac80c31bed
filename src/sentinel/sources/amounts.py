"""Amounts of money to whole minor units, exactly: no amount is ever rounded."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import MAX_AMOUNT_MINOR
from sentinel.sources.base import BoolMask, Finding
from sentinel.sources.columns import NUMBER_PATTERN, flat, is_text, mask_of

_EXPONENT_PATTERN = r"[eE]"


def amount_column(
    column: pa.Array | pa.ChunkedArray,
    *,
    scale: int,
    minor: bool = False,
    decimal_point: str = ".",
    thousands: str = "",
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """Amounts in minor units, and the rows that have none.

    Text is read digit by digit. A binary float counts as the decimal it is nearest to, so
    57.16 is 5716 cents although no float is 57.16.

    Args:
        column: Amounts: text, integers, floats or decimals.
        scale: Decimals of one unit of money.
        minor: The source's amounts are minor units already.
        decimal_point: Of text.
        thousands: Separator between groups of three digits of text, if any.

    Returns:
        int64 amounts, null where there is none, and findings ``invalid_amount`` (not a number),
        ``amount_precision`` (more decimals than the scale), ``amount_too_large``.

    >>> amounts, findings = amount_column(pa.array(["57.16", "1.005", "-3", "n/a"]), scale=2)
    >>> amounts.to_pylist()
    [5716, None, -300, None]
    >>> [(finding.code, finding.rows.tolist()) for finding in findings]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('invalid_amount', [False, False, False, True]),
     ('amount_precision', [False, True, False, False])]
    """
    values = flat(column)
    shift = 0 if minor else scale
    if is_text(values.type):
        parsed = _from_text(values, shift, decimal_point, thousands)
    elif pa.types.is_floating(values.type):
        parsed = _from_float(values, shift)
    elif pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        parsed = _from_text(pc.cast(values, pa.string()), shift, ".", "")
    else:
        given = mask_of(pc.is_valid(values))
        none = np.zeros(len(values), np.bool_)
        parsed = (np.zeros(len(values), np.int64), ~given, given, none, none)
    return _findings(parsed, values, shift, minor)


# Amounts, and masks: missing, not a number, too many decimals, too large.
_Parsed = tuple[np.ndarray, BoolMask, BoolMask, BoolMask, BoolMask]


def _findings(
    parsed: _Parsed, values: pa.Array, shift: int, minor: bool
) -> tuple[pa.Array, tuple[Finding, ...]]:
    amounts, missing, invalid, imprecise, too_large = parsed
    unit = "minor units are whole" if minor else f"at most {shift} are allowed (the money scale)"
    found = []
    for code, rows, words in (
        ("invalid_amount", invalid, "the amount {} is not a number"),
        ("amount_precision", imprecise, "the amount {} has too many decimals; " + unit),
        (
            "amount_too_large",
            too_large,
            "the amount {} is beyond 10^12 minor units; is it in minor units already?",
        ),
    ):
        if rows.any():
            reasons: list[str | None] = [None] * len(rows)
            for row in np.flatnonzero(rows).tolist():
                reasons[row] = words.format(repr(values[row].as_py()))
            found.append(Finding(code, rows, reasons))
    bad = missing | invalid | imprecise | too_large
    return pa.array(np.where(bad, 0, amounts), pa.int64(), mask=bad), tuple(found)


def _from_float(values: pa.Array, shift: int) -> _Parsed:
    missing = mask_of(pc.is_null(values))
    narrow = pa.types.is_float32(values.type) or pa.types.is_float16(values.type)
    numbers = pc.cast(values, pa.float64()).to_numpy(zero_copy_only=False)
    invalid = ~np.isfinite(numbers) & ~missing
    numbers = np.where(np.isfinite(numbers), numbers, 0.0)
    power = 10.0**shift
    too_large = np.abs(numbers) > MAX_AMOUNT_MINOR / power
    scaled = np.where(too_large, 0.0, numbers) * power
    rounded = np.rint(scaled)
    nearest = rounded / power
    if narrow:
        exact = nearest.astype(np.float32) == numbers.astype(np.float32)
    else:
        # A computed 0.30000000000000004 is 0.30: an error of the last place is no decimal.
        exact = (nearest == numbers) | (np.abs(scaled - rounded) <= 1e-6)
    return rounded.astype(np.int64), missing, invalid, ~exact & ~too_large, too_large


def _from_text(values: pa.Array, shift: int, decimal_point: str, thousands: str) -> _Parsed:
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    missing = mask_of(pc.is_null(text))
    grouped = np.ones(len(text), np.bool_)
    if thousands:
        group, point = re.escape(thousands), re.escape(decimal_point)
        digits = rf"(\d{{1,3}}({group}\d{{3}})+|\d*)"
        grouped = mask_of(pc.match_substring_regex(text, rf"^[+-]?{digits}({point}.*)?$"))
        text = pc.replace_substring(text, thousands, "")
    if decimal_point != ".":
        # A dot that is not declared must not pass for a decimal point.
        text = pc.replace_substring(pc.replace_substring(text, ".", "?"), decimal_point, ".")
    good = grouped & mask_of(pc.match_substring_regex(text, NUMBER_PATTERN))
    exponent = good & mask_of(pc.match_substring_regex(text, _EXPONENT_PATTERN))
    plain = pc.if_else(pa.array(good & ~exponent), text, pa.scalar("0", pa.string()))
    parts = pc.extract_regex(plain, r"^(?P<sign>[+-]?)0*(?P<whole>\d*)(?P<rest>\.?\d*)$")
    sign, whole = parts.field("sign"), parts.field("whole")
    fraction = pc.utf8_rtrim(pc.utf8_ltrim(parts.field("rest"), "."), "0")
    lengths = pc.utf8_length(fraction).to_numpy(zero_copy_only=False)
    imprecise = good & ~exponent & (lengths > shift)
    too_large = mask_of(pc.greater(pc.utf8_length(whole), 13 - shift)) & good
    readable = good & ~exponent & ~imprecise & ~too_large
    padded = pc.utf8_rpad(pc.if_else(pa.array(readable), fraction, ""), shift, "0")
    digits = pc.binary_join_element_wise(
        pc.if_else(pa.array(readable), whole, pa.scalar("0")), padded, ""
    )
    digits = pc.if_else(pc.equal(digits, ""), pa.scalar("0"), digits)
    amounts = pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False).copy()
    too_large |= readable & (amounts > MAX_AMOUNT_MINOR)
    amounts[mask_of(pc.equal(sign, "-"))] *= -1
    if exponent.any():
        floats = pc.cast(pc.utf8_ltrim(text.filter(pa.array(exponent)), "+"), pa.float64())
        rows = np.flatnonzero(exponent)
        amounts[rows], _, bad, rough, large = _from_float(floats, shift)
        imprecise[rows], too_large[rows] = rough, large | bad
    return amounts, missing, ~good & ~missing, imprecise, too_large
