"""How the three deployments of the benchmark `loop` learn at night.

`Loop` is this project's: its own split, weights, fit, gate, refit, costs and control group.
`AllTruth` differs in what it knows: the truth of every payment, so that it needs no control group.
`Before` has the rules of the commit that came before decisions were known to hide truth: what was
declined is legitimate once it is mature, lines come from a budget and a precision, a candidate
passes unless it is certainly worse, and it serves as it was measured.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from benchmarks.loop_book import Book, Served
from benchmarks.loop_life import InCharge
from benchmarks.loop_model import KeptModel
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import save_artifact
from sentinel.models.dataset import sample
from sentinel.models.decided import SENTINEL
from sentinel.models.evaluation import compare
from sentinel.models.intervals import Estimate
from sentinel.models.label_delays import maturity_of
from sentinel.models.splitting import too_little_to_judge
from sentinel.models.thresholds import Thresholds, choose_thresholds
from sentinel.pipeline.candidate_folder import measured_window
from sentinel.pipeline.dataset_folder import Dataset
from sentinel.pipeline.datasets import dataset_of, split_of
from sentinel.pipeline.fitting import Result, fit_and_measure
from sentinel.pipeline.labelled_payments import maturity_us
from sentinel.pipeline.refitting import Refit, refit
from sentinel.policy.economics import Costs
from sentinel.policy.ruling import Policy
from sentinel.policy.versions import PolicyVersion, Terms
from sentinel.policy.working_out import WINDOW_DAYS, RecentPayments, work_out
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings
from sentinel.sources.simulator import Behaviour

REVIEWS_PER_1000: Final = 5.0
"""What analysts have time for, in all arms."""

PROCEDURE: Final = "gate, refit on all mature payments, no fit stopped by few frauds"
"""How the arms `this` and `all_truth` come to what serves; results of another one are not mixed."""

_GATE_ROUNDS: Final = 400


def costs_of(behaviour: Behaviour) -> Costs:
    """What outcomes cost in a world, minor units: the true shares, and made-up prices."""
    return Costs(
        lost_share=1.0 - behaviour.recovered,
        fee_minor=1_500,
        false_decline_minor=300,
        false_decline_share=0.15,
        review_minor=300,
        missed_share=behaviour.analysts_miss,
        stopped_share=behaviour.analysts_accuse,
    )


class Learner(Protocol):
    """How a deployment learns."""

    @property
    def name(self) -> str:
        """Its key in the result."""
        ...

    def learn(self, known: Served, book: Book) -> InCharge | None:
        """Train by the end of a log; None if what is in charge stays."""
        ...

    def refresh(self, in_charge: InCharge, book: Book, end_us: int) -> InCharge | None:
        """What is worked out each night without training; None if nothing changes."""
        ...


@dataclass
class Loop:
    """This project's loop.

    Attributes:
        settings: Of training.
        terms: What people set.
        threads: For a fit.
        name: Its key in the result.
    """

    settings: Settings
    terms: Terms
    threads: int = 1
    name: str = "this"
    _judged: ServingModel | None = None
    _shadow_price_minor: float = 0.0

    def learn(self, known: Served, book: Book) -> InCharge | None:
        data, result = _trained(self.settings, known, self.threads)
        twin = _serving(data, result)
        # The rule of `sentinel.pipeline.gate` for a model of the approved procedure.
        if self._judged is not None:
            difference = _difference(self.settings, twin, self._judged, known)
            if difference is not None and difference.high < 0:
                return None
        self._judged = twin
        found = InCharge(self._refitted(data, result, known) or twin, Policy(result.thresholds))
        return self.refresh(found, book, known.end_us) or found

    def refresh(self, in_charge: InCharge, book: Book, end_us: int) -> InCharge | None:
        rows = recent_payments(book, in_charge.model, end_us)
        workings = work_out(self.terms, rows)
        self._shadow_price_minor = workings.shadow_price_minor
        version = PolicyVersion(
            terms=self.terms,
            shadow_price_minor=workings.shadow_price_minor,
            share=workings.share,
            by="loop",
            why="daily",
            at_us=end_us,
        )
        policy = version.policy(in_charge.policy.bands, in_charge.policy.degraded)
        return None if policy.hash == in_charge.policy.hash else replace(in_charge, policy=policy)

    def _refitted(self, data: Dataset, result: Result, known: Served) -> ServingModel | None:
        """The refit on all mature payments; None if the model that was measured serves."""
        again = refit(
            self.settings,
            self.settings.training.trainer,
            data,
            result,
            known,
            costs=self.terms.economics(self._shadow_price_minor),
            threads=self.threads,
        )
        return None if again is None or again.note.refused else _serving(data, again)


@dataclass
class AllTruth(Loop):
    """The same loop where every payment's truth arrives, whatever was decided."""

    name: str = "all_truth"

    def learn(self, known: Served, book: Book) -> InCharge | None:
        payments = replace(known.payments, decided=None)
        return super().learn(replace(known, payments=payments), book)


