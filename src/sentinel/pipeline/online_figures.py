"""How online learners did: what they said of each day's payments against the truth that matured.

Truth counts by the rules and with the weights of training. A learner's average precision over many
days ranks the payments of all of them together, as a line that stays does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US
from sentinel.models.dataset import Sample, sample
from sentinel.models.evaluation import average_precision
from sentinel.models.intervals import Estimate, cluster_codes, resamples
from sentinel.models.ranking import Ranking
from sentinel.pipeline.labelled_payments import KnownPayments
from sentinel.pipeline.online_state import OnlinePlace, OnlineState
from sentinel.settings import Settings

LEARNERS: Final = ("champion", "base", "refit", "river")
"""The champion of the day; the base, which never changes; and the two that learn every day."""
FIGURES: Final = "figures.json"

Floats = npt.NDArray[np.float64]


class OnlineDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day of which some truth is known.

    Attributes:
        day: Days since 1970.
        payments, frauds: Of known truth.
        average_precision: By learner; empty if all payments are of one class.
    """

    day: int
    payments: int
    frauds: int
    average_precision: dict[str, float]


class OnlineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Learners on all days of known truth.

    Attributes:
        base: Version whose trees are refitted.
        payments, frauds: Of known truth.
        days: Oldest first.
        average_precision: By learner, with intervals by card.
        better_by: "refit - base" and the like: differences on the same payments.
    """

    base: str
    payments: int
    frauds: int
    days: tuple[OnlineDay, ...]
    average_precision: dict[str, Estimate]
    better_by: dict[str, Estimate]


def figures_of(
    settings: Settings, place: OnlinePlace, state: OnlineState, known: KnownPayments
) -> OnlineFigures:
    """Hold all scores against what is known by now, and keep the figures beside the learners.

    Args:
        settings: Give the bootstrap.
        place: Where scores are.
        state: Where the learners are.
        known: The log.
    """
    truth = known_at(known, known.end_us // DAY_US, state.gap_us, at_us=known.end_us)
    days: list[OnlineDay] = []
    parts: dict[str, list[Floats]] = {}
    for day, scores in place.scores(state):
        rows = scores["rows"]
        place_of = np.searchsorted(truth.rows, rows)
        place_of[place_of == len(truth.rows)] = 0
        found = truth.rows[place_of] == rows if len(truth.rows) else np.zeros(len(rows), np.bool_)
        if not found.any():
            continue
        fraud, weight = truth.fraud[place_of[found]], truth.weight[place_of[found]]
        weight = weight * scores["stands_for"][found]
        said = {name: scores[name][found] for name in LEARNERS if name in scores}
        known_all = {name: one for name, one in said.items() if np.isfinite(one).all()}
        both = 0 < np.count_nonzero(fraud) < len(fraud)
        days.append(
            OnlineDay(
                day=day,
                payments=len(fraud),
                frauds=int(fraud.sum()),
                average_precision={
                    name: average_precision(fraud, one, weight) for name, one in known_all.items()
                }
                if both
                else {},
            )
        )
        columns = {"fraud": fraud, "weight": weight, "card": known.payments.card[rows[found]]}
        for name, values in (columns | said).items():
            parts.setdefault(name, []).append(values)
    all_of = {name: np.concatenate(values) for name, values in parts.items()}
    figures = OnlineFigures(
        base=state.base,
        payments=sum(one.payments for one in days),
        frauds=sum(one.frauds for one in days),
        days=tuple(days),
        average_precision={},
        better_by={},
    )
    if days and 0 < figures.frauds < figures.payments:
        # A learner that not every day has scores of, such as a champion from before, is left out.
        names = [
            name
            for name in LEARNERS
            if len(all_of.get(name, ())) == len(all_of["fraud"]) and np.isfinite(all_of[name]).all()
        ]
        single, paired = _estimates(settings, all_of, names)
        figures = msgspec.structs.replace(figures, average_precision=single, better_by=paired)
    content = msgspec.json.format(msgspec.json.encode(figures), indent=2)
    (place.folder / FIGURES).write_bytes(content)
    return figures


def _estimates(
    settings: Settings, rows: Mapping[str, npt.NDArray[Any]], names: list[str]
) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Average precision by learner, and differences, on the same draws of cards."""
    fraud, weight = np.asarray(rows["fraud"], np.bool_), np.asarray(rows["weight"], np.float64)
    cluster, n_clusters = cluster_codes(np.asarray(rows["card"], np.int64))
    ranked = {name: Ranking(fraud, np.asarray(rows[name], np.float64)) for name in names}

    def measured(counts: npt.NDArray[Any]) -> dict[str, Floats]:
        return {
            name: one.totals(
                np.asarray(counts[:, cluster[one.order]] * weight[one.order])
            ).average_precision()
            for name, one in ranked.items()
        }

    value = measured(np.ones((1, n_clusters)))
    options = settings.training
    drawn = [
        measured(counts)
        for counts in resamples(
            n_clusters, options.bootstrap_rounds, options.seed, n_rows=len(fraud)
        )
    ]
    samples = {name: np.concatenate([one[name] for one in drawn]) for name in names}
    single = {name: Estimate.of(float(value[name][0]), samples[name]) for name in names}
    paired = {
        f"{mine} - {theirs}": Estimate.of(
            float(value[mine][0] - value[theirs][0]), samples[mine] - samples[theirs]
        )
        for mine in ("refit", "river")
        for theirs in ("champion", "base")
        if mine in names and theirs in names
    }
    return single, paired


def known_at(
    known: KnownPayments,
    day: int,
    gap_us: int,
    window_days: float | None = None,
    *,
    at_us: int | None = None,
) -> Sample:
    """What training at the beginning of a day would learn from.

    Args:
        known: The log.
        day: Days since 1970.
        gap_us: How long after a payment its silence counts.
        window_days: Only the last days of it; default: all.
        at_us: At this moment instead, microseconds UTC.
    """
    moment = day * DAY_US if at_us is None else at_us
    times = known.payments.event_time_us
    start_us = int(times.min()) if len(times) else moment
    if window_days is not None:
        start_us = max(start_us, moment - gap_us - round(window_days * DAY_US))
    return sample(
        known.payments,
        known.labels,
        start_us=start_us,
        end_us=max(start_us, moment - gap_us),
        cutoff_us=moment,
        maturity_us=gap_us,
    )
