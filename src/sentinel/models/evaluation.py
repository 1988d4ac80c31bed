"""How good a model is, with a confidence interval on every figure.

Accuracy is not among the figures: where 3 payments in 1,000 are fraud, approving everything is
99.7 % accurate. What counts is what a given number of alerts catches, and whether a probability
means what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan import DAY_US
from sentinel.models.intervals import Counts, Estimate, cluster_codes, resamples

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FALSE_POSITIVE_RATES: Final = (0.001, 0.01, 0.05)
CALIBRATION_BINS: Final = 20
_TINY: Final = 1e-15


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Rows a model has not seen, with their truth. All arrays are (n_rows,).

    Attributes:
        fraud: bool, the truth.
        score: float64, whatever ranks the rows: raw score or probability.
        probability: float64, calibrated.
        card: int64 code of the card or customer; negative = unknown.
        event_time_us: int64, microseconds.
        amount_minor: int64.
    """

    fraud: Bools
    score: Floats
    probability: Floats
    card: Ints
    event_time_us: Ints
    amount_minor: Ints

    def __post_init__(self) -> None:
        _check_classes(self.fraud)


def evaluate(
    rows: HeldOut,
    *,
    alerts_per_1000: float = 5.0,
    cards_per_day: int = 100,
    rounds: int = 400,
    seed: int = 7,
) -> dict[str, Estimate]:
    """All figures of a model.

    Args:
        rows: Held-out rows.
        alerts_per_1000: Budget at which caught money is measured.
        cards_per_day: Cards that can be checked per day.
        rounds: Bootstrap rounds; cards are resampled.
        seed: Seed of the bootstrap.

    Returns:
        ``average_precision``, ``roc_auc``, ``recall_at_fpr_0.1pct`` (1pct, 5pct),
        ``card_precision_at_100``, ``money_caught_at_5_per_1000`` (a share), ``brier``,
        ``calibration_error``, ``log_loss``.
    """
    cluster, n_clusters = cluster_codes(rows.card)
    ranking = Ranking(rows.fraud, rows.score, rows.amount_minor)
    days = CardDays(rows.fraud, rows.score, cluster, rows.event_time_us // DAY_US)
    losses = _row_losses(rows.fraud, rows.probability)
    bins = _calibration_bins(rows.probability)

    def measure(counts: Counts) -> dict[str, Floats]:
        ranked = ranking.totals(counts[:, cluster[ranking.order]])
        spread = np.asarray(counts[:, cluster], dtype=np.float64)
        figures = {
            "average_precision": ranked.average_precision(),
            "roc_auc": ranked.roc_auc(),
            **{
                f"recall_at_fpr_{100 * rate:g}pct": ranked.recall_at_fpr(rate)
                for rate in FALSE_POSITIVE_RATES
            },
            f"card_precision_at_{cards_per_day}": days.precision(counts, cards_per_day),
            f"money_caught_at_{alerts_per_1000:g}_per_1000": ranked.money_caught(
                alerts_per_1000
            ),
        }
        weight = spread.sum(axis=1)
        for name, loss in losses.items():
            figures[name] = spread @ loss / weight
        figures["calibration_error"] = _calibration_error(
            spread, rows.fraud, rows.probability, bins
        )
        return figures

    value = measure(np.ones((1, n_clusters), dtype=np.int32))
    samples = [
        measure(counts) for counts in resamples(n_clusters, rounds, seed, n_rows=len(cluster))
    ]
    return {
        name: Estimate.of(float(value[name][0]), np.concatenate([s[name] for s in samples]))
        for name in value
    }


def compare(
    fraud: npt.ArrayLike,
    candidate: npt.ArrayLike,
    champion: npt.ArrayLike,
    card: npt.ArrayLike,
    *,
    rounds: int = 400,
    seed: int = 7,
) -> Estimate:
    """Average precision of a candidate minus that of the champion, paired on the same rows.

    Args:
        fraud: (n_rows,), the truth.
        candidate, champion: (n_rows,), their scores of these rows.
        card: int (n_rows,), code of the card, negative = unknown.
        rounds, seed: Of the bootstrap; both models see the same draws.

    Returns:
        The difference; an interval below 0 says that the candidate is worse.
    """
    truth = np.asarray(fraud, dtype=np.bool_)
    _check_classes(truth)
    cluster, n_clusters = cluster_codes(card)
    pair = [Ranking(truth, np.asarray(s, dtype=np.float64)) for s in (candidate, champion)]

    def difference(counts: Counts) -> Floats:
        new, old = (r.totals(counts[:, cluster[r.order]]).average_precision() for r in pair)
        return np.asarray(new - old)

    value = difference(np.ones((1, n_clusters), dtype=np.int32))
    samples = [
        difference(counts) for counts in resamples(n_clusters, rounds, seed, n_rows=len(truth))
    ]
    return Estimate.of(float(value[0]), np.concatenate(samples))


def average_precision(fraud: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Mean precision over the frauds, each at its own score: the area under the PR steps.

    >>> average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    0.8333333333333333
    """
    return float(_plain(fraud, score).average_precision()[0])


def roc_auc(fraud: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Probability that a fraud scores above a legitimate row, ties counting half.

    >>> roc_auc([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    0.75
    """
    return float(_plain(fraud, score).roc_auc()[0])


def _plain(fraud: npt.ArrayLike, score: npt.ArrayLike) -> RankedTotals:
    truth = np.asarray(fraud, dtype=np.bool_)
    _check_classes(truth)
    ranking = Ranking(truth, np.asarray(score, dtype=np.float64))
    return ranking.totals(np.ones((1, len(truth)), dtype=np.int32))


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
        self.money: Floats = np.maximum(amounts[self.order][self.frauds], 0) if amounts.size else (
            np.zeros(len(self.frauds))
        )

    def totals(self, counts: Counts) -> RankedTotals:
        """Cumulative counts at the frauds.

        Args:
            counts: int32 (n_rounds, n_rows), in rank order.
        """
        return RankedTotals(self, counts)


class RankedTotals:
    """Figures of a ranking for many bootstrap rounds at once: each float64 (n_rounds,)."""

    def __init__(self, ranking: Ranking, counts: Counts) -> None:
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
        precision = self._frauds_until / np.maximum(self._all_until, 1.0)
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


def _running(counts: Counts) -> npt.NDArray[np.int64]:
    """Totals before each column and after the last: int64 (n_rounds, n_columns + 1)."""
    totals = np.zeros((counts.shape[0], counts.shape[1] + 1), dtype=np.int64)
    np.cumsum(counts, axis=1, out=totals[:, 1:])
    return totals


def _share(part: Floats, whole: Floats) -> Floats:
    """``part / whole``; NaN where a draw has nothing to share."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _check_classes(fraud: Bools) -> None:
    if not fraud.any() or fraud.all():
        raise ValueError("Evaluation needs frauds and legitimate rows. Hold out a longer time.")


def _row_losses(fraud: Bools, probability: Floats) -> dict[str, Floats]:
    """Brier score (1950) and negative log likelihood of each row."""
    p = np.clip(probability, _TINY, 1.0 - _TINY)
    return {
        "brier": (probability - fraud) ** 2,
        "log_loss": -np.where(fraud, np.log(p), np.log1p(-p)),
    }


def _calibration_bins(probability: Floats) -> Ints:
    """Bins of equal expected fraud: with equal widths, one bin would hold almost every row."""
    order = np.argsort(probability, kind="stable")
    mass = np.cumsum(probability[order])
    bins = np.empty(len(probability), dtype=np.int64)
    share = mass / max(float(mass[-1]), _TINY)
    bins[order] = np.minimum((share * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    return bins


def _calibration_error(weight: Floats, fraud: Bools, probability: Floats, bins: Ints) -> Floats:
    """Expected calibration error (Naeini et al., 2015) over those bins, by round."""
    gap = np.zeros(len(weight))
    for one in range(CALIBRATION_BINS):
        members = np.flatnonzero(bins == one)
        gap += np.abs(weight[:, members] @ (probability[members] - fraud[members]))
    return np.asarray(gap / weight.sum(axis=1))
