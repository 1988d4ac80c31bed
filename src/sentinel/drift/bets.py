"""What a detector bets on: which shares would move, by how much, and against what they are held.

A share that the reference knows is held against what each hour of the week expects. Where a column
hardly varied in a segment (one value, or always unknown), no share of it is known well enough: of
a value that none of N payments had, N says only that its share is small. So there a share is held
against an upper bound, as many times that of independent payments as payments of a day may hang
together at most. Bets on such a share are upwards alone, and every share up to the bound pays for
them more than it gains.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.drift.evidence import BETS, SIZES, prices, shifts
from sentinel.drift.questions import shares
from sentinel.drift.reference import DriftReference
from sentinel.drift.rhythm import MOST_WITHIN

_NOT_SEEN: Final = 3.0
"""Payments that a share may be worth of which none was seen: its upper 95 % bound, times N."""
_LARGEST_BOUND: Final = 0.1
"""Of a share that is bet on: with fewer payments the reference says too little."""

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]


class Bets(NamedTuple):
    """Bets on the shares of all questions.

    Attributes:
        shift: float32 (segments, questions, BETS), of log odds; 0: no bet.
        price: float32 (segments, questions, BETS), see `sentinel.drift.evidence`.
        expected: float32 (168, segments, questions): what hours of the week are held against.
        phi: float32 (segments, questions): variance within a day.
        bound: float32 (segments, questions): upper bound of a share that the reference does not
            know; 0 where it does.
    """

    shift: Singles
    price: Singles
    expected: Singles
    phi: Singles
    bound: Singles


def bets_of(reference: DriftReference, smallest: float) -> Bets:
    """The bets against a reference.

    Args:
        reference: Whose shares would move.
        smallest: Change of a share, in (0, 1).
    """
    asked, starts = reference.asked, reference.bins.starts
    counts = reference.counts.astype(np.float64)
    column = np.repeat(np.arange(len(asked.starts) - 1), np.diff(asked.starts))
    before = np.zeros((len(counts), counts.shape[1] + 1))
    np.cumsum(counts, axis=1, out=before[:, 1:])
    events = (before[:, starts[1:]] - before[:, starts[:-1]])[:, column]
    found = shares(counts, asked)
    share = np.clip((found + 0.5) / (events + 1.0), 1e-6, 1 - 1e-6)
    information = np.maximum(events * share * (1 - share), 1e-9)
    phi, tau2 = (part.astype(np.float64) for part in reference.spread)
    error = np.sqrt(phi / information + tau2 / max(reference.days, 1))
    shift = shifts(share, error, smallest)

    bound = MOST_WITHIN * (found + _NOT_SEEN) / np.maximum(events, 1.0)
    bound[~_without_bets(shift, asked.starts)[:, column] | (bound > _LARGEST_BOUND)] = 0.0
    bounded = bound > 0.0
    upwards = np.arange(BETS) < len(SIZES)
    shift[bounded] = np.where(
        upwards, shifts(bound[bounded], np.zeros(int(bounded.sum())), smallest), 0.0
    )
    expected = np.maximum(reference.expected_answers, bound.astype(np.float32))
    # A share of hours that hold next to no payments bounds nothing.
    least = np.maximum(expected.min(axis=0), 1e-6).astype(np.float64)
    most = np.minimum(expected.max(axis=0), 1 - 1e-6).astype(np.float64)
    return Bets(
        shift.astype(np.float32),
        prices(shift, least, most).astype(np.float32),
        expected,
        np.where(bounded, MOST_WITHIN, phi).astype(np.float32),
        bound.astype(np.float32),
    )


def _without_bets(shift: Floats, asked: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Columns of which nothing is bet on: bool (segments, columns)."""
    none = (shift == 0.0).all(axis=2)
    return np.stack([none[:, first:last].all(axis=1) for first, last in pairwise(asked)], axis=1)


def shares_of_bets(shift: Singles, asked: npt.NDArray[np.int32]) -> Singles:
    """Equal shares for all bets of a stream that are made; float32 (segments, questions, BETS)."""
    made = (shift != 0.0).astype(np.float64)
    found = np.zeros(shift.shape, np.float32)
    for first, last in pairwise(asked.tolist()):
        number = made[:, first:last].sum(axis=(1, 2), keepdims=True)
        found[:, first:last] = made[:, first:last] / np.maximum(number, 1.0)
    return found
