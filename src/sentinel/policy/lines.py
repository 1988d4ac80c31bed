"""Lines drawn through held-out scores: a calibration, and the price of a review.

What lines do must not be measured on the rows that they were drawn through. `cross_fit` draws them
several times, each time without some cards, and rules on those cards alone: every row is ruled by
lines that never saw it, and no row is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from sentinel.models.calibration import Calibration, fit_calibration
from sentinel.models.intervals import cluster_codes
from sentinel.models.thresholds import Thresholds
from sentinel.policy.economics import Economics, shadow_price
from sentinel.policy.versions import Terms

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]

FOLDS: Final = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class LineRows:
    """Held-out payments of known truth. All arrays are (n_rows,).

    Attributes:
        raw: float64, raw scores.
        fraud: bool, the truth.
        amount_minor: float64, minor units.
        segment: int64, see `Economics.segments_of`.
        weight: float64, payments that each row stands for.
        card: int64 code of the card or customer; negative = unknown.
    """

    raw: Floats
    fraud: Bools
    amount_minor: Floats
    segment: Codes
    weight: Floats
    card: Codes

    def take(self, rows: Bools) -> Self:
        """Some of the rows."""
        return type(self)(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})


@dataclass(frozen=True, eq=False)
class Lines:
    """What decides, from a raw score on.

    Attributes:
        calibration: From raw score to probability.
        rule: The costs with the price of a review, or bands.
    """

    calibration: Calibration
    rule: Economics | Thresholds

    def outcomes(self, raw: Floats, amount_minor: Floats, segment: Codes) -> Codes:
        """Outcome codes: int64 (n,)."""
        return outcomes_of(self.rule, self.calibration.apply(raw), amount_minor, segment)


def outcomes_of(
    rule: Economics | Thresholds, probability: Floats, amount_minor: Floats, segment: Codes
) -> Codes:
    """Outcome codes by costs or by bands: int64 (n,)."""
    if isinstance(rule, Economics):
        return rule.outcomes(probability, amount_minor, segment)
    review, decline = probability >= rule.review, probability >= rule.decline
    return np.asarray(review.astype(np.int64) + decline)


Draw = Callable[[LineRows], Lines]


def draw_lines(rows: LineRows, terms: Terms, *, reviews_per_1000: float | None = None) -> Lines:
    """The lines of costs through held-out rows.

    Args:
        rows: Of both classes.
        terms: The costs.
        reviews_per_1000: Reviews that analysts have time for, of 1,000 payments; None if there is
            no bound.
    """
    calibration = fit_calibration(rows.raw, rows.fraud, weight=rows.weight)
    economics = terms.economics(0.0)
    if reviews_per_1000 is not None:
        gains = economics.review_gains(calibration.apply(rows.raw), rows.amount_minor, rows.segment)
        capacity = float(rows.weight.sum()) * reviews_per_1000 / 1000.0
        economics = terms.economics(shadow_price(gains, capacity, weight=rows.weight))
    return Lines(calibration, economics)


def cross_fit(rows: LineRows, draw: Draw, *, folds: int = FOLDS, seed: int = 7) -> Codes:
    """Outcome of each row by lines that were drawn without its card.

    Args:
        rows: Held-out payments.
        draw: Draws lines through some of them.
        folds: The cards are dealt into so many parts, those with a known fraud evenly.
        seed: Of the deal.

    Returns:
        int64 (n_rows,).
    """
    cluster, n_clusters = cluster_codes(rows.card)
    fold = _deal(cluster, n_clusters, rows.fraud, folds, seed)
    outcomes = np.zeros(len(cluster), dtype=np.int64)
    for one in range(folds):
        here = fold == one
        if here.any():
            lines = draw(rows.take(~here))
            own = rows.take(here)
            outcomes[here] = lines.outcomes(own.raw, own.amount_minor, own.segment)
    return outcomes


def _deal(cluster: Codes, n_clusters: int, fraud: Bools, folds: int, seed: int) -> Codes:
    """The fold of each row."""
    has_fraud = np.zeros(n_clusters, dtype=np.bool_)
    has_fraud[cluster[fraud]] = True
    dealt = np.empty(n_clusters, dtype=np.int64)
    random = np.random.default_rng(seed)
    for kind in (has_fraud, ~has_fraud):
        members = random.permutation(np.flatnonzero(kind))
        dealt[members] = np.arange(len(members)) % folds
    return np.asarray(dealt[cluster])
