"""Which values of a column are card numbers, by what the whole column shows; see `cards`.

One in ten numbers with the prefix and length of a card number has a correct check digit by chance.
A single value gets no benefit of the doubt; of a whole column more is known: card numbers are right
nearly always, references of the same length one time in ten.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.ingest.cards import NUMBER_BOUNDS, looks_at_cards
from sentinel.ingest.issuers import SHORTEST, issued_and_right

BoolMask = npt.NDArray[np.bool_]

_MAYBE: Final = r"\pN(?:[^0-9A-Za-z]*\pN){12}"
_DIGITS: Final = r"^[1-9][0-9]{12,18}$"
_CHANCE: Final = 0.1


class ColumnJudge:
    """Says which values of a column are card numbers, by what the column has shown so far.

    Values with the prefix and length of a card number are counted, and those among them with a
    correct check digit. At most three in ten of at least three are taken for chance, or, of many,
    what is within six standard deviations of one in ten.

    Attributes:
        shaped: Values that could be card numbers, by prefix and length.
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

    def judge(self, column: pa.Array) -> BoolMask:
        """Count a column and give the mask of its card numbers; all False if by chance.

        Args:
            column: Text or float64.
        """
        shaped, right = shaped_and_right(column)
        self.add(int(shaped.sum()), int(right.sum()))
        return np.zeros(len(column), np.bool_) if self.by_chance else right


def shaped_and_right(column: pa.Array) -> tuple[BoolMask, BoolMask]:
    """Masks of what could be card numbers by prefix and length, and of what is or mentions one.

    Args:
        column: Text or float64.

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
        numbers = pc.cast(texts.filter(pa.array(plain)), pa.uint64()).to_numpy()
        shaped[at[plain]], right[at[plain]] = issued_and_right(numbers)
        at = at[~plain]
        if len(at) == 0:
            return shaped, right
    encoded = column.take(pa.array(at)).dictionary_encode()
    looks = [looks_at_cards(text) for text in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    shaped[at] = np.array([look[0] for look in looks], np.bool_)[codes]
    right[at] = np.array([look[1] for look in looks], np.bool_)[codes]
    return shaped, right


def _numbers(column: pa.Array) -> tuple[BoolMask, BoolMask]:
    values = np.abs(np.nan_to_num(column.to_numpy(zero_copy_only=False)))
    shaped = np.zeros(len(values), np.bool_)
    right = shaped.copy()
    at = np.flatnonzero((values >= NUMBER_BOUNDS[0]) & (values < NUMBER_BOUNDS[1]))
    if len(at):
        shaped[at], right[at] = issued_and_right(values[at].astype(np.uint64))
    return shaped, right
