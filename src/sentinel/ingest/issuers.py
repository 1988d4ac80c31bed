"""Which digits are a card number: an issuer's prefix, a length that it issues, a check digit.

Prefixes of the card networks by ISO/IEC 7812 and their public tables. Prefixes with twelve digits
(some Maestro) are left to fields that are said to hold cards.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

SHORTEST: Final = 13
LONGEST: Final = 19
"""Digits of the shortest and the longest card number that is recognised without being told."""

ISSUERS: Final = (
    # first prefix, last prefix (of four digits), lengths, whose
    (1800, 1800, (15,), "JCB"),
    (2131, 2131, (15,), "JCB"),
    (2200, 2205, (16, 17, 18, 19), "Mir"),
    (2221, 2720, (16,), "Mastercard"),
    (3000, 3059, (14, 16, 17, 18, 19), "Diners Club"),
    (3095, 3095, (14, 16, 17, 18, 19), "Diners Club"),
    (3400, 3499, (15,), "American Express"),
    (3528, 3589, (16, 17, 18, 19), "JCB"),
    (3600, 3699, (14, 15, 16, 17, 18, 19), "Diners Club"),
    (3700, 3799, (15,), "American Express"),
    (3800, 3999, (14, 16, 17, 18, 19), "Diners Club"),
    (4000, 4999, (13, 16, 18, 19), "Visa"),
    (5000, 5099, (13, 14, 15, 16, 17, 18, 19), "Maestro, Elo, RuPay, Verve"),
    (5100, 5599, (16,), "Mastercard"),
    (5600, 5899, (13, 14, 15, 16, 17, 18, 19), "Maestro"),
    (6000, 6999, (16, 17, 18, 19), "Discover, UnionPay, Maestro, RuPay"),
    (6304, 6304, (13, 14, 15), "Maestro"),
    (6700, 6799, (13, 14, 15), "Maestro"),
    (8100, 8299, (16,), "RuPay, UnionPay"),
    (8600, 8600, (16,), "Uzcard"),
    (9704, 9704, (16, 19), "Napas"),
    (9792, 9792, (16,), "Troy"),
    (9860, 9860, (16,), "Humo"),
)


def _lengths_by_prefix() -> tuple[int, ...]:
    """For each prefix of four digits the lengths that are issued, as bits."""
    found = [0] * 10_000
    for first, last, lengths, _ in ISSUERS:
        bits = sum(1 << length for length in lengths)
        for prefix in range(first, last + 1):
            found[prefix] |= bits
    return tuple(found)


_LENGTHS: Final = _lengths_by_prefix()
_LENGTHS_ARRAY: Final = np.array(_LENGTHS, np.int64)
_AS_IT_IS: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes([0, 2, 4, 6, 8, 1, 3, 5, 7, 9]))
_POWERS: Final = np.array([10**n for n in range(20)], np.uint64)


def is_issued(digits: str) -> bool:
    """Whether an issuer has numbers of this length with this prefix.

    Args:
        digits: At least four, in ASCII.

    >>> is_issued("4111111111111112"), is_issued("411111111111111"), is_issued("1700000000000000")
    (True, False, False)
    """
    return bool(_LENGTHS[int(digits[:4])] >> len(digits) & 1)


def has_check_digit(digits: str) -> bool:
    """Whether the last digit is right (Luhn; ISO/IEC 7812-1, annex B).

    >>> has_check_digit("4111111111111111"), has_check_digit("4111111111111112")
    (True, False)
    """
    raw = digits.encode("ascii")
    total = sum(raw[-1::-2].translate(_AS_IT_IS)) + sum(raw[-2::-2].translate(_DOUBLED))
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether digits are a card number.

    >>> is_card("4111111111111111"), is_card("1111111111111117"), is_card("378282246310005")
    (True, False, True)
    """
    return (
        SHORTEST <= len(digits) <= LONGEST
        and bool(_LENGTHS[int(digits[:4])] >> len(digits) & 1)
        and has_check_digit(digits)
    )


def issued_and_right(
    numbers: npt.NDArray[np.uint64],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The twins of `is_issued` and `is_card` for whole numbers.

    >>> numbers = np.array([4111111111111111, 4111111111111112, 17], np.uint64)
    >>> [mask.tolist() for mask in issued_and_right(numbers)]
    [[True, True, False], [True, False, False]]
    """
    length = np.searchsorted(_POWERS, numbers, side="right").astype(np.int64)
    prefix = (numbers // _POWERS[np.maximum(length - 4, 0)]).astype(np.int64)
    long = (length >= SHORTEST) & (length <= LONGEST)
    issued = long & ((_LENGTHS_ARRAY[np.where(long, prefix, 0)] >> length & 1) == 1)
    right = issued.copy()
    right[issued] = _check_digits(numbers[issued])
    return issued, right


def _check_digits(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    total = np.zeros(len(numbers), np.int64)
    left = numbers.copy()
    for place in range(LONGEST):
        digit = (left % 10).astype(np.int64)
        left //= 10
        if place % 2:
            digit = digit * 2
            digit -= 9 * (digit > 9)
        total += digit
    right: npt.NDArray[np.bool_] = total % 10 == 0
    return right
