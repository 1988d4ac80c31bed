"""How good a model is, with a confidence interval on every figure.

Accuracy is not among the figures: where 3 payments in 1,000 are fraud, approving everything is
99.7 % accurate. What counts is what a given number of alerts catches, and whether a probability
means what it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US
from sentinel.models.dataset import MIN_FRAUDS
from sentinel.models.intervals import Counts, Estimate, cluster_codes, resamples
from sentinel.models.ranking import CardDays, RankedTotals, Ranking
from sentinel.models.weights import effective_size

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

FALSE_POSITIVE_RATES: Final = (0.001, 0.01, 0.05)
CALIBRATION_BINS: Final = 20
NOT_ENOUGH_FRAUDS: Final = "not enough frauds to say"
TOO_FEW_GOOD: Final = "too few good payments"
WEIGHTED: Final = "weighted_"
"""Before the name of a figure in which each row counts for all payments that it stands for."""
UNCLIPPED_PRECISION: Final = "weighted_unclipped_average_precision"
CERTAIN_FRAUDS: Final = 50
"""From so many known frauds on, a model that cannot be told from knowing nothing is no good."""

_FEWEST: Final = 5.0
"""A share of false alarms, or a budget of alerts, is one of so many payments at least."""
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
        weight: float64, how many payments each stands for; None if each is one.
        unclipped: float64, the same before it was cut; None if nothing was.
    """

    fraud: Bools
    score: Floats
    probability: Floats
    card: Ints
    event_time_us: Ints
    amount_minor: Ints
    weight: Floats | None = None
    unclipped: Floats | None = None

    def __post_init__(self) -> None:
        _check_classes(self.fraud)


@dataclass(frozen=True)
class Figures:
    """What can be said of a model on some rows, and what cannot.

    Attributes:
        metrics: By name.
        not_measured: Why the rows are too few for the others, by name.
    """

    metrics: dict[str, Estimate]
    not_measured: dict[str, str]


def figures(
    rows: HeldOut | None,
    *,
    alerts_per_1000: float = 5.0,
    cards_per_day: int = 100,
    rounds: int = 400,
    seed: int = 7,
) -> Figures:
    """The figures of a model that its held-out rows are enough for.

    Args:
        rows: Held-out rows; None if they are not of both classes.
        alerts_per_1000, cards_per_day, rounds, seed: See `evaluate`.
    """
    names = figure_names(alerts_per_1000, cards_per_day)
    if rows is None:
        return Figures({}, dict.fromkeys(names, NOT_ENOUGH_FRAUDS))
    names += _weighted_names(rows, alerts_per_1000)
    found = evaluate(
        rows,
        alerts_per_1000=alerts_per_1000,
        cards_per_day=cards_per_day,
        rounds=rounds,
        seed=seed,
    )
    why = _too_few(rows, alerts_per_1000, cards_per_day) | _too_light(rows, names)
    return Figures({name: found[name] for name in names if name not in why}, why)


def figure_names(alerts_per_1000: float, cards_per_day: int) -> tuple[str, ...]:
    """All figures, in the order they are shown."""
    return (
        "average_precision",
        "roc_auc",
        *(f"recall_at_fpr_{100 * rate:g}pct" for rate in FALSE_POSITIVE_RATES),
        f"card_precision_at_{cards_per_day}",
        f"money_caught_at_{alerts_per_1000:g}_per_1000",
        "brier",
        "log_loss",
        "calibration_error",
    )


def _weighted_names(rows: HeldOut, alerts_per_1000: float) -> tuple[str, ...]:
    """The figures of weighted rows; none where each stands for itself."""
    if rows.weight is None:
        return ()
    all_names = (name for name in figure_names(alerts_per_1000, 0) if not name.startswith("card_"))
    found = tuple(WEIGHTED + name for name in all_names)
    return found if rows.unclipped is None else (*found, UNCLIPPED_PRECISION)


