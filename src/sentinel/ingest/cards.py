"""What is a raw card number (PAN), which must never be stored.

13 to 19 digits with a correct Luhn check digit (ISO/IEC 7812-1, annex B) that begin like those of a
card network. One in ten numbers of that length has a correct check digit by chance. A single value
gets no benefit of the doubt; of a whole column more is known: card numbers are right nearly
always, references of the same length one time in ten.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import looks_like_card_number

BoolMask = npt.NDArray[np.bool_]

SHORTEST: Final = 13
"""Digits of the shortest card number that is recognised without being told."""

JOINT: Final = "|"
"""Between the parts of an id that is made of several columns."""

NUMBER_BOUNDS: Final = (10.0**12, 2.0**53)
"""Whole numbers from the first up to the second may be card numbers that are kept exactly."""

_MARK: Final = "tok1_"
_SEPARATORS: Final = " .-_/\u00a0\u2007\u202f\u2010\u2011\u2012\u2013"
_WITHOUT: Final = str.maketrans("", "", _SEPARATORS)
_BETWEEN: Final = f"[{re.escape(_SEPARATORS)}]"
_SHAPE: Final = rf"[2-6](?:{_BETWEEN}?[0-9]){{12,18}}"
# Within text: digits in one piece, or in the groups of a card, not a part of a longer word.
_GROUPS: Final = (
    rf"[2-6][0-9]{{3}}(?P<a>{_BETWEEN})[0-9]{{4}}(?P=a)[0-9]{{4}}(?P=a)[0-9]{{1,4}}"
    rf"(?:(?P=a)[0-9]{{3}})?|3[0-9]{{3}}(?P<b>{_BETWEEN})[0-9]{{6}}(?P=b)[0-9]{{4,5}}"
)
_WITHIN: Final = re.compile(rf"(?<![0-9A-Za-z])(?:[2-6][0-9]{{12,18}}|{_GROUPS})(?![0-9A-Za-z])")
_FIRST: Final = frozenset("23456")
_BEGINS: Final = frozenset("pPcC%;")
_BEFORE: Final = re.compile(r"\s*(?:%B|;|(?:pan|cc|card)[a-z_ ]{0,8}[=:#]?\s*)?", re.IGNORECASE)
_ALONE: Final = re.compile(rf"({_SHAPE})\s*(?:[=^D].*)?", re.DOTALL)
_WHOLE_SHAPE: Final = re.compile(_SHAPE)
_MAYBE: Final = rf"[2-6](?:{_BETWEEN}?[0-9]){{12}}"
_DIGITS: Final = r"^[2-6][0-9]{12,18}$"
_CHANCE: Final = 0.1


def card_digits(text: str) -> str | None:
    """The digits of a card number written in any way; None if there are not 12 to 19.

    Maestro has numbers of 12 digits, so this is for fields that are said to hold cards.

    >>> card_digits("4111-1111 1111.1111"), card_digits("676770000018"), card_digits("tok-9")
    ('4111111111111111', '676770000018', None)
    """
    digits = text.translate(_WITHOUT)
    if 12 <= len(digits) <= 19 and digits.isascii() and digits.isdigit():
        return digits
    return None


def is_card_number(text: str) -> bool:
    """Whether an id is a card number, also with separators, after "pan=", or as on a stripe.

    Ids that are joined of several columns by "|" are judged part by part.

    >>> is_card_number("4111 1111 1111 1111"), is_card_number("pan=4111111111111111=2912")
    (True, True)
    >>> is_card_number("4111111111111112"), is_card_number("a4111111111111111")
    (False, False)
    >>> is_card_number("bank 7|4111111111111111|1225")
    True
    """
    if len(text) < SHORTEST:
        return False
    if JOINT in text:
        return any(is_card_number(part) for part in text.split(JOINT))
    if text[0] not in _FIRST:
        before = _BEFORE.match(text) if text[0] in _BEGINS or text[0].isspace() else None
        if before is None:
            return False
        text = text[before.end() :]
    found = _ALONE.fullmatch(text)
    return found is not None and looks_like_card_number(found.group(1).translate(_WITHOUT))


def holds_card_number(text: str) -> bool:
    """Whether text is a card number or mentions one.

    >>> holds_card_number("paid with 4111 1111 1111 1111"), holds_card_number("4111111111111112")
    (True, False)
    """
    if len(text) < SHORTEST or text.startswith(_MARK):
        return False
    return is_card_number(text) or any(
        looks_like_card_number(found.group().translate(_WITHOUT))
        for found in _WITHIN.finditer(text)
    )


def is_card_value(number: float) -> bool:
    """Whether a number is a card number that was read as a number.

    >>> is_card_value(4111111111111111.0), is_card_value(4111111111111112.0), is_card_value(17.0)
    (True, False, False)
    """
    low, high = NUMBER_BOUNDS
    return (
        low <= abs(number) < high
        and number == int(number)
        and looks_like_card_number(str(abs(int(number))))
    )


def masked(text: str) -> str:
    """The text with all but the first six and last four digits of card numbers hidden.

    >>> masked("paid with 4111 1111 1111 1111 today")
    'paid with 411111******1111 today'
    """
    if len(text) < SHORTEST:
        return text
    return _ANY.sub(_mask, text)


_ANY: Final = re.compile(rf"[0-9](?:{_BETWEEN}{{0,2}}[0-9]){{12,18}}")


def _mask(found: re.Match[str]) -> str:
    digits = found.group().translate(_WITHOUT)
    return _hidden(digits) if looks_like_card_number(digits) else found.group()


def _hidden(digits: str) -> str:
    return digits[:6] + "*" * (len(digits) - 10) + digits[-4:]


class ColumnJudge:
    """Says which values of a column are card numbers, by what the column has shown so far.

    Values of the length and beginning of a card number are counted, and those among them with a
    correct check digit. At most three in ten of at least three are taken for chance, or, of many,
    what is within six standard deviations of one in ten.

    Attributes:
        shaped: Values that could be card numbers, by length and beginning.
        right: Those of them with a correct check digit.
    """

    def __init__(self) -> None:
        self.shaped = 0
        self.right = 0

    def add(self, shaped: int, right: int) -> None:
        """Count more values."""
        self.shaped += shaped
        self.right += right

    @property
    def by_chance(self) -> bool:
        """Whether the right ones are no more than chance makes."""
        if self.right == 0:
            return True
        if self.shaped < 3 or self.right > 0.45 * self.shaped:
            return False
        spread = (_CHANCE * (1 - _CHANCE) * self.shaped) ** 0.5
        return bool(self.right <= max(_CHANCE * self.shaped + 6 * spread, 1))

    def judge(self, column: pa.Array, *, within: bool = False) -> BoolMask:
        """Count a column and give the mask of its card numbers; all False if by chance.

        Args:
            column: Text or float64.
            within: Also text that mentions a card number.
        """
        shaped, right = shaped_and_right(column, within=within)
        self.add(int(shaped.sum()), int(right.sum()))
        return np.zeros(len(column), np.bool_) if self.by_chance else right


def shaped_and_right(column: pa.Array, *, within: bool = False) -> tuple[BoolMask, BoolMask]:
    """Masks of what could be card numbers by length and beginning, and of what is one.

    Args:
        column: Text or float64.
        within: Also text that mentions a card number.

    >>> ids = pa.array(["4111111111111111", "4111111111111112", "c-7", None])
    >>> [mask.tolist() for mask in shaped_and_right(ids)]
    [[True, True, False, False], [True, False, False, False]]
    """
    if pa.types.is_floating(column.type):
        return _numbers(column)
    nothing = np.zeros(len(column), np.bool_)
    long = pc.greater_equal(pc.binary_length(column), SHORTEST)
    if not pc.any(long).as_py():
        return nothing, nothing
    at = np.flatnonzero(pc.fill_null(long, False).to_numpy(zero_copy_only=False))
    texts = column if len(at) == len(column) else column.take(pa.array(at))
    maybe = pc.match_substring_regex(texts, _MAYBE).to_numpy(zero_copy_only=False).astype(np.bool_)
    if not maybe.any():
        return nothing, nothing
    shaped, right = nothing.copy(), nothing.copy()
    at = at[maybe]
    texts = column.take(pa.array(at))
    plain = pc.match_substring_regex(texts, _DIGITS).to_numpy(zero_copy_only=False).astype(np.bool_)
    if plain.any():
        numbers = pc.cast(texts.filter(pa.array(plain)), pa.int64()).to_numpy()
        shaped[at[plain]], right[at[plain]] = True, _luhn(numbers)
        at = at[~plain]
        if len(at) == 0:
            return shaped, right
    encoded = column.take(pa.array(at)).dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    test = holds_card_number if within else is_card_number
    hits = np.array([test(text) for text in distinct], np.bool_)
    shapes = np.array(
        [hit or _shaped(text, within) for text, hit in zip(distinct, hits, strict=True)], np.bool_
    )
    codes = encoded.indices.to_numpy()
    shaped[at], right[at] = shapes[codes], hits[codes]
    return shaped, right


def _shaped(text: str, within: bool) -> bool:
    if text.startswith(_MARK):
        return False
    parts = text.split(JOINT)
    return any(_WHOLE_SHAPE.fullmatch(part) is not None for part in parts) or (
        within and _WITHIN.search(text) is not None
    )


def _numbers(column: pa.Array) -> tuple[BoolMask, BoolMask]:
    values = np.abs(np.nan_to_num(column.to_numpy(zero_copy_only=False)))
    shaped = (values >= NUMBER_BOUNDS[0]) & (values < NUMBER_BOUNDS[1])
    right = np.zeros(len(values), np.bool_)
    if not shaped.any():
        return shaped, right
    at = np.flatnonzero(shaped)
    at = at[values[at] == np.floor(values[at])]
    digits = values[at].astype(np.int64)
    first = digits // 10 ** np.floor(np.log10(np.maximum(digits, 1)) + 1e-12).astype(np.int64)
    shaped[:] = False
    keep = (first >= 2) & (first <= 6)
    at, digits = at[keep], digits[keep]
    shaped[at] = True
    right[at] = _luhn(digits)
    return shaped, right


def _luhn(numbers: npt.NDArray[np.int64]) -> BoolMask:
    total = np.zeros(len(numbers), np.int64)
    left = numbers.copy()
    for place in range(19):
        digit = left % 10
        left //= 10
        if place % 2:
            digit = digit * 2
            digit -= 9 * (digit > 9)
        total += digit
    right: BoolMask = total % 10 == 0
    return right
