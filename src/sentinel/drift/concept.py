"""Whether a payment of a given probability still is fraud as often as before, by labels since then.

Payments after the reference whose truth is known are held against both assumptions of
`sentinel.drift.shifts` at once: if neither explains how many frauds each part of the probabilities
brought, the concept has drifted. The same labels then correct the probabilities, part by part.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from scipy.stats import f as fisher

from sentinel.drift.score_table import Floats, KnownPayments, ScoreTable, drawn_days
from sentinel.drift.shifts import REFUTED_AT, fraud_shares, under_label_shift

LEAST_KNOWN: Final = 20.0
"""Effective frauds since the reference from which on they refute, and correct."""
LEAST_DAYS: Final = 5
PARTS: Final = 4
"""Parts of the probabilities, of equal expected fraud, at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptCheck:
    """What labels since the reference say.

    Attributes:
        checked: Whether there are enough of them to say anything.
        covariate_refuted, label_refuted: Whether they contradict each assumption.
        frauds: Their effective number of frauds.
        ratio: float64 (rounds, n_bins), frauds that came per fraud that was expected; empty if not
            checked.
    """

    checked: bool
    covariate_refuted: bool = False
    label_refuted: bool = False
    frauds: float = 0.0
    ratio: Floats = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def drifted(self) -> bool:
        """Whether neither assumption is left."""
        return self.covariate_refuted and self.label_refuted


def check_concept(
    known: ScoreTable,
    since: KnownPayments | None,
    edges: Floats,
    lines: Collection[float],
    *,
    rounds: int,
    seed: int,
) -> ConceptCheck:
    """Hold labels since the reference against what it lets expect.

    Args:
        known: The reference.
        since: Later payments of known truth; None if there are none.
        edges: Of the bins.
        lines: Those of them that no part straddles where labels correct probabilities, so that the
            precision above each is corrected by its own labels.
        rounds: Of the bootstrap over days.
        seed: Of its draws.
    """
    frauds = 0.0 if since is None else since.effective_frauds
    if since is None or frauds < LEAST_KNOWN:
        return ConceptCheck(checked=False, frauds=frauds)
    later = ScoreTable.of(since, edges)
    if later.days < LEAST_DAYS:
        return ConceptCheck(checked=False, frauds=frauds)
    random = np.random.default_rng([seed, 1])
    drawn, drawn_later = (drawn_days(days, rounds, random) for days in (known.days, later.days))
    payments = drawn @ known.payments
    share = fraud_shares(payments, drawn @ known.expected, drawn @ known.frauds)
    counts, found = drawn_later @ later.payments, drawn_later @ later.frauds
    moved, _ = under_label_shift(share, payments, counts)
    part = _parts(counts[0] * share[0], frauds)
    came, expected = _by_part(found, part), _by_part(counts * share, part)
    above = np.searchsorted(np.searchsorted(edges, sorted(lines)), np.arange(len(part)))
    finer = part + PARTS * above
    finer = np.unique(finer, return_inverse=True)[1]
    return ConceptCheck(
        checked=True,
        covariate_refuted=_differ(came, expected, later.days),
        label_refuted=_differ(came, _by_part(counts * moved, part), later.days),
        frauds=frauds,
        ratio=_ratio(
            _with_luck(_by_part(found, finer), _typical_weight(later, finer), random),
            _by_part(counts * share, finer),
        )[:, finer],
    )


def corrected(share: Floats, ratio: Floats) -> Floats:
    """Shares of fraud as labels since then correct them: float64 (rounds, n_bins)."""
    return np.minimum(share * ratio, 1.0)


def _parts(expected: Floats, frauds: float) -> np.ndarray:
    """Part of each bin: int (n_bins,), as many parts as each gets ten effective frauds."""
    parts = int(min(PARTS, max(1.0, frauds // (LEAST_KNOWN / 2))))
    middle = (np.cumsum(expected) - expected / 2) / expected.sum()
    return np.unique(np.minimum((middle * parts).astype(np.int64), parts - 1), return_inverse=True)[
        1
    ]


def _by_part(values: Floats, part: np.ndarray) -> Floats:
    """Sums over the bins of each part: float64 (rounds, n_parts)."""
    return np.stack(
        [values[:, part == number].sum(axis=1) for number in range(int(part.max()) + 1)], axis=1
    )


def _typical_weight(table: ScoreTable, part: np.ndarray) -> Floats:
    """The weight of a typical payment of each part: float64 (n_parts,)."""
    squares, payments = (
        np.bincount(part, weights=one.sum(axis=0)) for one in (table.squares, table.payments)
    )
    return np.asarray(np.maximum(squares, 1e-9) / np.maximum(payments, 1e-9))


def _with_luck(came: Floats, weight: Floats, random: np.random.Generator) -> Floats:
    """Frauds as other luck might have had them: where none came, some might have.

    Args:
        came: float64 (rounds, n_parts), weighted; the first round stays as it is.
        weight: float64 (n_parts,), of a typical payment.
        random: Draws from Jeffreys' posterior of a Poisson count.
    """
    drawn = weight * random.gamma(came / weight + 0.5)
    drawn[0] = came[0]
    return drawn


def _ratio(came: Floats, expected: Floats) -> Floats:
    """Frauds that came per fraud expected; NaN in parts of which no truth is known at all."""
    ratio = came / np.maximum(expected, 1e-9)
    return np.where(expected[0] > 0, ratio, np.nan)


def _differ(came: Floats, expected: Floats, days: int) -> bool:
    """Whether frauds of each part differ from what was expected, by Hotelling's T squared.

    Args:
        came, expected: float64 (rounds, n_parts); the first round is what was found, the spread of
            the others is its uncertainty.
        days: That were drawn.
    """
    # On the scale of roots the spread of counts hardly depends on their size.
    apart = np.sqrt(came) - np.sqrt(expected)
    parts = apart.shape[1]
    spread = np.atleast_2d(np.cov(apart[1:], rowvar=False)) + 1e-12 * np.eye(parts)
    squared = float(apart[0] @ np.linalg.solve(spread, apart[0])) * (days - 1) / days
    free = max(days - parts, 1)
    limit = float(fisher.isf(REFUTED_AT, parts, free))
    return bool(squared * free / (parts * (days - 1)) > limit)
