"""A scoring process put together: ledger, index, state, model, and what keeps them current."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sentinel.domain import Decision, SentinelError
from sentinel.features.plan.plan import Plan
from sentinel.ledger.base import Ledger
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_reader
from sentinel.models.plans import kept_unions
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.champions import RegistryWatch, WarmModels
from sentinel.scoring.chosen_states import states_of
from sentinel.scoring.guard import Guard
from sentinel.scoring.historic import History, open_history
from sentinel.scoring.hot_swaps import HotSwaps
from sentinel.scoring.indexer_process import IndexerProcess
from sentinel.scoring.labels import LabelRecorder
from sentinel.scoring.lineups import LineUpInCharge
from sentinel.scoring.lookups import Lookups
from sentinel.scoring.new_entities import NewEntities
from sentinel.scoring.panel import Panel
from sentinel.scoring.plan_changes import PlanChanges
from sentinel.scoring.plan_words import MOST_PLANS, PlanWords
from sentinel.scoring.policies import PolicyInCharge
from sentinel.scoring.queue import QueueLimits
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.served import Served, ServedLoader
from sentinel.scoring.snapshots import Snapshots
from sentinel.scoring.states import Progress
from sentinel.scoring.tellers import Tellers
from sentinel.scoring.voids import VoidRecorder
from sentinel.scoring.writer import Render, Writer
from sentinel.settings import Settings
from sentinel.state.base import Vectors
from sentinel.state.snapshot_file import drop_snapshots
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 0.5
_FORGET_SECONDS: Final = 0.001
"""Payments have their turn between two portions of what is forgotten."""


class ScoringRuntime:
    """Everything one scoring process holds. Made by `open`, ended by `close`.

    Attributes:
        state_problem: Why the feature state is not used although it answers; None if it is.
        models: Those at hand.
        line_ups: The line-up that holds.
        policies: The policy that holds.
        guard: Watches the guardrails of experiments.
        registry: What the follower saw in the registry.
        plan_words: Tells past decisions in words.
    """

    def __init__(self, settings: Settings, render_recorded: Callable[[Decision], bytes]) -> None:
        self.settings = settings
        self.metrics = ScoringMetrics()
        self.state_problem: str | None = None
        self.models = WarmModels(settings)
        self.line_ups = LineUpInCharge(settings, self.models)
        self.guard = Guard(
            settings, lambda: self.line_ups.line_up, lambda: self.writer.scorer.panel
        )
        self.registry = RegistryWatch(settings)
        self.policies = PolicyInCharge(settings)
        self.plan_words = PlanWords(settings.money)
        self.started_at = time.time()
        self._render_recorded = render_recorded
        self._states = states_of(settings, self.metrics)
        self._tellers = Tellers(settings)
        self._loader = ServedLoader(settings, self.models, self.policies, self.line_ups, self.guard)
        self._alone = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.reader: Ledger
        self.index: LedgerIndex
        self.history: History
        self.writer: Writer
        self.labels: LabelRecorder
        self.voids: VoidRecorder
        self._snapshots: Snapshots
        self._plans: PlanChanges
        self._swaps: HotSwaps
        self._indexer: IndexerProcess

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        render: Render,
        render_recorded: Callable[[Decision], bytes],
        progress: Progress | None = None,
    ) -> ScoringRuntime:
        """Recover state, load the champion, warm every kernel, and start serving.

        Args:
            settings: The deployment.
            render: Makes the body of a fresh decision.
            render_recorded: Makes the body of a decision from the ledger.
            progress: Told (entries done, entries in all) of the replay.

        Raises:
            ConfigurationError: There is no plan, or the workspace is in use.
        """
        self = cls(settings, render_recorded)
        ledger = await asyncio.to_thread(self._states.open_ledger)
        try:
            self.reader = open_reader(settings)
            self.index = LedgerIndex(settings.index_path, self.reader)
            self._states.attach(self.reader, self.index)
            self.history = open_history(settings, lambda: self.writer.scorer.model)
            scorer, served = await asyncio.to_thread(self._first_scorer, progress)
        except BaseException:
            ledger.close()
            raise
        self._begin_to_write(scorer, ledger, render)
        self._begin_to_follow(served)
        return self

    async def close(self) -> None:
        """Answer what has arrived, write a last snapshot, stop the indexer."""
        for task in self._tasks:
            task.cancel()
        await self.writer.close()
        await self._snapshots.take_last()
        self._states.close()
        self.writer.scorer.state.close()
        await asyncio.to_thread(self._indexer.stop)
        self.index.close()
        self.history.close()
        self.reader.close()
        self.policies.close()
        self.line_ups.close()
        await asyncio.to_thread(self._tellers.close)

    # What routes ask.

    async def read_features(self, keys: list[dict[str, str]], now_us: int) -> tuple[Plan, Vectors]:
        """Features of entities at a time, without a transaction.

        State that waits for a server is read in a thread; memory is read between two groups of
        payments, since nothing but the event loop may look at what it changes. So callers ask for
        a few rows at a time.

        Args:
            keys: Entity column to key, by row.
            now_us: Time of the question, microseconds.

        Returns:
            The plan in charge, and float32 (len(keys), n_features) of it; NaN = unknown.

        Raises:
            StateUnavailable: The state cannot be read.
        """
        if self.writer.scorer.state.waits:
            state = self.writer.scorer.state
            return state.program.plan, await asyncio.to_thread(state.read, keys, now_us)

        def read() -> tuple[Plan, Vectors]:
            state = self.writer.scorer.state
            return state.program.plan, state.read(keys, now_us)

        return await self.writer.turn.in_order(read)

    def problem_with_model(self) -> str | None:
        """Why the champion of the registry does not serve; None if it does, or nobody knows."""
        return self._swaps.champion_problem

    def problem_with_experiment(self, name: str) -> str | None:
        """Why an experiment of the line-up does not run here; None if it runs."""
        return self.line_ups.problems.get(name) or self.writer.scorer.panel.failed.get(name)

    async def snapshot(self) -> Path | None:
        """Write a snapshot of the state as it is now; see `Snapshots.take`."""
        return await self._snapshots.take()

    # The start.

    def _first_scorer(self, progress: Progress | None) -> tuple[Scorer, Served | None]:
        """The scorer to begin with, and what it was made of; None without a champion."""
        self.policies.start()
        self.line_ups.start()
        served = self._loader.load_first()
        if served is None:
            state = self._states.open(Plan.load(self.settings.plan_path), progress)
            scorer = Scorer(state, Panel())
        else:
            state = self._states.open(served.panel.plan, progress)
            scorer = Scorer(state, served.panel, served.policy, served.key)
        scorer.warm()
        wanted = self.line_ups.plan
        for plan in reversed(kept_unions(self.settings, MOST_PLANS)):
            self.plan_words.note(plan)
            if wanted is None or plan.hash not in (wanted.hash, scorer.program.plan.hash):
                # Of a process that ended before it could.
                drop_snapshots(self.settings.state_dir, plan.hash)
        return scorer, served

    def _begin_to_write(self, scorer: Scorer, ledger: Ledger, render: Render) -> None:
        settings = self.settings
        limits = QueueLimits(settings.scoring.waiting_payments, settings.scoring.waiting_batched)
        self.writer = Writer(
            scorer,
            ledger,
            render=render,
            lookups=Lookups(
                lambda: LedgerIndex(settings.index_path, self.reader),
                self.plan_words.explain,
                self._render_recorded,
                asyncio.get_running_loop(),
            ),
            rebuild=self._states.rebuild,
            metrics=self.metrics,
            limits=limits,
            new_entities=NewEntities(settings.state.new_entities_per_minute, self.metrics),
            watch_roles=self.guard.add,
            tellers=self._tellers.all,
        )
        self._states.give_way(self.writer.pace.give_way)
        self.labels = LabelRecorder(self.writer)
        self.voids = VoidRecorder(self.writer, self.reader, self._alone)
        self._note_scorer(scorer)

    def _begin_to_follow(self, served: Served | None) -> None:
        self._snapshots = Snapshots(self.settings, self.writer, self.metrics)
        self._plans = PlanChanges(
            self.settings,
            self._states,
            self.writer,
            self._loader,
            self._snapshots,
            self._alone,
            self._note_scorer,
        )
        self._swaps = HotSwaps(
            self.writer,
            self._loader,
            self._plans,
            self.registry,
            self.metrics,
            self._note_scorer,
            None if served is None else served.bands,
        )
        self._plans.look_again()  # it may have begun with fewer features than the line-up wants
        self._indexer = IndexerProcess(self.settings)
        self._tasks = [
            asyncio.create_task(self._swaps.watch_champion(), name="watch-champion"),
            asyncio.create_task(self._swaps.watch_policy(), name="watch-policy"),
            asyncio.create_task(self._swaps.watch_line_up(), name="watch-line-up"),
            asyncio.create_task(self._plans.watch(), name="watch-plan"),
            asyncio.create_task(self.guard.watch(self.metrics), name="watch-guardrails"),
            asyncio.create_task(self._watch_index(), name="watch-index"),
            asyncio.create_task(self._snapshots.take_regularly(), name="take-snapshots"),
        ]

    # Keeping current.

    def _note_scorer(self, scorer: Scorer) -> None:
        plan = scorer.program.plan
        self.metrics.plan_hash = plan.hash
        self.plan_words.note(plan)
        if scorer.model is not None:
            self.metrics.model_name = scorer.model.name
            self.metrics.model_version = scorer.model.version

    async def _watch_index(self) -> None:
        """Forget what the queryable tables hold by now, and look after state and indexer."""
        said = ""
        while True:
            due = time.perf_counter() + _WATCH_SECONDS
            await asyncio.sleep(_WATCH_SECONDS)
            self.metrics.loop_lag_seconds = max(0.0, time.perf_counter() - due)
            try:
                await self._look_after()
                said = ""
            except Exception as error:
                if shown(error) != said:
                    log.exception("Index and feature state are not looked after; trying again.")
                said = shown(error)

    async def _look_after(self) -> None:
        self._indexer.keep_running()
        through = await asyncio.to_thread(lambda: self.index.indexed_through)
        self.metrics.indexed_through = through
        forgettable = self.labels.may_forget(through)
        while self.writer.recent.forget_indexed(forgettable) + self.labels.forget_indexed(
            forgettable
        ):
            await asyncio.sleep(_FORGET_SECONDS)
        state = self.writer.scorer.state
        try:
            await asyncio.to_thread(state.look_after)
        except SentinelError as error:
            log.warning("Feature state is not looked after: %s", error)
        self.state_problem = state.problem
        self.metrics.entities = state.entities_by_view
        self.metrics.state_bytes = {
            view: 8 * words * count
            for (view, count), words in zip(
                self.metrics.entities.items(), state.program.record_words, strict=True
            )
        }
        self.metrics.state_held_bytes = state.held_bytes
        self.metrics.state_budget_bytes = state.budget_bytes
