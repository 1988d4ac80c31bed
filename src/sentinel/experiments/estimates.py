"""How good a model's alerts are before labels come: estimates, and marked as such.

A calibrated probability says how often the alerts that have it are fraud, so that their mean is the
expected precision (confidence-based performance estimation). It is as right as the calibration is.
Where a control group let alerts through and their labels are in, the mean error of the probability
on these corrects it for all (prediction-powered inference: Angelopoulos et al., Science 382, 2023),
with an interval that holds whether or not the calibration is right.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from sentinel.experiments.observed import AlertSums

LEAST_KNOWN: Final = 20
"""Alerts of known truth from which on they correct the probabilities."""

_Z: Final = 1.96


class PrecisionEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Precision of a model's alerts as it is estimated.

    Attributes:
        precision: Between 0 and 1.
        low, high: 95 %; of probabilities alone they hold only as far as these are calibrated.
        method: "probabilities", or "control group" where labels corrected them.
        alerts: That it is about.
        known: Those whose truth corrected it.
    """

    precision: float
    low: float
    high: float
    method: str
    alerts: int
    known: int


def estimate(sums: AlertSums) -> PrecisionEstimate | None:
    """The precision of alerts; None if there are none.

    >>> sums = AlertSums(payments=400, probability=200.0, variance=90.0)
    >>> found = estimate(sums)
    >>> found.method, found.precision
    ('probabilities', 0.5)
    """
    if not sums.payments:
        return None
    mean = sums.probability / sums.payments
    if sums.known < LEAST_KNOWN:
        spread = _Z * math.sqrt(sums.variance) / sums.payments
        return _estimate(mean, spread, "probabilities", sums)
    rest = sums.rest / sums.weight
    # The variance of a weighted mean: squares of what each adds to it.
    squares = sums.rest_squared - 2.0 * rest * _weighted_rest(sums) + rest**2 * sums.weight_squared
    spread = _Z * math.sqrt(max(squares, 0.0)) / sums.weight
    return _estimate(mean + rest, spread, "control group", sums)


def _weighted_rest(sums: AlertSums) -> float:
    """About the sum of squared weights times the rest: exact where all weights are equal."""
    return sums.rest * sums.weight_squared / sums.weight


def _estimate(mean: float, spread: float, method: str, sums: AlertSums) -> PrecisionEstimate:
    return PrecisionEstimate(
        precision=min(max(mean, 0.0), 1.0),
        low=max(mean - spread, 0.0),
        high=min(mean + spread, 1.0),
        method=method,
        alerts=sums.payments,
        known=sums.known,
    )
