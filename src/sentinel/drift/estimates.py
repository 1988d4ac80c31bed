"""How good a model is now, before labels come: estimates, each with its assumption and interval.

Recent payments have probabilities and no truth. What their probabilities mean is carried over from
payments of known truth by one of two assumptions (`sentinel.drift.shifts`): covariate shift or
label shift. Nothing in the payments can tell the first one wrong, so both figures are given, and
one that covers both unless the second is refuted. If what a payment *is* has changed (concept
drift), neither holds: labels that came since then refute both, and there is no estimate from
probabilities alone. Where enough of these labels are at hand, they correct the probabilities
(prediction-powered inference: Angelopoulos et al., Science 382, 2023).

Intervals but those of the alert rate come from a bootstrap over days, of known and of recent
payments alike, with the truth of recent payments drawn anew in each round. They are of 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from scipy.stats import t as student

from sentinel.drift.concept import ConceptCheck, check_concept, corrected
from sentinel.drift.score_table import (
    Floats,
    KnownPayments,
    ScoredPayments,
    ScoreTable,
    average_precision,
    bin_edges,
    drawn_days,
)
from sentinel.drift.shifts import fraud_shares, label_shift_refuted, under_label_shift
from sentinel.models.intervals import Estimate

ROUNDS: Final = 400
LEAST_FRAUDS: Final = 20.0
"""Effective frauds of known truth from which on there is an estimate."""
NOT_ESTIMABLE: Final = Estimate(math.nan, math.nan, math.nan)
"""A figure of which nothing can be said."""
LEAST_DAYS: Final = 4
"""Days of known and of recent payments from which on there is an interval."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a model on recent payments.

    Attributes:
        fraud_share: Share of payments that are fraud.
        average_precision: Of the ranking.
        alert_rate: Share of payments at or above each line, by its name. The value is that of the
            payments themselves, the interval that of the long run, were days to go on like these.
        precision: Share of fraud among these.
    """

    fraud_share: Estimate
    average_precision: Estimate
    alert_rate: dict[str, Estimate]
    precision: dict[str, Estimate]


class LabelFree(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a model before labels come.

    Attributes:
        status: ``estimated``; ``corrected by labels``; or ``not estimable``.
        why: What it rests on, or why there is none and what to do, in a sentence or two.
        figures: What to go by: it covers each assumption that is not refuted; None if there is no
            estimate.
        covariate_shift, label_shift: By each assumption alone; None likewise.
        label_shift_refuted: Whether the probabilities of recent payments contradict label shift.
        payments: Recent ones.
        known_frauds: Effective number of frauds that the estimate is carried over from.
    """

    status: str
    why: str
    figures: Figures | None
    covariate_shift: Figures | None = None
    label_shift: Figures | None = None
    label_shift_refuted: bool = False
    payments: int
    known_frauds: float


