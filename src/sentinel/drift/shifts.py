"""What a probability means after a shift: by each of two assumptions, and whether one is refuted.

*Covariate shift*: payments of other kinds come, and a payment of a given probability is fraud as
often as before. *Label shift*: fraud has become more or less frequent, and frauds look as they did,
as do good payments. Then the share of fraud is what mixes the two old distributions of the
probability into the new one (Saerens, Latinne and Decaestecker, 2002), and the mixture has to fit.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.stats import chi2

from sentinel.drift.score_table import Floats, ScoreTable

PRIOR_PAYMENTS: Final = 1.0
"""So many payments that the model is right about are added to each bin."""
REFUTED_AT: Final = 0.001
"""An assumption is given up where so rare a deviation contradicts it."""

_STEPS: Final = 60
_GROUPS: Final = 8
_LEAST: Final = 1e-7


def fraud_shares(payments: Floats, expected: Floats, frauds: Floats) -> Floats:
    """The share of fraud in each bin, drawn a little towards what the model says.

    Args:
        payments, expected, frauds: float64 (rounds, n_bins), of known payments.

    Returns:
        float64 (rounds, n_bins), between 0 and 1.
    """
    said = expected.sum(axis=0) / np.maximum(payments.sum(axis=0), _LEAST)
    said = _filled(said, payments.sum(axis=0) > 0)
    return np.asarray((frauds + PRIOR_PAYMENTS * said) / (payments + PRIOR_PAYMENTS))


def under_label_shift(share: Floats, known: Floats, recent: Floats) -> tuple[Floats, Floats]:
    """Shares of fraud once its frequency has moved and nothing else.

    Args:
        share: float64 (rounds, n_bins), the share of fraud in each bin of the reference.
        known: float64 (rounds, n_bins), its payments.
        recent: float64 (rounds, n_bins), payments since.

    Returns:
        The share of fraud in each bin, float64 (rounds, n_bins), and in all, (rounds,).
    """
    frauds = known * share
    good = known - frauds
    before = frauds.sum(axis=1) / known.sum(axis=1)
    of_frauds = frauds / frauds.sum(axis=1, keepdims=True)
    of_good = good / good.sum(axis=1, keepdims=True)
    # The likelihood of the mixture is concave in the share of fraud: its slope has one root.
    low, high = np.full(len(share), _LEAST), np.full(len(share), 1.0 - _LEAST)
    for _ in range(_STEPS):
        middle = np.sqrt(low * high)
        mixed = of_good + middle[:, None] * (of_frauds - of_good)
        ratio = (of_frauds - of_good) / np.maximum(mixed, 1e-300)
        rising = (recent * ratio).sum(axis=1) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    now = np.sqrt(low * high)
    odds = (now / (1.0 - now)) * ((1.0 - before) / before)
    moved = odds[:, None] * share
    return moved / (1.0 - share + moved), now


def label_shift_refuted(known: ScoreTable, recent: ScoreTable, share: Floats) -> bool:
    """Whether no share of fraud mixes the old distributions of the probability into the new one.

    A test of fit over a few groups of bins, corrected for days that differ (Rao and Scott, 1981).

    Args:
        known: The reference.
        recent: Payments since.
        share: float64 (n_bins,), the share of fraud in each bin of the reference.
    """
    before, now = known.payments.sum(axis=0), recent.payments.sum(axis=0)
    group = _groups(before)
    frauds = before * share
    good = before - frauds
    _, prevalence = under_label_shift(share[None], before[None], now[None])
    mixed = (1.0 - prevalence) * good / good.sum() + prevalence * frauds / frauds.sum()
    expected = np.bincount(group, weights=mixed)
    found = np.bincount(group, weights=now) / now.sum()
    spread = _variance(recent, group) + _variance(known, group)
    statistic = float(((found - expected) ** 2 / np.maximum(spread, 1e-18) * (1 - expected)).sum())
    return statistic > float(chi2.isf(REFUTED_AT, max(len(expected) - 2, 1)))


def _variance(table: ScoreTable, group: np.ndarray) -> Floats:
    """Variance of each group's share of payments: between days, at least that of single rows."""
    by_day = np.stack([np.bincount(group, weights=day) for day in table.payments])
    total = by_day.sum(axis=1, keepdims=True)
    share = by_day.sum(axis=0) / by_day.sum()
    rest = by_day - share * total
    days = max(table.days, 2)
    between = days / (days - 1) * (rest**2).sum(axis=0) / float(by_day.sum()) ** 2
    effective = float(by_day.sum()) ** 2 / max(float(table.squares.sum()), _LEAST)
    return np.asarray(np.maximum(between, share * (1 - share) / effective), np.float64)


def _groups(payments: Floats) -> np.ndarray:
    """Group of each bin: the upper half of the payments, the half of these, and so on."""
    share = 1.0 - (np.cumsum(payments) - payments / 2) / payments.sum()
    return np.unique(
        np.clip(np.floor(-np.log2(np.maximum(share, 1e-12))), 0, _GROUPS - 1), return_inverse=True
    )[1]


def _filled(values: Floats, known: np.ndarray) -> Floats:
    """Values of unknown bins as those between their known neighbours."""
    if known.all():
        return values
    places = np.arange(len(values))
    return np.asarray(np.interp(places, places[known], values[known]))
