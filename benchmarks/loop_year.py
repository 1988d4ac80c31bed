"""A deployment's year in the world of a seed, for the benchmark `loop`; it can be cut and go on."""

from __future__ import annotations

import pickle
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.loop_arms import (
    PROCEDURE,
    REVIEWS_PER_1000,
    AllTruth,
    Before,
    Learner,
    Loop,
    costs_of,
)
from benchmarks.loop_life import Life, TruthFeed, live
from benchmarks.loop_money import MONTH_DAYS, approving_all_minor, figures_of
from sentinel.features.plan.plan import DAY_US
from sentinel.features.plan.program import compile_program
from sentinel.policy.versions import Exploring, Terms
from sentinel.settings import Settings
from sentinel.sources.simulator import AnsweringWorld, Behaviour, SimulatorConfig
from testkit.scratch import default_plan

ARMS: Final = ("this", "old", "all_truth")

_FRAUD_RATE: Final = 0.009  # that of the world of `sentinel up`
_SAVE_SECONDS: Final = 90.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run, but for the seeds.

    Attributes:
        customers: Of the world; 700 make about 170,000 payments a year.
        history_days: Approved history that all arms begin with.
        days: Of decisions.
        retrain_days: Nights between two trainings.
        budget_minor: What the control group may cost a month, minor units.
        max_rows: Most payments to fit on; None for the default of ``training.max_rows``.
    """

    customers: int
    history_days: int
    days: int
    retrain_days: int
    budget_minor: float
    max_rows: int | None = None

    def world(self, seed: int) -> SimulatorConfig:
        """The world of a seed; its days are those of the history."""
        return SimulatorConfig(
            customers=self.customers,
            merchants=max(60, self.customers // 3),
            days=self.history_days,
            fraud_rate=_FRAUD_RATE,
            seed=seed,
        )


def run_arm(plan: Plan, seed: int, name: str, checkpoint: Path | None = None) -> dict[str, Any]:
    """An arm's whole year in the world of a seed.

    Args:
        plan: What is run.
        seed: Of the world.
        name: One of `ARMS`.
        checkpoint: File to keep an unfinished year in and to go on from; it is deleted at the end.
            It is a pickle, so nobody else may write it.
    """
    about = (PROCEDURE, plan, seed, name)
    year = None
    if checkpoint is not None and checkpoint.exists():
        kept, year = pickle.loads(checkpoint.read_bytes())
        year = year if kept == about else None
    if year is None:
        year = Year.begin(plan, seed, name)
    saved = time.monotonic()
    while not year.over:
        year.live_a_day()
        if checkpoint is not None and time.monotonic() - saved > _SAVE_SECONDS:
            _replace(checkpoint, pickle.dumps((about, year), pickle.HIGHEST_PROTOCOL))
            saved = time.monotonic()
    found = year.figures()
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return found


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)


@dataclass
class Year:
    """An arm's life in the world of a seed.

    Attributes:
        plan, seed: What is run.
        learner: How the arm learns.
        life: The deployment.
        world: What answers it.
        truth: Where its labels come from; None if from the world itself.
        start_us: Where decisions began.
        days, trained, kept: Days lived, trainings, and how many of them changed nothing.
        cpu_seconds: What it took so far.
    """

    plan: Plan
    seed: int
    learner: Learner
    life: Life
    world: AnsweringWorld
    truth: TruthFeed | None
    start_us: int
    days: int = 0
    trained: int = 0
    kept: int = 0
    cpu_seconds: float = 0.0

    @classmethod
    def begin(cls, plan: Plan, seed: int, name: str) -> Year:
        """The history, in which everything was approved, and the first training."""
        began = time.process_time()
        config, behaviour = plan.world(seed), Behaviour()
        life = Life.begin(compile_program(default_plan()))
        live(life, AnsweringWorld(config, behaviour), config.end_us)
        terms = Terms(
            costs=costs_of(behaviour),
            reviews_per_day=REVIEWS_PER_1000 * len(life.book) / plan.history_days / 1000,
            exploring=Exploring(budget_minor=plan.budget_minor),
        )
        world = AnsweringWorld(config, behaviour, from_us=config.end_us)
        truth = TruthFeed(seed) if name == "all_truth" else None
        learner = _learner(name, _settings(plan), terms)
        year = cls(plan, seed, learner, life.fork(), world, truth, config.end_us)
        year._learn(config.end_us)
        if truth is not None:
            year.life.promise_all(truth, config.end_us)
        year.cpu_seconds = time.process_time() - began
        return year

    @property
    def over(self) -> bool:
        """Whether all days were lived."""
        return self.days >= self.plan.days

    def live_a_day(self) -> None:
        """Go on for a day, with the night that begins it."""
        began = time.process_time()
        self.days += 1
        until_us = self.start_us + self.days * DAY_US
        live(self.life, self.world, until_us, night=self._night, truth=self.truth)
        self.cpu_seconds += time.process_time() - began

    def figures(self) -> dict[str, Any]:
        """What became of it."""
        costs = costs_of(self.world.behaviour)
        found = figures_of(self.life.book, self.start_us, self.plan.days, costs)
        return found | {
            "approving_all_minor": approving_all_minor(self.world.config, self.plan.days, costs),
            "trained": self.trained,
            "kept": self.kept,
            "cpu_seconds": round(self.cpu_seconds, 1),
            "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }

    def _night(self, now_us: int) -> None:
        night = (now_us - self.start_us) // DAY_US
        if night % self.plan.retrain_days == 0:
            self._learn(now_us)
        else:
            assert self.life.in_charge is not None  # learnt when the year began
            changed = self.learner.refresh(self.life.in_charge, self.life.book, now_us)
            if changed is not None:
                self.life.put_in_charge(changed)
        if night % MONTH_DAYS == 0:
            print(
                f"seed {self.seed}, {self.learner.name}: day {night} of {self.plan.days}, "
                f"{len(self.life.book):,} payments, {self.trained} trainings",
                file=sys.stderr,
                flush=True,
            )

    def _learn(self, now_us: int) -> None:
        learnt = self.learner.learn(self.life.book.served(now_us), self.life.book)
        self.trained += 1
        if learnt is None:
            self.kept += 1
        else:
            self.life.put_in_charge(learnt)


def _settings(plan: Plan) -> Settings:
    settings = Settings()
    # Figures on a candidate's test rows decide nothing here, so their intervals are not wanted.
    changes: dict[str, Any] = {"bootstrap_rounds": 50}
    if plan.max_rows is not None:
        changes["max_rows"] = plan.max_rows
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})


def _learner(name: str, settings: Settings, terms: Terms) -> Learner:
    if name == "old":
        return Before(settings)
    if name == "all_truth":
        return AllTruth(settings, msgspec.structs.replace(terms, exploring=None))
    return Loop(settings, terms)
