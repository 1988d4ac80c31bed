"""What a policy does to payments of known truth: how many alerts, what they hit, what it costs.

Every figure has a 95 % interval by the bootstrap over cards. Rows count by their weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.log.entries import OUTCOMES
from sentinel.models.intervals import Estimate, cluster_codes, resamples
from sentinel.policy.economics import Economics

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]

LINE_FIGURES: Final = (
    "review_rate",
    "decline_rate",
    "precision_of_reviews",
    "precision_of_declines",
    "fraud_declined",
    "fraud_stopped",
    "money_stopped",
)
"""Shares, in the order they are shown: of payments, of what is reviewed or declined, of frauds, and
of the amounts of frauds."""
MONEY_FIGURES: Final = ("cost_per_1000_minor", "saved_per_1000_minor")
"""Where there are costs: what 1,000 payments cost, and how much less than approving all of them."""

_REVIEW, _DECLINE = (OUTCOMES.index(name) for name in ("review", "decline"))
_PARTS: Final = 8  # of the figures that need no costs
_Z95: Final = 1.959963984540054


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """Payments of known truth. All arrays are (n_rows,).

    Attributes:
        fraud: bool.
        amount_minor: float64, minor units.
        segment: int64, see `Economics.segments_of`.
        weight: float64, payments that each row stands for.
        card: int64 code of the card or customer; negative = unknown.
    """

    fraud: Bools
    amount_minor: Floats
    segment: Codes
    weight: Floats
    card: Codes


def figures_at_lines(
    outcomes: Codes,
    truth: Truth,
    economics: Economics | None = None,
    *,
    rounds: int = 400,
    seed: int = 7,
) -> dict[str, Estimate]:
    """What outcomes do to payments.

    Args:
        outcomes: int64 (n_rows,), codes.
        truth: Of the same rows.
        economics: The costs; None if nothing is known of them.
        rounds, seed: Of the bootstrap over cards.

    Returns:
        `LINE_FIGURES`, and `MONEY_FIGURES` where there are costs. A share of nothing is unknown.
    """
    sums = _sums(outcomes, truth, economics)
    (value,) = _measured(sums.sum(axis=0, keepdims=True))
    samples = np.concatenate([_measured(total) for total in _drawn(sums, rounds, seed)])
    return _estimates(value, samples)


def differences_at_lines(
    outcomes: Codes,
    others: Codes,
    truth: Truth,
    economics: Economics | None = None,
    *,
    rounds: int = 400,
    seed: int = 7,
) -> dict[str, Estimate]:
    """How the figures of outcomes differ from those of others on the same payments.

    Both are measured on the same draws of cards, so what the two have in common, a month's luck
    with its frauds above all, is in neither side of the interval.

    Args:
        outcomes, others: int64 (n_rows,), codes.
        truth: Of the same rows.
        economics: The costs; None if nothing is known of them.
        rounds, seed: Of the bootstrap over cards.

    Returns:
        By the names of `figures_at_lines`: the figure of ``outcomes`` minus that of ``others``.
    """
    pair = _sums(outcomes, truth, economics), _sums(others, truth, economics)
    value, other = (_measured(sums.sum(axis=0, keepdims=True))[0] for sums in pair)
    sums, n_parts = np.concatenate(pair, axis=1), pair[0].shape[1]
    samples = np.concatenate(
        [
            _measured(total[:, :n_parts]) - _measured(total[:, n_parts:])
            for total in _drawn(sums, rounds, seed)
        ]
    )
    return _estimates(value - other, samples)


def _sums(outcomes: Codes, truth: Truth, economics: Economics | None) -> Floats:
    """What figures are made of, by card: float64 (n_cards, n_parts), two more with costs."""
    cluster, n_clusters = cluster_codes(truth.card)
    w = np.asarray(truth.weight, dtype=np.float64)
    fraud, review, decline = truth.fraud, outcomes == _REVIEW, outcomes == _DECLINE
    lost = w * np.maximum(truth.amount_minor, 0.0) * fraud
    parts = [
        w,
        w * review,
        w * decline,
        w * (review & fraud),
        w * (decline & fraud),
        w * fraud,
        lost,
        lost * (review | decline),
    ]
    if economics is not None:
        costs = economics.expected(fraud.astype(np.float64), truth.amount_minor, truth.segment)
        paid = costs[np.arange(len(w)), outcomes]
        parts += [w * paid, w * costs[:, 0]]
    return np.stack(
        [np.bincount(cluster, weights=part, minlength=n_clusters) for part in parts], axis=1
    )


def _drawn(sums: Floats, rounds: int, seed: int) -> Iterator[Floats]:
    """The sums of drawn cards: float64 (n_rounds, n_parts), some rounds at a time."""
    n_clusters = len(sums)
    for counts in resamples(n_clusters, rounds, seed, n_rows=n_clusters):
        yield counts.astype(np.float64) @ sums


def _measured(total: Floats) -> Floats:
    """The figures of sums: float64 (n_rounds, n_figures) of (n_rounds, n_parts)."""
    rows, reviews, declines, hit, declined, frauds, money, stopped = total.T[:_PARTS]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [
            reviews / rows,
            declines / rows,
            hit / reviews,
            declined / declines,
            declined / frauds,
            (hit + declined) / frauds,
            stopped / money,
        ]
        if total.shape[1] > _PARTS:
            cost, approving = total.T[_PARTS:]
            found += [1000.0 * cost / rows, 1000.0 * (approving - cost) / rows]
    return np.stack(found, axis=1)


def _estimates(value: Floats, samples: Floats) -> dict[str, Estimate]:
    """Estimates by name, of values (n_figures,) and samples (n_rounds, n_figures)."""
    names = (*LINE_FIGURES, *MONEY_FIGURES)[: len(value)]
    return {
        name: Estimate.of(float(value[at]), samples[:, at])
        if math.isfinite(value[at])
        else Estimate(math.nan, math.nan, math.nan)
        for at, name in enumerate(names)
    }


def control_group_precision(fraud: Bools, draw: npt.ArrayLike) -> Estimate:
    """The share of fraud among stopped payments, as those that were let through show it.

    All had the same share, so each counts alike. Payments of one draw (a card's on one day) came
    together and say the same thing several times, so that they count as fewer (Kish, 1965); the
    interval is that of Wilson (1927) with so many.

    Args:
        fraud: bool (n,), the truth of each explored payment; those whose truth is not known yet
            are not among them.
        draw: int (n,), which draw let it through; negative = a draw of its own.

    >>> str(control_group_precision(np.arange(60) < 45, np.arange(60)))
    '0.750 [0.628, 0.842]'
    """
    n = len(fraud)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0)
    cluster, n_clusters = cluster_codes(np.asarray(draw))
    size = np.bincount(cluster, minlength=n_clusters).astype(np.float64)
    hits = np.bincount(cluster, weights=fraud.astype(np.float64), minlength=n_clusters)
    share = float(hits.sum() / n)
    independent = share * (1.0 - share) * n
    effective = float(n)
    if n_clusters < n:
        between = float(((hits - share * size) ** 2).sum())
        # Where all are alike, the clusters' own spread says nothing: their number counts.
        effective = (
            min(float(n), n * independent / between)
            if between > 0 and independent > 0
            else float(size.sum() ** 2 / (size**2).sum())
        )
    low, high = wilson(share, effective)
    return Estimate(share, low, high)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n."""
    z2 = _Z95 * _Z95
    centre = (share + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = _Z95 * math.sqrt(share * (1.0 - share) / n + z2 / (4.0 * n * n)) / (1.0 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def widest_half_width(n: float) -> float:
    """Half the width of the interval of a share of n payments, where it is widest: at one half.

    >>> round(widest_half_width(60), 3), round(widest_half_width(15), 3)
    (0.123, 0.226)
    """
    if n <= 0:
        return 0.5
    low, high = wilson(0.5, n)
    return (high - low) / 2.0
