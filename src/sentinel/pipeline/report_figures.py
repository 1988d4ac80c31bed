"""What the report of a version measures beside its metrics: a baseline, importance, segments."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import load_trees
from sentinel.models.dataset import MIN_FRAUDS, Sample, sample, weight_column
from sentinel.models.evaluation import HeldOut, average_precision, compare
from sentinel.models.report_facts import Segment, Unknown
from sentinel.models.report_pictures import segment_precision
from sentinel.models.report_words import money_words
from sentinel.models.sampling import thinned
from sentinel.models.shap_kernel import Explainer
from sentinel.models.trainers import train
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.contestants import Contestant
from sentinel.pipeline.labelled_payments import LabelledPayments
from sentinel.settings import Settings

_BASELINE_ROWS: Final = 20_000
_EXPLAINED: Final = 2_000
_SHUFFLED: Final = 20_000
_FEATURES: Final = 15
_CATEGORIES: Final = 6

Bools = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float32]


def baseline_of(
    settings: Settings, known: LabelledPayments, one: Contestant, rows: Sample, vectors: Matrix
) -> HeldOut | None:
    """A logistic regression of a sample of what the model learnt from; None if it cannot be."""
    window = one.judged.training
    learnt = sample(
        known.payments,
        known.labels,
        start_us=window.start_us,
        end_us=window.end_us,
        cutoff_us=window.cutoff_us,
        maturity_us=window.gap_us or 0,
    )
    if not MIN_FRAUDS <= learnt.frauds < len(learnt):
        return None
    seed = settings.training.seed
    keep, weight = thinned(learnt.fraud, _BASELINE_ROWS, seed=seed, weight=learnt.weight)
    model = train(
        "logistic_regression",
        known.vectors(learnt.rows[keep]),
        learnt.fraud[keep],
        feature_names=one.plan.feature_names,
        categorical=one.plan.categorical,
        seed=seed,
        weight=weight,
    )
    raw = model.raw_score(vectors)
    payments, places = known.payments, rows.rows
    return HeldOut(
        fraud=rows.fraud,
        score=raw,
        probability=1.0 / (1.0 + np.exp(-np.clip(raw, -40, 40))),
        card=payments.card[places],
        event_time_us=payments.event_time_us[places],
        amount_minor=payments.amount_minor[places],
        weight=weight_column(rows.weight),
    )


def importance_of(
    one: Contestant, own: HeldOut | None, rows: Sample, vectors: Matrix
) -> tuple[dict[str, float], dict[str, float]]:
    """Shares of what moves the score, and the average precision that shuffling costs."""
    if not len(rows):
        return {}, {}
    names = one.plan.feature_names
    trees = load_trees(one.folder, one.judged)
    random = np.random.default_rng(7)
    some = np.sort(random.permutation(len(rows))[:_EXPLAINED])
    moved = np.abs(Explainer(trees).contributions(vectors[some])[:, :-1]).mean(axis=0)
    shares = moved / max(float(moved.sum()), 1e-300)
    top = [int(i) for i in np.argsort(-shares)[:_FEATURES]]
    shap = {names[i]: float(shares[i]) for i in top}
    if own is None:
        return shap, {}
    keep, weight = thinned(rows.fraud, _SHUFFLED, seed=7)
    scorer, X, fraud = Scorer(trees), vectors[keep].copy(), rows.fraud[keep]
    whole = average_precision(fraud, scorer.raw_many(X), weight)
    lost = {}
    for i in top:
        column = X[:, i].copy()
        X[:, i] = random.permutation(column)
        lost[names[i]] = whole - average_precision(fraud, scorer.raw_many(X), weight)
        X[:, i] = column
    return shap, lost


def segments_of(
    settings: Settings,
    known: LabelledPayments,
    plan: Plan,
    rows: Sample,
    own: HeldOut,
    rival: HeldOut | None,
    vectors: Matrix,
) -> tuple[Segment, ...]:
    """The model's figures by part of the payments, and where it is better than another one."""
    found = []
    for what, name, inside in _parts(known, plan, rows, vectors, settings.money.scale):
        payments, frauds = int(inside.sum()), int(rows.fraud[inside].sum())
        if not 0 < payments < len(rows):
            continue  # of nothing or of everything there is nothing to add
        segment = Segment(what, name, payments, frauds)
        if MIN_FRAUDS <= frauds < payments:
            figure = segment_precision(own, inside)
            better = None
            if rival is not None:
                better = compare(
                    own.fraud[inside],
                    own.score[inside],
                    rival.score[inside],
                    own.card[inside],
                    rounds=200,
                )
            segment = Segment(what, name, payments, frauds, figure, better)
        found.append(segment)
    return tuple(found)


def _parts(
    known: LabelledPayments, plan: Plan, rows: Sample, vectors: Matrix, scale: int
) -> list[tuple[str, str, Bools]]:
    """Amount bands, the commonest values of each category, and cards that are new or known."""
    amounts = known.payments.amount_minor[rows.rows]
    edges = np.unique(np.quantile(amounts, [0.25, 0.5, 0.75, 0.95]))
    band = np.searchsorted(edges, amounts, side="left")
    said = [money_words(edge, scale) for edge in edges]
    words = [f"up to {edge}" for edge in said] + [f"above {said[-1]}"]
    parts = [("amount", word, band == number) for number, word in enumerate(words)]
    places = {name: i for i, name in enumerate(plan.feature_names)}
    for feature in plan.request:
        if feature.kind != "category":
            continue
        codes = vectors[:, places[feature.name]]
        shown = feature.categories[:_CATEGORIES]
        for code, value in enumerate(shown, start=1):
            parts.append((feature.column or feature.name, value, codes == code))
        others = ~np.isin(codes, np.arange(1, len(shown) + 1))
        parts.append((feature.column or feature.name, "others and unknown", others))
    cards = known.payments.card
    _, first = np.unique(cards, return_index=True)
    is_first = np.zeros(len(cards), np.bool_)
    is_first[first] = True
    new = is_first[rows.rows] & (cards[rows.rows] >= 0)
    parts.append(("card", "its first payment", new))
    parts.append(("card", "known", ~new & (cards[rows.rows] >= 0)))
    return parts


def unknown_of(known: LabelledPayments, rows: Sample) -> Unknown:
    """Payments of the time of the report without a known truth; of all later ones if none has."""
    times = known.payments.event_time_us
    inside = times >= rows.start_us
    if len(rows):
        inside &= times < rows.end_us
    inside[rows.rows] = False
    why: dict[str, int] = {}
    withheld = known.payments.withheld
    held = inside & withheld if withheld is not None else np.zeros(len(inside), np.bool_)
    for count, words in (
        (held, "were declined or wait for a verdict"),
        (inside & ~held, "have no label that is mature, or were declared void"),
    ):
        if n := int(count.sum()):
            why[words] = n
    return Unknown(len(rows), why, int(known.payments.amount_minor[inside].sum()))
