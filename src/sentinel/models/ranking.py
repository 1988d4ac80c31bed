"""Rows by falling score, and what can be read off that order for many bootstrap rounds at once.

Only the frauds need to be looked at: how many rows, and how many legitimate ones, stand above each
of them says all that a ranking metric asks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sentinel.models.intervals import Counts

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Ranking:
    """Rows by falling score, tied rows together; bootstrap counts turn it into figures.

    Args:
        fraud: bool (n_rows,).
        score: float64 (n_rows,).
        amount_minor: (n_rows,), for money figures; negative amounts count 0.

    Attributes:
        order: int64 (n_rows,), row at each rank.
    """

    def __init__(self, fraud: Bools, score: Floats, amount_minor: npt.ArrayLike = ()) -> None:
        self.order: Ints = np.argsort(-score, kind="stable")
        ranked, truth = score[self.order], fraud[self.order]
        first = np.concatenate([[True], ranked[1:] != ranked[:-1]])
        starts = np.flatnonzero(first)
        group = np.cumsum(first) - 1
        ends = np.append(starts[1:], len(ranked))
        self.frauds: Ints = np.flatnonzero(truth)
        # Ranks before, and up to the end of, the tie that each fraud is in.
        self.before: Ints = starts[group[self.frauds]]
        self.until: Ints = ends[group[self.frauds]]
        self.frauds_before: Ints = np.searchsorted(self.frauds, self.before)
        self.frauds_until: Ints = np.searchsorted(self.frauds, self.until)
        amounts = np.asarray(amount_minor, dtype=np.float64)
        self.money: Floats = (
            np.maximum(amounts[self.order][self.frauds], 0)
            if amounts.size
            else (np.zeros(len(self.frauds)))
        )

    def totals(self, counts: Counts | Floats) -> RankedTotals:
        """Cumulative counts at the frauds.

        Args:
            counts: (n_rounds, n_rows), in rank order: how often each row was drawn, int32; or
                float64, that times what the row stands for.
        """
        return RankedTotals(self, counts)


class RankedTotals:
    """Figures of a ranking for many bootstrap rounds at once: each float64 (n_rounds,)."""

    def __init__(self, ranking: Ranking, counts: Counts | Floats) -> None:
        self._money = ranking.money
        everything = _running(counts)
        self._weight: Floats = counts[:, ranking.frauds].astype(np.float64)
        frauds = _running(counts[:, ranking.frauds])
        self._all_until = everything[:, ranking.until].astype(np.float64)
        self._frauds_until = frauds[:, ranking.frauds_until].astype(np.float64)
        self._legitimate_before = (
            everything[:, ranking.before] - frauds[:, ranking.frauds_before]
        ).astype(np.float64)
        self._legitimate_until = self._all_until - self._frauds_until
        self._frauds = frauds[:, -1].astype(np.float64)
        self._all = everything[:, -1].astype(np.float64)

    def average_precision(self) -> Floats:
        precision = _share(self._frauds_until, self._all_until, nothing=0.0)
        return _share((self._weight * precision).sum(axis=1), self._frauds)

    def roc_auc(self) -> Floats:
        above = (self._legitimate_before + self._legitimate_until) / 2.0
        pairs = self._frauds * (self._all - self._frauds)
        return 1.0 - _share((self._weight * above).sum(axis=1), pairs)

    def recall_at_fpr(self, rate: float) -> Floats:
        """Share of frauds above the lowest threshold with at most that false-positive rate."""
        allowed = rate * (self._all - self._frauds)
        caught = self._legitimate_until <= allowed[:, None] + 1e-9
        return _share((self._weight * caught).sum(axis=1), self._frauds)

    def money_caught(self, alerts_per_1000: float) -> Floats:
        """Share of the frauds' money within the best-ranked rows that the budget allows."""
        allowed = alerts_per_1000 / 1000.0 * self._all
        caught = self._all_until <= allowed[:, None] + 1e-9
        money = self._weight * self._money
        return _share((money * caught).sum(axis=1), money.sum(axis=1))


class CardDays:
    """Cards by day with their highest score of the day: what Card Precision@k looks at.

    Args:
        fraud: bool (n_rows,).
        score: float64 (n_rows,).
        card: int64 (n_rows,), codes from 0 on.
        day: int64 (n_rows,).
    """

    def __init__(self, fraud: Bools, score: Floats, card: Ints, day: Ints) -> None:
        order = np.lexsort((card, day))
        pair_start = np.flatnonzero(
            np.concatenate([[True], (np.diff(day[order]) != 0) | (np.diff(card[order]) != 0)])
        )
        cards = card[order][pair_start]
        days = day[order][pair_start]
        best = np.maximum.reduceat(score[order], pair_start)
        truth = np.logical_or.reduceat(fraud[order], pair_start)
        self.n_cards = int(card.max()) + 1
        self.days: list[tuple[Ints, Bools]] = []
        for one in np.unique(days):
            members = np.flatnonzero(days == one)
            members = members[np.argsort(-best[members], kind="stable")]
            self.days.append((cards[members], truth[members]))

    def precision(self, counts: Counts, top: int) -> Floats:
        """Card Precision@k: of the k most suspicious cards of a day, the share with fraud.

        A card's score is its highest of the day; cards found to be compromised are not looked at
        again on later days; the mean over days is returned (Le Borgne et al., 2022, ch. 4).

        Args:
            counts: int32 (n_rounds, n_cards), how often each card was drawn.
            top: k.

        Returns:
            float64 (n_rounds,).
        """
        alive = counts.copy()
        total = np.zeros(len(counts))
        for cards, truth in self.days:
            here = alive[:, cards]
            checked = np.clip(top - (np.cumsum(here, axis=1) - here), 0, here)
            total += checked[:, truth].sum(axis=1) / top
            found = cards[truth]
            alive[:, found] = np.where(checked[:, truth] > 0, 0, alive[:, found])
        return np.asarray(total / len(self.days))


def _running(counts: Counts | Floats) -> npt.NDArray[Any]:
    """Totals before each column and after the last: (n_rounds, n_columns + 1), int64 or float64."""
    kind = np.float64 if counts.dtype == np.float64 else np.int64
    totals = np.zeros((counts.shape[0], counts.shape[1] + 1), dtype=kind)
    np.cumsum(counts, axis=1, out=totals[:, 1:])
    return totals


def _share(part: Floats, whole: Floats, nothing: float = np.nan) -> Floats:
    """``part / whole``; ``nothing`` where a draw has nothing to share."""
    return np.divide(part, whole, out=np.full_like(part, nothing), where=whole > 0)
