"""Amounts as banks, shops and spreadsheets write them, to plain numbers as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.sources.base import BoolMask
from sentinel.sources.columns import NUMBER_PATTERN, mask_of
from sentinel.sources.currencies import CODES

_MINUS: Final = "[\u2212\u2010-\u2015\ufe63\uff0d]"  # the minus sign, dashes and their like
_BLANK: Final = "[\u00a0\u2000-\u200a\u202f\u205f]"  # blanks that are no plain space
_APOSTROPHE: Final = "['\u2019]"
_MONEY: Final = (
    r"(?:[A-Za-z]{1,3}\.?\s?\p{Sc}|\p{Sc}|[A-Za-z]{3,4}|Rs\.?|[Kk]r\.?|zł|Kč|Ft|Fr\.?|лв\.?|"
    r"円|元|원)"
)
_SIGN_FIRST: Final = r"^([+-]?)\p{Sc} ?"
_AROUND: Final = (
    r"^(?P<open1>\(?)\s*(?P<sign1>[+-]?)\s*(?P<money1>" + _MONEY + r"?)\s*(?P<open2>\(?)\s*"
    r"(?P<sign2>[+-]?)\s*(?P<digits>[\d.,][\d., '\x{2019}_]*(?:[eE][+-]?\d{1,3})?)\s*"
    r"(?P<sign3>[+-]?)\s*(?P<close1>\)?)\s*(?P<money2>" + _MONEY + r"?)\s*"
    r"(?P<sign4>[+-]?)\s*(?P<close2>\)?)$"
)


@dataclass(frozen=True)
class AmountText:
    """Amounts as plain numbers.

    Attributes:
        digits: The numbers as text, such as "-1234.5"; null where nothing is given.
        readable: Mask of the rows that are one number in the separators of the mapping.
        money: Sign or code of the currency beside each amount, null where there is none.
        original: As given.
        decimal_point, thousands: As the mapping says.
    """

    digits: pa.Array
    readable: BoolMask
    money: pa.Array | None
    original: pa.Array
    decimal_point: str
    thousands: str

    def hint(self, row: int) -> str:
        """What to write in the mapping so that an unreadable amount is read, or what is allowed."""
        text = re.sub(r"[^\d.,' \u2019\u00a0\u202f]", "", str(self.original[row].as_py())).strip()
        comma = re.fullmatch(r"\d{1,3}(,\d{2,3})*,\d{3}", text)
        point = re.fullmatch(r"\d{1,3}(\.\d{3})+", text)
        if comma and self.decimal_point == ".":
            return (
                '; set amount.thousands = "," or amount.decimal = ",": '
                "it cannot be told which the comma is"
            )
        if point and self.decimal_point == ",":
            return '; set amount.thousands = "." if the point groups digits'
        if re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+", text) and self.decimal_point != ",":
            return '; set amount.decimal = "," and amount.thousands = "."'
        if re.fullmatch(r"\d+,\d+", text) and self.decimal_point != ",":
            return '; set amount.decimal = ","'
        if re.fullmatch(r"\d+\.\d+", text) and self.decimal_point != ".":
            return '; set amount.decimal = "."'
        if re.search(r"\d", text):
            return "; allowed around its digits: a sign, brackets, a currency's sign or code"
        return ""


def amount_text(values: pa.Array, decimal_point: str, thousands: str) -> AmountText:
    """Read amounts as text.

    Groups of digits are understood without ``thousands`` where they cannot be anything else: by
    apostrophes or blanks, or where a decimal point follows, or two groups. Groups by commas may
    have two digits before the last three, as in India.

    >>> amount_text(pa.array(["$1,234.56", "(12.50)", "12.50-", "EUR 5"]), ".", "").digits
    ... # doctest: +NORMALIZE_WHITESPACE, +ELLIPSIS
    <pyarrow.lib.StringArray object at ...>
    [ "1234.56", "-12.50", "-12.50", "5" ]
    """
    nothing = pa.scalar(None, pa.string())
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    text = pc.if_else(pc.equal(text, ""), nothing, text)
    given = mask_of(pc.is_valid(text))
    plain = mask_of(pc.match_substring_regex(text, NUMBER_PATTERN)) & (decimal_point == ".")
    if thousands == ".":
        plain &= False
    if (plain | ~given).all():
        return AmountText(text, given, None, values, decimal_point, thousands)
    light = given & ~plain & mask_of(pc.match_substring_regex(text, _SIGN_FIRST))
    light &= decimal_point == "." and thousands != "."
    bare = pc.replace_substring_regex(text, _SIGN_FIRST, r"\1") if light.any() else text
    light &= mask_of(pc.match_substring_regex(bare, NUMBER_PATTERN))
    money = pc.utf8_slice_codeunits(pc.utf8_ltrim(text, "+-"), 0, 1)
    money = pc.if_else(pa.array(light), money, nothing)
    text = pc.if_else(pa.array(light), bare, text)
    readable = plain | light
    rest = np.flatnonzero(given & ~readable)
    if len(rest):
        places = pa.array(rest)
        digits, fine, kinds = _dressed(text.take(places), decimal_point, thousands)
        readable[rest] = fine
        text = pc.replace_with_mask(text, _mask(rest, len(text)), digits)
        money = pc.replace_with_mask(money, _mask(rest, len(text)), kinds)
    return AmountText(text, readable, money, values, decimal_point, thousands)


def _mask(places: npt.NDArray[np.int64], length: int) -> pa.Array:
    mask = np.zeros(length, np.bool_)
    mask[places] = True
    return pa.array(mask)


def _dressed(
    text: pa.Array, decimal_point: str, thousands: str
) -> tuple[pa.Array, BoolMask, pa.Array]:
    """Digits, which of them are fine, and the money beside them, of amounts of any spelling."""
    nothing = pa.scalar(None, pa.string())
    odd = pc.replace_substring_regex(pc.replace_substring_regex(text, _MINUS, "-"), _BLANK, " ")
    parts = pc.extract_regex(odd, _AROUND)
    field = parts.field
    negative = [mask_of(pc.equal(field(f"sign{i}"), "-")) for i in (1, 2, 3, 4)]
    signs = sum(mask_of(pc.not_equal(field(f"sign{i}"), "")).astype(int) for i in (1, 2, 3, 4))
    opened = sum(mask_of(pc.equal(field(f"open{i}"), "(")).astype(int) for i in (1, 2))
    closed = sum(mask_of(pc.equal(field(f"close{i}"), ")")).astype(int) for i in (1, 2))
    both = pc.and_(pc.not_equal(field("money1"), ""), pc.not_equal(field("money2"), ""))
    fine = mask_of(pc.is_valid(parts))
    fine &= (signs + opened <= 1) & (opened == closed) & ~mask_of(both)
    money = pc.binary_join_element_wise(field("money1"), field("money2"), "")
    money = pc.utf8_rtrim(pc.replace_substring(pc.utf8_upper(money), " ", ""), ".")
    word = mask_of(pc.match_substring_regex(money, "^[A-Z]{3,4}$"))
    fine &= ~word | mask_of(pc.is_in(money, pa.array(sorted(CODES))))
    digits, grouped = without_groups(field("digits"), decimal_point, thousands)
    fine &= grouped
    below = np.logical_or.reduce(negative) | (opened == 1)
    signed = pc.if_else(pa.array(below), pc.binary_join_element_wise("-", digits, ""), digits)
    named = pa.array(fine & mask_of(pc.not_equal(money, "")))
    return pc.if_else(pa.array(fine), signed, text), fine, pc.if_else(named, money, nothing)


def without_groups(
    digits: pa.Array, decimal_point: str, thousands: str
) -> tuple[pa.Array, BoolMask]:
    """Digits with a plain decimal point and without separators of groups, and which are fine.

    >>> plain, fine = without_groups(pa.array(["1.234,5", "12,5", "1.234"]), ",", "")
    >>> plain.to_pylist()[:2], fine.tolist()
    (['1234.5', '12.5'], [True, True, False])
    """
    digits = pc.utf8_trim_whitespace(digits)
    point = re.escape(decimal_point)
    end = rf"(?:{point}\d*)?(?:[eE][+-]?\d{{1,3}})?$"
    fine = mask_of(pc.match_substring_regex(digits, rf"^(?:\d+|{point}\d){end[:-1]}$"))
    fine |= mask_of(pc.match_substring_regex(digits, rf"^{point}\d+(?:[eE][+-]?\d{{1,3}})?$"))
    separators: list[tuple[str, bool]] = [(_APOSTROPHE, False), (" ", False)]
    if thousands:
        separators.append((re.escape(thousands), True))
    elif decimal_point in ".,":
        separators.append((re.escape("," if decimal_point == "." else "."), False))
    groups = np.zeros(len(digits), np.bool_)
    for group, declared in separators:
        inner = r"\d{2,3}" if group == "," else r"\d{3}"
        three = rf"^\d{{1,3}}(?:{group}{inner})*{group}\d{{3}}"
        if declared or group in (_APOSTROPHE, " "):
            found = pc.match_substring_regex(digits, three + end)
        else:  # one group alone might be decimals
            clear = rf"(?:{three}{point}\d+$|^\d{{1,3}}(?:{group}{inner})+{group}\d{{3}}{end})"
            found = pc.match_substring_regex(digits, clear)
        groups |= mask_of(found)
    bare = pc.replace_substring_regex(digits, rf"[^0-9eE{point}+-]", "")
    digits = pc.if_else(pa.array(groups), bare, digits)
    if decimal_point != ".":
        digits = pc.replace_substring(digits, decimal_point, ".")
    return digits, fine | groups
