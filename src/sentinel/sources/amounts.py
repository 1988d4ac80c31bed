"""Amounts of money to whole minor units, exactly: no amount is ever rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import MAX_AMOUNT_MINOR
from sentinel.sources.amount_text import AmountText, amount_text
from sentinel.sources.base import BoolMask, Finding
from sentinel.sources.columns import NUMBER_PATTERN, flat, is_text, mask_of, number_column

_EXPONENT_PATTERN: Final = r"[eE]"


@dataclass(frozen=True)
class Amounts:
    """A column of amounts, read.

    Attributes:
        minor: int64 minor units, null where there is none.
        findings: The rows that have no amount and why.
        money: Sign or code of the currency beside each amount; None where no amount has one.
    """

    minor: pa.Array
    findings: tuple[Finding, ...]
    money: pa.Array | None


def amount_column(
    column: pa.Array | pa.ChunkedArray,
    *,
    scale: int,
    minor: bool = False,
    decimal_point: str = ".",
    thousands: str = "",
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """Amounts in minor units, and the rows that have none; see `read_amounts`.

    >>> amounts, findings = amount_column(pa.array(["57.16", "1.005", "($3)", "n/a"]), scale=2)
    >>> amounts.to_pylist()
    [5716, None, -300, None]
    >>> [(finding.code, finding.rows.tolist()) for finding in findings]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('invalid_amount', [False, False, False, True]),
     ('amount_precision', [False, True, False, False])]
    """
    read = read_amounts(
        column, scale=scale, minor=minor, decimal_point=decimal_point, thousands=thousands
    )
    return read.minor, read.findings


def read_amounts(
    column: pa.Array | pa.ChunkedArray,
    *,
    scale: int,
    minor: bool = False,
    decimal_point: str = ".",
    thousands: str = "",
    rates: npt.NDArray[np.float64] | None = None,
    rateless_because: Callable[[int], str] | None = None,
) -> Amounts:
    """Amounts in minor units.

    Text is read digit by digit. A binary float counts as the decimal it is nearest to, so
    57.16 is 5716 cents although no float is 57.16. Only an amount of another currency is
    rounded, once, to the nearest minor unit (ties to even) after its conversion.

    Args:
        column: Amounts: text, integers, floats or decimals. Around the digits of text there may
            be a currency's sign or code, a minus on either side, or brackets (negative).
        scale: Decimals of one unit of money.
        minor: The source's amounts are minor units already.
        decimal_point: Of text.
        thousands: Separator between groups of digits of text, if any.
        rates: float64 (n,), what one unit of each row's money is worth in the money of the
            deployment; NaN = unknown. None = all 1.
        rateless_because: Says of a row without a rate why it has none.

    Returns:
        The amounts, with findings ``invalid_amount`` (not a number, or no rate),
        ``amount_precision`` (more decimals than the scale), ``amount_too_large``.
    """
    values = flat(column)
    shift = 0 if minor else scale
    read: AmountText | None = None
    if is_text(values.type):
        read = amount_text(values, decimal_point, thousands)
        parsed = _from_text(read.digits, read.readable, shift)
    elif pa.types.is_floating(values.type):
        parsed = _from_float(values, shift)
    elif pa.types.is_integer(values.type) or pa.types.is_decimal(values.type):
        text = pc.cast(values, pa.string())
        parsed = _from_text(text, mask_of(pc.is_valid(text)), shift)
    else:
        given = mask_of(pc.is_valid(values))
        none = np.zeros(len(values), np.bool_)
        parsed = (np.zeros(len(values), np.int64), ~given, given, none, none)
    rateless = np.zeros(len(values), np.bool_)
    if rates is not None:
        numbers = read.digits if read is not None else values
        parsed, rateless = _converted(parsed, numbers, rates, shift)
    amounts, findings = _findings(parsed, rateless, values, shift, minor, read, rateless_because)
    return Amounts(amounts, findings, None if read is None else read.money)


# Amounts, and masks: missing, not a number, too many decimals, too large.
_Parsed = tuple[npt.NDArray[np.int64], BoolMask, BoolMask, BoolMask, BoolMask]


def _findings(
    parsed: _Parsed,
    rateless: BoolMask,
    values: pa.Array,
    shift: int,
    minor: bool,
    read: AmountText | None,
    because: Callable[[int], str] | None,
) -> tuple[pa.Array, tuple[Finding, ...]]:
    amounts, missing, invalid, imprecise, too_large = parsed
    unit = "minor units are whole" if minor else f"at most {shift} are allowed (the money scale)"
    found = []
    for code, rows, words in (
        ("invalid_amount", invalid, "the amount {} is not a number"),
        ("invalid_amount", rateless, "the amount {} has no rate"),
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
                if rows is invalid and read is not None:
                    reasons[row] += read.hint(row)  # type: ignore[operator]
                if rows is rateless and because is not None:
                    reasons[row] += f": {because(row)}"  # type: ignore[operator]
            found.append(Finding(code, rows, reasons))
    bad = missing | invalid | rateless | imprecise | too_large
    return pa.array(np.where(bad, 0, amounts), pa.int64(), mask=bad), tuple(found)


def _converted(
    parsed: _Parsed, values: pa.Array, rates: npt.NDArray[np.float64], shift: int
) -> tuple[_Parsed, BoolMask]:
    """Amounts times their rates, and the mask of the rows without a rate."""
    amounts, missing, invalid, imprecise, too_large = parsed
    given = ~missing & ~invalid
    rateless = given & ~((rates > 0) & np.isfinite(rates))
    rows = given & ~rateless & (rates != 1.0)
    floats, _ = number_column(values)
    numbers = np.nan_to_num(floats.to_numpy(zero_copy_only=False)) * 10.0**shift
    worth = np.where(rows, numbers, 0.0) * np.where(rows, rates, 0.0)
    beyond = np.abs(worth) > MAX_AMOUNT_MINOR
    amounts = np.where(rows, np.rint(np.where(beyond, 0.0, worth)).astype(np.int64), amounts)
    imprecise = imprecise & ~rows & ~rateless
    too_large = np.where(rows, beyond, too_large & ~rateless)
    return (amounts, missing, invalid, imprecise, too_large), rateless


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


def _from_text(text: pa.Array, readable: BoolMask, shift: int) -> _Parsed:
    """Amounts of plain numbers as text; ``readable`` is False where a text is none."""
    missing = mask_of(pc.is_null(text))
    good = readable & mask_of(pc.match_substring_regex(text, NUMBER_PATTERN))
    exponent = good & mask_of(pc.match_substring_regex(text, _EXPONENT_PATTERN))
    plain = pc.if_else(pa.array(good & ~exponent), text, pa.scalar("0", pa.string()))
    parts = pc.extract_regex(plain, r"^(?P<sign>[+-]?)0*(?P<whole>\d*)(?P<rest>\.?\d*)$")
    sign, whole = parts.field("sign"), parts.field("whole")
    fraction = pc.utf8_rtrim(pc.utf8_ltrim(parts.field("rest"), "."), "0")
    lengths = pc.utf8_length(fraction).to_numpy(zero_copy_only=False)
    imprecise = good & ~exponent & (lengths > shift)
    too_large = mask_of(pc.greater(pc.utf8_length(whole), 13 - shift)) & good
    fitting = good & ~exponent & ~imprecise & ~too_large
    padded = pc.utf8_rpad(pc.if_else(pa.array(fitting), fraction, ""), shift, "0")
    digits = pc.binary_join_element_wise(
        pc.if_else(pa.array(fitting), whole, pa.scalar("0")), padded, ""
    )
    digits = pc.if_else(pc.equal(digits, ""), pa.scalar("0"), digits)
    amounts = pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False).copy()
    too_large |= fitting & (amounts > MAX_AMOUNT_MINOR)
    amounts[mask_of(pc.equal(sign, "-"))] *= -1
    if exponent.any():
        floats = pc.cast(pc.utf8_ltrim(text.filter(pa.array(exponent)), "+"), pa.float64())
        rows = np.flatnonzero(exponent)
        amounts[rows], _, bad, rough, large = _from_float(floats, shift)
        imprecise[rows], too_large[rows] = rough, large | bad
    return amounts, missing, ~good & ~missing, imprecise, too_large
