"""Bands of probability: from which one on a payment is reviewed, declined, or called fraud."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import Outcome
from sentinel.features.jit import kernel
from sentinel.log.entries import OUTCOMES
from sentinel.models.thresholds import Thresholds

Limits = npt.NDArray[np.float64]
"""float64 (3,): probabilities from which on it is a review, a decline, a fraud."""

_ALWAYS: Final = -np.inf
_NEVER: Final = np.inf


def limits_of(thresholds: Thresholds) -> Limits:
    """The bands of a model's thresholds."""
    return np.array([thresholds.review, thresholds.decline, thresholds.fraud])


def fixed_limits(outcome: Outcome) -> Limits:
    """Bands that give one outcome to every probability; only a decline is called fraud.

    >>> fixed_limits(Outcome.REVIEW).tolist()
    [-inf, inf, inf]
    """
    code = OUTCOMES.index(outcome)
    steps = [_ALWAYS if code >= step else _NEVER for step in (1, 2)]
    return np.array([*steps, steps[1]])


@kernel
def rule_bands(
    probabilities: npt.NDArray[np.float64],
    given: npt.NDArray[np.uint32],
    limits: npt.NDArray[np.float64],
    degraded_bit: int,
    fraud_bit: int,
    flags: npt.NDArray[np.uint32],
) -> int:
    """Hold probabilities against bands.

    Args:
        probabilities: float64 (n,), calibrated.
        given: uint32 (n,), flags of the events; a row with ``degraded_bit`` takes the second bands.
        limits: float64 (2, 3), bands of ordinary and of degraded decisions; see `Limits`.
        degraded_bit, fraud_bit: Which bits these are.
        flags: uint32 (n,), written: what was given, 0, 1 or 2 for approve, review and decline, and
            ``fraud_bit``.

    Returns:
        How many payments that are not degraded are not approved.
    """
    stopped = 0
    for row in range(len(probabilities)):
        p = probabilities[row]
        word = np.int64(given[row])
        band = 1 if word & degraded_bit else 0
        word |= np.int64(p >= limits[band, 0]) + np.int64(p >= limits[band, 1])
        if p >= limits[band, 2]:
            word |= fraud_bit
        flags[row] = word
        stopped += 1 if band == 0 and p >= limits[0, 0] else 0
    return stopped