@dataclass
class Before:
    """The loop of the commit before this one's rules.

    Attributes:
        settings: Of training.
        threads: For a fit.
        name: Its key in the result.
    """

    settings: Settings
    threads: int = 1
    name: str = "old"
    _champion: ServingModel | None = None

    def learn(self, known: Served, book: Book) -> InCharge | None:
        # Nothing was known of decisions: a declined payment without a label became legitimate.
        known = replace(known, payments=replace(known.payments, decided=None))
        data, result = _trained(self.settings, known, self.threads)
        candidate = _serving(data, result)
        if self._champion is not None:
            difference = _difference(self.settings, candidate, self._champion, known)
            if difference is None or difference.high < 0:
                return None
        self._champion = candidate
        return InCharge(candidate, Policy(_lines_before(self.settings, data, result)))

    def refresh(self, in_charge: InCharge, book: Book, end_us: int) -> InCharge | None:
        return None


def _difference(
    settings: Settings, candidate: ServingModel, champion: ServingModel, known: Served
) -> Estimate | None:
    """Average precision of a candidate less the champion's, on payments that neither has seen.

    None if too little of their truth is known.
    """
    now = known.end_us
    mature, _ = maturity_of(
        known.payments, known.labels, now_us=now, maturity_us=maturity_us(settings)
    )
    gap = candidate.manifest.training.gap_us
    mature = mature if gap is None else min(mature, gap)
    rows = sample(
        known.payments,
        known.labels,
        start_us=max(m.manifest.training.end_us for m in (candidate, champion)),
        end_us=now - mature,
        cutoff_us=now,
        maturity_us=mature,
    )
    if too_little_to_judge(rows):
        return None
    vectors = known.vectors(rows.rows)
    return compare(
        rows.fraud,
        candidate.score(vectors)[0],
        champion.score(vectors)[0],
        known.payments.card[rows.rows],
        rounds=_GATE_ROUNDS,
        seed=settings.training.seed,
    )


def recent_payments(book: Book, model: ServingModel, end_us: int) -> RecentPayments:
    """The last days as they were decided; where nothing was decided yet, as a model sees them."""
    times = book.column("event_time_us")
    first = int(np.searchsorted(times, end_us - round(WINDOW_DAYS * DAY_US)))
    here = slice(first, len(book))
    probability = book.column("probability")[here].astype(np.float64)
    undecided = book.column("source")[here] != SENTINEL
    if undecided.any():
        vectors = book.vectors[here][undecided]
        probability[undecided] = model.score(vectors)[1]
    count = len(probability)
    start_us = int(times[first]) if count else end_us
    return RecentPayments(
        days=max(end_us - start_us, 1) / DAY_US,
        probability=probability,
        amount_minor=book.column("amount_minor")[here].astype(np.float64),
        segment=np.zeros(count, np.int64),
        outcome=book.column("base_outcome")[here].astype(np.int64),
        degraded=np.zeros(count, np.bool_),
        count=np.full(count, np.nan, np.float32),
        weight=np.ones(count),
    )


def _trained(settings: Settings, known: Served, threads: int) -> tuple[Dataset, Result]:
    split = split_of(settings, known, known.end_us)
    data = dataset_of(settings, known, split, log_through=len(known.payments))
    return data, fit_and_measure(settings, settings.training.trainer, data, threads=threads)


def _lines_before(settings: Settings, data: Dataset, result: Result) -> Thresholds:
    """Lines from the rows that the calibration was fitted on, unweighted."""
    later = data.tail if len(data.tail.fraud) else data.fit
    return choose_thresholds(
        result.calibration.apply(result.model.raw_score(later.X)),
        later.fraud,
        alerts_per_1000=settings.training.alert_budget_per_1000,
        decline_precision=settings.training.decline_precision,
    )


def _serving(data: Dataset, result: Result | Refit) -> KeptModel:
    """A fitted model as a scorer holds it."""
    about = data.manifest
    with tempfile.TemporaryDirectory(prefix="sentinel-loop-") as place:
        folder = Path(place, "model")
        save_artifact(
            folder,
            name="loop",
            plan=data.plan,
            model=result.model.native(),
            calibration=result.calibration,
            thresholds=result.thresholds,
            metrics={},
            training=result.training if isinstance(result, Refit) else measured_window(about),
            data_hash=about.data_hash,
            created_at_us=1,
        )
        return KeptModel.of(folder)