def _too_light(rows: HeldOut, names: tuple[str, ...]) -> dict[str, str]:
    """The weighted figures that cannot be had, and why: what counts is the effective number."""
    if rows.weight is None:
        return {}
    weighted = [name for name in names if name.startswith(WEIGHTED)]
    if effective_size(rows.weight[rows.fraud]) < MIN_FRAUDS:
        return dict.fromkeys(weighted, NOT_ENOUGH_FRAUDS)
    if effective_size(rows.weight[~rows.fraud]) < MIN_FRAUDS:
        return dict.fromkeys(weighted, TOO_FEW_GOOD)
    return {}


def _too_few(rows: HeldOut, alerts_per_1000: float, cards_per_day: int) -> dict[str, str]:
    """The figures that cannot be had from some rows, and why."""
    names = figure_names(alerts_per_1000, cards_per_day)
    frauds = int(rows.fraud.sum())
    good = len(rows.fraud) - frauds
    if frauds < MIN_FRAUDS:
        return dict.fromkeys(names, NOT_ENOUGH_FRAUDS)
    if good < MIN_FRAUDS:
        return dict.fromkeys(names, TOO_FEW_GOOD)
    why: dict[str, str] = {}
    for rate in FALSE_POSITIVE_RATES:
        if good * rate < _FEWEST:
            why[f"recall_at_fpr_{100 * rate:g}pct"] = TOO_FEW_GOOD
    days = len(np.unique(rows.event_time_us // DAY_US))
    pairs = np.stack([rows.event_time_us // DAY_US, rows.card])
    seen = np.unique(pairs[:, rows.card >= 0], axis=1).shape[1]
    if not (rows.card >= 0).any():
        why[names[5]] = "no cards or customers"
    elif seen < cards_per_day * days:
        why[names[5]] = f"under {cards_per_day} cards a day"
    if not (rows.amount_minor[rows.fraud] > 0).any():
        why[names[6]] = "no fraud has an amount"
    elif len(rows.fraud) * alerts_per_1000 < 1000.0 * _FEWEST:
        why[names[6]] = "too few payments"
    return why


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
        ``calibration_error``, ``log_loss``. Where rows have weights, also those that begin with
        `WEIGHTED`; a card has no weight, so ``card_precision`` is not among them.
    """
    cluster, n_clusters = cluster_codes(rows.card)
    measure = _measure_of(rows, alerts_per_1000, cards_per_day)
    return _estimates(measure, n_clusters, rounds, seed, n_rows=len(cluster))


def differences(
    rows: HeldOut,
    other: HeldOut,
    *,
    alerts_per_1000: float = 5.0,
    cards_per_day: int = 100,
    rounds: int = 400,
    seed: int = 7,
) -> dict[str, Estimate]:
    """Every figure of a model minus that of another one, paired on the same rows.

    Args:
        rows: Held-out rows with a model's scores.
        other: The same rows with the scores of the other one.
        alerts_per_1000, cards_per_day, rounds, seed: See `evaluate`.
    """
    cluster, n_clusters = cluster_codes(rows.card)
    pair = [_measure_of(one, alerts_per_1000, cards_per_day) for one in (rows, other)]

    def difference(counts: Counts) -> dict[str, Floats]:
        mine, theirs = (measure(counts) for measure in pair)
        return {name: np.asarray(mine[name] - theirs[name]) for name in mine}

    return _estimates(difference, n_clusters, rounds, seed, n_rows=len(cluster))


def _estimates(
    measure: Callable[[Counts], dict[str, Floats]],
    n_clusters: int,
    rounds: int,
    seed: int,
    *,
    n_rows: int,
) -> dict[str, Estimate]:
    """Figures of all cards, with intervals from draws of cards."""
    value = measure(np.ones((1, n_clusters), dtype=np.int32))
    samples = [measure(counts) for counts in resamples(n_clusters, rounds, seed, n_rows=n_rows)]
    return {
        name: Estimate.of(float(value[name][0]), np.concatenate([s[name] for s in samples]))
        for name in value
    }


def _measure_of(
    rows: HeldOut, alerts_per_1000: float, cards_per_day: int
) -> Callable[[Counts], dict[str, Floats]]:
    """A function from draws of cards to every figure, float64 (n_rounds,), by name."""
    cluster, _ = cluster_codes(rows.card)
    ranking = Ranking(rows.fraud, rows.score, rows.amount_minor)
    days = CardDays(rows.fraud, rows.score, cluster, rows.event_time_us // DAY_US)
    losses = _row_losses(rows.fraud, rows.probability)
    bins = _calibration_bins(rows.probability, None)
    own_bins = bins if rows.weight is None else _calibration_bins(rows.probability, rows.weight)

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
            f"money_caught_at_{alerts_per_1000:g}_per_1000": ranked.money_caught(alerts_per_1000),
        }
        weight = spread.sum(axis=1)
        for name, loss in losses.items():
            figures[name] = spread @ loss / weight
        figures["calibration_error"] = _calibration_error(
            spread, rows.fraud, rows.probability, bins
        )
        if rows.weight is not None:
            figures |= weighted(spread * rows.weight)
        if rows.unclipped is not None:
            heavy = ranking.totals((spread * rows.unclipped)[:, ranking.order])
            figures[UNCLIPPED_PRECISION] = heavy.average_precision()
        return figures

    def weighted(mass: Floats) -> dict[str, Floats]:
        """The figures of rows that stand for so many, float64 (n_rounds, n_rows)."""
        ranked = ranking.totals(mass[:, ranking.order])
        found = {
            "average_precision": ranked.average_precision(),
            "roc_auc": ranked.roc_auc(),
            **{
                f"recall_at_fpr_{100 * rate:g}pct": ranked.recall_at_fpr(rate)
                for rate in FALSE_POSITIVE_RATES
            },
            f"money_caught_at_{alerts_per_1000:g}_per_1000": ranked.money_caught(alerts_per_1000),
            **{name: mass @ loss / mass.sum(axis=1) for name, loss in losses.items()},
            "calibration_error": _calibration_error(mass, rows.fraud, rows.probability, own_bins),
        }
        return {WEIGHTED + name: value for name, value in found.items()}

    return measure


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
        candidate: (n_rows,), its scores of these rows.
        champion: (n_rows,), the scores to beat.
        card: int (n_rows,), code of the card, negative = unknown.
        rounds: Bootstrap rounds; both models see the same draws.
        seed: Seed of the draws.

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


def undecided(better_by_than_nothing: Estimate, frauds: int) -> str:
    """Why a model cannot be told from knowing nothing yet; empty if it can, either way.

    With few frauds the interval is wide. One that holds zero says that there is too little truth,
    not that the model is bad.

    Args:
        better_by_than_nothing: Its average precision minus the share of fraud.
        frauds: How many known frauds that rests on.
    """
    if frauds < CERTAIN_FRAUDS and better_by_than_nothing.low <= 0 < better_by_than_nothing.high:
        return f"{frauds:,} known frauds are too few to tell it from knowing nothing"
    return ""


def average_precision(
    fraud: npt.ArrayLike, score: npt.ArrayLike, weight: npt.ArrayLike | None = None
) -> float:
    """Mean precision over the frauds, each at its own score: the area under the PR steps.

    Args:
        fraud: (n_rows,), the truth.
        score: (n_rows,).
        weight: (n_rows,), how many rows each stands for; None if each is one.

    >>> average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    0.8333333333333333
    """
    if weight is None:
        return float(_plain(fraud, score).average_precision()[0])
    truth = np.asarray(fraud, dtype=np.bool_)
    _check_classes(truth)
    ranking = Ranking(truth, np.asarray(score, dtype=np.float64))
    mass = np.asarray(weight, dtype=np.float64)[ranking.order]
    return float(ranking.totals(mass[None, :]).average_precision()[0])


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


def _calibration_bins(probability: Floats, weight: Floats | None) -> Ints:
    """Bins of equal expected fraud: with equal widths, one bin would hold almost every row."""
    order = np.argsort(probability, kind="stable")
    expected = probability if weight is None else probability * weight
    mass = np.cumsum(expected[order])
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
