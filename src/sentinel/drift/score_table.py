"""Payments by day and by the probability they got: all that estimates without labels look at.

A few dozen bins hold a day, whatever its traffic, so that hundreds of bootstrap rounds over days
are one product of matrices. The bins are narrow where frauds are: each holds an equal part of the
expected fraud. The lines of a model are edges, so that figures at them are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FRAUD_BINS: Final = 40
"""Bins of equal expected fraud."""
ROW_BINS: Final = 8
"""Bins of equal numbers of payments: the many that are hardly suspected."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredPayments:
    """Payments with the probability that a model gave them. All arrays are (n_rows,).

    Attributes:
        probability: float64, calibrated.
        day: int64, any number that payments of one day share.
    """

    probability: Floats
    day: Ints

    def __len__(self) -> int:
        return len(self.probability)


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownPayments(ScoredPayments):
    """Payments whose truth is known, too.

    Attributes:
        fraud: bool.
        weight: float64, how many payments each stands for, as `sentinel.models.weights` has it;
            rows that weigh 0 are out.
    """

    fraud: Bools
    weight: Floats

    @property
    def effective_frauds(self) -> float:
        """How many frauds of equal weight say as much as the known ones (Kish, 1965)."""
        own = self.weight[self.fraud]
        squares = float((own * own).sum())
        return float(own.sum()) ** 2 / squares if squares > 0 else 0.0


def bin_edges(payments: ScoredPayments, weight: Floats, lines: Mapping[str, float]) -> Floats:
    """Edges of the bins: float64 (n_bins - 1,), rising; a payment at an edge lies above it.

    Args:
        payments: The reference.
        weight: float64 (n_rows,), how many payments each stands for.
        lines: Probabilities that become edges, by name.
    """
    order = np.argsort(payments.probability, kind="stable")
    p, w = payments.probability[order], weight[order]
    edges = [np.array(list(lines.values()), dtype=np.float64)]
    for mass, parts in ((np.cumsum(w * p), FRAUD_BINS), (np.cumsum(w), ROW_BINS)):
        wanted = np.linspace(0.0, mass[-1], parts + 1)[1:-1]
        edges.append(p[np.minimum(np.searchsorted(mass, wanted), len(p) - 1)])
    return np.unique(np.concatenate(edges))


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreTable:
    """Sums by day and bin: float64 (n_days, n_bins) each.

    Attributes:
        payments: Weighted number of payments.
        expected: Weighted sum of their probabilities.
        frauds: Weighted number of known frauds; zeros where no truth is known.
        squares: Sum of squared weights.
    """

    payments: Floats
    expected: Floats
    frauds: Floats
    squares: Floats

    @property
    def days(self) -> int:
        """How many days there are."""
        return len(self.payments)

    @classmethod
    def of(cls, rows: ScoredPayments, edges: Floats) -> ScoreTable:
        """Sum payments up.

        >>> rows = ScoredPayments(probability=np.array([0.1, 0.9]), day=np.array([4, 4]))
        >>> ScoreTable.of(rows, np.array([0.5])).payments
        array([[1., 1.]])
        """
        names, day = np.unique(rows.day, return_inverse=True)
        n_bins = len(edges) + 1
        cell = day * n_bins + np.searchsorted(edges, rows.probability, side="right")
        known = isinstance(rows, KnownPayments)
        weight = rows.weight if isinstance(rows, KnownPayments) else np.ones(len(rows))
        fraud = rows.fraud * weight if isinstance(rows, KnownPayments) and known else 0.0 * weight

        def total(values: Floats) -> Floats:
            sums = np.bincount(cell, weights=values, minlength=len(names) * n_bins)
            return np.asarray(sums, np.float64).reshape(len(names), n_bins)

        return cls(
            payments=total(weight),
            expected=total(weight * rows.probability),
            frauds=total(fraud),
            squares=total(weight * weight),
        )


def drawn_days(days: int, rounds: int, random: np.random.Generator) -> Floats:
    """How often each day is drawn: float64 (rounds, days), the first round each of them once."""
    counts = random.multinomial(days, np.full(days, 1.0 / days), size=rounds)
    counts[0] = 1
    return counts.astype(np.float64)


def average_precision(payments: Floats, frauds: Floats) -> Floats:
    """Average precision of binned payments, frauds of a bin being spread evenly over its ranks.

    Args:
        payments: float64 (rounds, n_bins), by rising probability.
        frauds: float64 (rounds, n_bins), at most as many as payments.

    Returns:
        float64 (rounds,); NaN where there is no fraud.

    >>> float(average_precision(np.array([[98.0, 2.0]]), np.array([[0.0, 2.0]]))[0])
    1.0
    """
    n, f = payments[:, ::-1], frauds[:, ::-1]
    n_before, f_before = np.cumsum(n, axis=1) - n, np.cumsum(f, axis=1) - f
    with np.errstate(divide="ignore", invalid="ignore"):
        own = np.where(n > 0, f / n, 0.0)
        # The mean over the bin of (frauds up to a rank) / (payments up to it).
        stretch = np.where(n > 0, np.log1p(n / n_before) / n, 0.0)
        mean = np.where(n_before > 0, own + (f_before - n_before * own) * stretch, own)
        return np.asarray((f * mean).sum(axis=1) / f.sum(axis=1))