def estimate_without_labels(
    known: KnownPayments,
    recent: ScoredPayments,
    lines: Mapping[str, float],
    *,
    since: KnownPayments | None = None,
    ratio: Floats | None = None,
    enough: float = 60.0,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> LabelFree:
    """Estimate the figures of a model on recent payments.

    Args:
        known: The reference: held-out payments of known truth, with the model's probabilities.
        recent: Payments without truth.
        lines: Probabilities from which on something is done, by name.
        since: Payments after the reference whose truth is known by now, among them those that the
            control group let through; None if there are none. They tell concept drift.
        ratio: float64 (n_known,), how much more often payments like each known one come now
            (`sentinel.drift.density_ratio`); None if features were not looked at. The figures under
            covariate shift then cover what is carried over by probability and by features.
        enough: Effective frauds among these from which on they correct probabilities.
        rounds: Of the bootstrap.
        seed: The same gives the same estimate.
    """
    frauds = known.effective_frauds
    lacking = _lacking(known, recent, frauds)
    if lacking:
        return LabelFree(
            status="not estimable",
            why=lacking,
            figures=None,
            payments=len(recent),
            known_frauds=frauds,
        )
    random = np.random.default_rng(seed)
    edges = bin_edges(known, known.weight, lines)
    before, now = ScoreTable.of(known, edges), ScoreTable.of(recent, edges)
    drawn = drawn_days(before.days, rounds, random)
    payments = drawn @ before.payments
    share = fraud_shares(payments, drawn @ before.expected, drawn @ before.frauds)
    counts = drawn_days(now.days, rounds, random) @ now.payments
    moved, _ = under_label_shift(share, payments, counts)
    refuted = label_shift_refuted(before, now, share[0])
    frame = _Frame(
        edges=edges,
        lines=lines,
        counts=counts,
        clustering=_clustering(before, share[0]),
        known=before,
        recent=now,
        random=random,
    )
    covariate, label = frame.figures(share), frame.figures(moved)
    if ratio is not None:
        alike = _like_recent(known, ratio)
        if alike.effective_frauds < LEAST_FRAUDS:
            return _unlike(alike, len(recent))
        table = ScoreTable.of(alike, edges)
        drawn = drawn_days(table.days, rounds, random)
        sums = (drawn @ one for one in (table.payments, table.expected, table.frauds))
        covariate = _hull(frame.figures(fraud_shares(*sums)), covariate)
    check = check_concept(before, since, edges, lines.values(), rounds=rounds, seed=seed)
    if check.drifted:
        return _after_concept_drift(check, frame, share, enough, frauds)
    return LabelFree(
        status="estimated",
        why=_words(check, refuted),
        figures=covariate if refuted else _hull(covariate, label),
        covariate_shift=covariate,
        label_shift=label,
        label_shift_refuted=refuted,
        payments=len(recent),
        known_frauds=frauds,
    )


def _lacking(known: KnownPayments, recent: ScoredPayments, frauds: float) -> str:
    """What is missing for an estimate, and what to do; empty if nothing is."""
    if frauds < LEAST_FRAUDS:
        return (
            f"The payments of known truth hold {frauds:.1f} effective frauds; an estimate needs "
            f"{LEAST_FRAUDS:.0f}. It comes by itself as labels arrive and mature."
        )
    for what, rows in (("known", known), ("recent", recent)):
        days = len(np.unique(rows.day))
        if days < LEAST_DAYS:
            return (
                f"The {what} payments are of {days} days; an interval needs {LEAST_DAYS}. Wait for "
                "more days."
            )
    return ""


def _like_recent(known: KnownPayments, ratio: Floats) -> KnownPayments:
    """Known payments, weighing as much as payments like them come now."""
    return KnownPayments(
        probability=known.probability,
        day=known.day,
        fraud=known.fraud,
        weight=known.weight * ratio,
    )


def _unlike(alike: KnownPayments, payments: int) -> LabelFree:
    """No estimate, as payments such as the recent ones hardly are among the known ones."""
    return LabelFree(
        status="not estimable",
        why=(
            "Recent payments are unlike the known ones: of their kind only "
            f"{alike.effective_frauds:.1f} effective frauds are known, and an estimate needs "
            f"{LEAST_FRAUDS:.0f}. Retrain once labels of such payments are mature."
        ),
        figures=None,
        payments=payments,
        known_frauds=alike.effective_frauds,
    )


def _words(check: ConceptCheck, refuted: bool) -> str:
    """What an estimate rests on."""
    shift = (
        "Recent probabilities contradict a change of the share of fraud alone, so a payment of a "
        "given probability is taken to be fraud as often as before."
        if refuted
        else "The interval covers both a change of the kinds of payments and a change of the "
        "share of fraud."
    )
    if not check.checked:
        return (
            f"{shift} Too few labels since the reference are mature to tell whether what fraud "
            "looks like has changed; the estimate supposes that it has not."
        )
    return f"{shift} {check.frauds:.0f} effective frauds known since then do not contradict it."


def _after_concept_drift(
    check: ConceptCheck, frame: _Frame, share: Floats, enough: float, known_frauds: float
) -> LabelFree:
    """What is left once labels have refuted both assumptions."""
    payments = int(frame.recent.payments.sum())
    drifted = (
        f"{check.frauds:.0f} effective frauds known since the reference contradict both a change "
        "of the kinds of payments and a change of the share of fraud: what fraud looks like has "
        "changed."
    )
    if check.frauds < enough:
        return LabelFree(
            status="not estimable",
            why=(
                f"{drifted} Probabilities alone say nothing now; from {enough:.0f} such frauds on "
                "labels correct them. Retrain, or let the control group pass more payments."
            ),
            figures=None,
            payments=payments,
            known_frauds=known_frauds,
        )
    return LabelFree(
        status="corrected by labels",
        why=(
            f"{drifted} The estimate is what these labels make of the probabilities. Of average "
            "precision there is none: they are too few to say how frauds rank now."
        ),
        figures=msgspec.structs.replace(
            frame.figures(corrected(share, check.ratio)),
            average_precision=NOT_ESTIMABLE,
        ),
        payments=payments,
        known_frauds=check.frauds,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Frame:
    """What turns shares of fraud into figures.

    Attributes:
        edges: Of the bins.
        lines: Edges among these, by name.
        counts: float64 (rounds, n_bins), recent payments in each round.
        clustering: How many frauds come together, 1 or more.
        known, recent: The tables.
        random: Draws the truth of recent payments.
    """

    edges: Floats
    lines: Mapping[str, float]
    counts: Floats
    clustering: float
    known: ScoreTable
    recent: ScoreTable
    random: np.random.Generator

    def figures(self, share: Floats) -> Figures:
        """Figures where each bin has these shares of fraud: float64 (rounds, n_bins)."""
        frauds = self._with_luck(share)
        payments = self.counts.sum(axis=1)
        alerts, precision = {}, {}
        for name, line in self.lines.items():
            above = np.arange(len(self.edges) + 1) > np.searchsorted(self.edges, line)
            stopped = self.counts[:, above].sum(axis=1)
            alerts[name] = rate_of_days(
                self.recent.payments[:, above].sum(axis=1), self.recent.payments.sum(axis=1)
            )
            with np.errstate(invalid="ignore"):
                precision[name] = self._interval(frauds[:, above].sum(axis=1) / stopped)
        return Figures(
            fraud_share=self._interval(frauds.sum(axis=1) / payments),
            average_precision=self._interval(average_precision(self.counts, frauds)),
            alert_rate=alerts,
            precision=precision,
        )

    def _with_luck(self, share: Floats) -> Floats:
        """Frauds by bin: in the first round as many as expected, in the others drawn."""
        expected = self.counts * share
        scale = np.maximum(self.clustering * (1.0 - share), 1e-9)
        drawn = self.random.gamma(np.maximum(expected / scale, 1e-9), scale)
        drawn[0] = expected[0]
        return np.minimum(drawn, self.counts)

    def _interval(self, values: Floats) -> Estimate:
        """The first round with an interval of the others, wider where days are few."""
        point, others = float(values[0]), values[1:]
        drawn = Estimate.of(point, others)
        if np.isnan(point):
            return drawn
        days = min(self.known.days, self.recent.days)
        wider = float(student.isf(0.025, days - 1)) / 1.96 * np.sqrt(days / (days - 1))
        return Estimate(
            point, _further(point, drawn.low, wider), _further(point, drawn.high, wider)
        )


def rate_of_days(some: Floats, payments: Floats) -> Estimate:
    """The share of some payments, with an interval of 95 % for the share in the long run.

    The share of these days is known. That of other days is not, and days differ with a tail to the
    right: busy ones are far above the others. So the interval is that of the mean of a lognormal
    variable (Cox's, with Student's quantile), whose spread is that between these days.

    Args:
        some, payments: float64 (n_days,), of each day.

    >>> days = np.array([1000.0, 1000.0, 1000.0, 1000.0])
    >>> found = rate_of_days(np.array([10.0, 20.0, 15.0, 15.0]), days)
    >>> round(found.value, 4), round(found.low, 4), round(found.high, 4)
    (0.015, 0.0097, 0.0232)
    """
    days, share = len(payments), float(some.sum() / payments.sum())
    if share == 0.0 or days < 2:
        return Estimate(share, share, share)
    apart = some - share * payments
    variance = days / (days - 1) * float((apart**2).mean()) / float(payments.mean()) ** 2
    spread = math.log1p(variance / share**2)
    error = math.sqrt((spread + spread**2 / 2 * days / (days - 1)) / days)
    times = math.exp(float(student.isf(0.025, days - 1)) * error)
    return Estimate(share, share / times, min(share * times, 1.0))


def _further(point: float, end: float, wider: float) -> float:
    """An end of an interval of a share, so many times as far away on the scale of log-odds.

    >>> round(_further(0.5, 0.8, 1.5), 3), _further(0.5, 0.0, 1.5)
    (0.889, 0.0)
    """
    if not 0.0 < point < 1.0 or not 0.0 < end < 1.0:
        return end
    middle = math.log(point / (1.0 - point))
    moved = middle + wider * (math.log(end / (1.0 - end)) - middle)
    return 1.0 / (1.0 + math.exp(-min(max(moved, -50.0), 50.0)))


def _clustering(known: ScoreTable, share: Floats) -> float:
    """How much more frauds of a day vary than if each came by itself: 1 or more."""
    expected = known.payments @ share
    alone = (known.squares * share * (1.0 - share)).sum(axis=1)
    return max(float(((known.frauds.sum(axis=1) - expected) ** 2).mean() / alone.mean()), 1.0)


def _hull(one: Figures, other: Figures) -> Figures:
    """The first figures, with intervals that cover both."""
    names = one.alert_rate
    return Figures(
        fraud_share=_both(one.fraud_share, other.fraud_share),
        average_precision=_both(one.average_precision, other.average_precision),
        alert_rate={n: _both(one.alert_rate[n], other.alert_rate[n]) for n in names},
        precision={n: _both(one.precision[n], other.precision[n]) for n in names},
    )


def _both(one: Estimate, other: Estimate) -> Estimate:
    if math.isnan(one.value):
        return other
    return Estimate(one.value, min(one.low, other.low), max(one.high, other.high))
