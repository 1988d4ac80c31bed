"""How the three deployments of the benchmark `loop` learn at night.

`Loop` is this project's: its own split, weights, fit, costs and control group. `AllTruth` differs
in what it knows: the truth of every payment, so that it needs no control group. `Before` has the
rules of the commit that came before decisions were known to hide truth: what was declined is
legitimate once it is mature, lines come from a budget and a precision, and a candidate passes
unless it is certainly worse.
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
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.dataset import sample
from sentinel.models.decided import SENTINEL
from sentinel.models.evaluation import compare
from sentinel.models.splitting import maturity_of, too_little_to_judge
from sentinel.models.thresholds import Thresholds, choose_thresholds
from sentinel.pipeline.datasets import Dataset, dataset_of, split_of
from sentinel.pipeline.fitting import Result, fit_and_measure
from sentinel.pipeline.labelled_payments import maturity_us
from sentinel.policy.economics import Costs
from sentinel.policy.ruling import Policy
from sentinel.policy.versions import PolicyVersion, Terms
from sentinel.policy.working_out import WINDOW_DAYS, RecentPayments, work_out
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings
from sentinel.sources.simulator import Behaviour

REVIEWS_PER_1000: Final = 5.0
"""What analysts have time for, in all arms."""

PROCEDURE: Final = "as fitted, without gate and refit"
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

    def learn(self, known: Served, book: Book) -> InCharge | None:
        data, result = _trained(self.settings, known, self.threads)
        model = _serving(data, result)
        found = InCharge(model, Policy(result.thresholds))
        return self.refresh(found, book, known.end_us) or found

    def refresh(self, in_charge: InCharge, book: Book, end_us: int) -> InCharge | None:
        rows = recent_payments(book, in_charge.model, end_us)
        workings = work_out(self.terms, rows)
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
        if self._champion is not None and not self._passes(candidate, self._champion, known):
            return None
        self._champion = candidate
        return InCharge(candidate, Policy(_lines_before(self.settings, data, result)))

    def refresh(self, in_charge: InCharge, book: Book, end_us: int) -> InCharge | None:
        return None

    def _passes(self, candidate: ServingModel, champion: ServingModel, known: Served) -> bool:
        """Not certainly worse on payments that neither has seen, as far as their truth is known."""
        now = known.end_us
        mature, _ = maturity_of(
            known.payments, known.labels, now_us=now, maturity_us=maturity_us(self.settings)
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
            return False
        vectors = known.vectors(rows.rows)
        difference = compare(
            rows.fraud,
            candidate.score(vectors)[0],
            champion.score(vectors)[0],
            known.payments.card[rows.rows],
            rounds=_GATE_ROUNDS,
            seed=self.settings.training.seed,
        )
        return difference.high >= 0


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


def _serving(data: Dataset, result: Result) -> KeptModel:
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
            training=TrainingWindow(
                start_us=about.fit.start_us,
                end_us=about.tail.end_us if about.tail.rows else about.fit.end_us,
                cutoff_us=about.fit.cutoff_us,
                rows=about.fit.rows + about.tail.rows,
                frauds=about.fit.frauds + about.tail.frauds,
                gap_us=about.gap_us,
            ),
            data_hash=about.data_hash,
            created_at_us=1,
        )
        return KeptModel.of(folder)
