"""A scoring process put together: ledger, index, state, model, and what keeps them current."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from sentinel.domain import (
    Decision,
    PlanMismatch,
    Reason,
    SentinelError,
)
from sentinel.features.plan.definition_hashes import matching_columns
from sentinel.features.plan.plan import Plan
from sentinel.ledger.base import Ledger
from sentinel.ledger.history_scores import HistoricScore, HistoryScores
from sentinel.ledger.index import LedgerIndex, number_features
from sentinel.ledger.open import named_on_command_line, open_reader
from sentinel.models.champion import champion_of
from sentinel.models.explanations import Words, compile_words
from sentinel.models.plans import kept_unions, union_path
from sentinel.models.serving import SERVING_FILE, serving_of, serving_stamp
from sentinel.models.thresholds import Thresholds
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.policy.exploration import ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring import state_beside
from sentinel.scoring.champions import RegistryWatch, WarmModels
from sentinel.scoring.guard import LOOK_SECONDS as GUARD_SECONDS
from sentinel.scoring.guard import Guard
from sentinel.scoring.labels import LabelRecorder
from sentinel.scoring.lineups import LineUpInCharge
from sentinel.scoring.lookups import Lookups
from sentinel.scoring.new_entities import NewEntities
from sentinel.scoring.panel import Panel
from sentinel.scoring.policies import LOOK_SECONDS, PolicyInCharge
from sentinel.scoring.queue import QueueLimits
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.scoring.states import EmbeddedStates, States
from sentinel.scoring.tellers import Tellers
from sentinel.scoring.voids import VoidRecorder
from sentinel.scoring.writer import Render, Writer
from sentinel.settings import Settings
from sentinel.state.base import FeatureState, SnapshotWritten, Vectors
from sentinel.state.snapshot_file import drop_snapshots, sequence_of, snapshots_of
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 0.5
_FORGET_SECONDS: Final = 0.001
"""Payments have their turn between two portions of what is forgotten."""
_CHAMPION_SECONDS: Final = 0.1
_SNAPSHOT_ENTRIES: Final = 1_000
_PLAN_SECONDS: Final = 30.0
"""How long after a failure the features of a line-up are computed again."""
MOST_PLANS: Final = 64
"""Plans of which past decisions are told by name: the latest ones."""
_SMALL_GAP: Final = 256
_GAP_ROUNDS: Final = 20


def load_plan(settings: Settings) -> Plan:
    """The plan that serving runs: the champion's, or the one applied last.

    Raises:
        DefinitionError: There is none yet.
    """
    champion = champion_of(settings)
    if champion is None:
        return Plan.load(settings.plan_path)
    return Plan.load(settings.models_dir / champion.folder / "plan.json")


def states_of(settings: Settings, metrics: ScoringMetrics) -> States:
    """Where state comes from, as the settings say: the one place that knows both kinds.

    Raises:
        ConfigurationError: The settings do not fit together.
    """
    if settings.state.backend == "redis":
        from sentinel.scoring.shared_states import SharedStates

        return SharedStates(settings, metrics)
    return EmbeddedStates(settings)


class History(Protocol):
    """Answers for transactions that were never decided on."""

    def find(self, transaction_id: str) -> HistoricScore | None:
        """The score of a historic transaction; None: it has none."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


class Served(NamedTuple):
    """What is to serve.

    Attributes:
        panel: The champion and those beside it.
        policy: With the champion's lines.
        key: Of the control group; None if nothing is let through.
        bands: The lines that the policy has of the champion.
    """

    panel: Panel
    policy: Policy
    key: ExplorationKey | None
    bands: Thresholds

    @property
    def model(self) -> ServingModel:
        """The champion."""
        return self.panel.require()


class ScoringRuntime:
    """Everything one scoring process holds. Made by `open`, ended by `close`."""

    def __init__(self, settings: Settings, render_recorded: Callable[[Decision], bytes]) -> None:
        self.settings = settings
        self.metrics = ScoringMetrics()
        self._states = states_of(settings, self.metrics)
        self.model_problem: str | None = None
        self.state_problem: str | None = None
        self.models = WarmModels(settings)
        self.line_ups = LineUpInCharge(settings, self.models)
        self.guard = Guard(
            settings, lambda: self.line_ups.line_up, lambda: self.writer.scorer.panel
        )
        self.registry = RegistryWatch(settings)
        self.started_at = time.time()
        self._render_recorded = render_recorded
        self._tellers = Tellers(settings)
        self.policies = PolicyInCharge(settings)
        self._serving_seen: tuple[tuple[int, int], ...] = ()
        self._serving_folder = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._indexer: subprocess.Popen[bytes] | None = None
        self._snapshot_sequence = 0
        self._changing = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._plan_wanted = asyncio.Event()
        self._bands: Thresholds
        self._plans: dict[str, tuple[tuple[str, ...], list[Words]]] = {}
        self.reader: Ledger
        self.index: LedgerIndex
        self.history: History
        self.writer: Writer
        self.labels: LabelRecorder
        self.voids: VoidRecorder
        self._alone = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        settings: Settings,
        *,
        render: Render,
        render_recorded: Callable[[Decision], bytes],
        progress: Callable[[int, int], None] | None = None,
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
            self.history = self._open_history()
            scorer = await asyncio.to_thread(self._first_scorer, progress)
        except BaseException:
            ledger.close()
            raise
        self._snapshot_sequence = scorer.state.sequence
        limits = QueueLimits(settings.scoring.waiting_payments, settings.scoring.waiting_batched)
        self.writer = Writer(
            scorer,
            ledger,
            render=render,
            lookups=Lookups(
                lambda: LedgerIndex(settings.index_path, self.reader),
                self.explain,
                render_recorded,
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
        self._plan_wanted.set()  # it may have begun with fewer features than the line-up wants
        self._start_indexer()
        self._tasks = [
            asyncio.create_task(self._watch_champion(), name="watch-champion"),
            asyncio.create_task(self._watch_policy(), name="watch-policy"),
            asyncio.create_task(self._watch_line_up(), name="watch-line-up"),
            asyncio.create_task(self._watch_plan(), name="watch-plan"),
            asyncio.create_task(self._watch_guardrails(), name="watch-guardrails"),
            asyncio.create_task(self._watch_index(), name="watch-index"),
            asyncio.create_task(self._take_snapshots(), name="take-snapshots"),
        ]
        return self

    async def close(self) -> None:
        """Answer what has arrived, write a last snapshot, stop the indexer."""
        for task in self._tasks:
            task.cancel()
        await self.writer.close()
        state = self.writer.scorer.state
        if self.writer.unavailable is None and state.sequence > self._snapshot_sequence:
            written = state.begin_snapshot(self.settings.state_dir)
            if written is not None:
                await asyncio.to_thread(written)
        self._states.close()
        state.close()
        if self._indexer is not None:
            self._indexer.terminate()
            try:
                await asyncio.to_thread(self._indexer.wait, 5)
            except subprocess.TimeoutExpired:
                self._indexer.kill()
        self.index.close()
        self.history.close()
        self.reader.close()
        self.policies.close()
        self.line_ups.close()
        await asyncio.to_thread(self._tellers.close)

    def _open_history(self) -> History:
        """Answers for imported history: from Redis where it is materialized there."""
        url = self.settings.feast.online_url
        if not url:
            return HistoryScores(self.settings.workspace / "scores.db")
        from sentinel.scoring.historic import OnlineHistoryScores
        from sentinel.state.online_history import OnlineHistory

        return OnlineHistoryScores(OnlineHistory(url), lambda: self.writer.scorer.model)

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

    def feature_name(self, plan_hash: str, feature: int) -> str | None:
        """Name of a feature by its number in a plan; None: no such feature or plan."""
        known = self._plans.get(plan_hash)
        if known is None or not 0 <= feature < len(known[0]):
            return None
        return known[0][feature]

    # Scorers.

    def _first_scorer(self, progress: Callable[[int, int], None] | None) -> Scorer:
        self.policies.start()
        self.line_ups.start()
        served = self._first_served()
        if served is None:
            scorer = Scorer(
                self._states.open(Plan.load(self.settings.plan_path), progress), Panel()
            )
        else:
            scorer = Scorer(
                self._states.open(served.panel.plan, progress),
                served.panel,
                served.policy,
                served.key,
            )
            self._bands = served.bands
        scorer.warm()
        wanted = self.line_ups.plan
        for plan in reversed(kept_unions(self.settings, MOST_PLANS)):
            self._note_plan(plan)
            if wanted is None or plan.hash not in (wanted.hash, scorer.program.plan.hash):
                # Of a process that ended before it could.
                drop_snapshots(self.settings.state_dir, plan.hash)
        return scorer

    def _first_served(self) -> Served | None:
        """What serves from the start on.

        Where the state of the line-up's plan is far behind the log, and that of another plan with
        the champion's features is not, vectors are of that one, and the former is opened beside it.
        """
        served = self._load_served()
        if served is None or self.settings.state.backend != "embedded":
            return served
        own, running = served.model.plan, None
        newest = self._snapshot_of(served.panel.plan) + state_beside.FEW_ENTRIES
        for plan in (own, *kept_unions(self.settings, MOST_PLANS)):
            through = self._snapshot_of(plan)
            if through > newest and (matching_columns(plan, own) >= 0).all():
                running, newest = plan, through
        return served if running is None else self._load_served(running)

    def _snapshot_of(self, plan: Plan) -> int:
        """The last entry of the newest snapshot of a plan; 0 if there is none."""
        found = snapshots_of(self.settings.state_dir, plan.hash)
        return sequence_of(found[0]) if found else 0

    def _load_served(self, running: Plan | None = None) -> Served | None:
        """The models in charge and the policy that goes with them; None without a champion.

        Args:
            running: The plan of the state that there is, which serves on if the champion finds its
                features in it.
        """
        self._serving_seen, self._serving_folder = serving_stamp(self.settings), ""
        serving = serving_of(self.settings)
        if serving is None:
            return None
        # What is looked at before the model is read may only be too old.
        folder = serving.champion.folder
        approval = serving_stamp(self.settings, folder)[-1]
        self._serving_seen, self._serving_folder = (*self._serving_seen, approval), folder
        model = self.models.load(serving.champion)
        if serving.plan_hash and serving.plan_hash != model.plan.hash:
            raise PlanMismatch(
                f"{self.settings.models_dir / SERVING_FILE} names plan {serving.plan_hash}, and "
                f"its champion, version {serving.champion.version}, was trained with plan "
                f"{model.plan.hash}. Promote the model again: `sentinel promote`."
            )
        bands = serving.policy or model.manifest.thresholds
        policy, key = self.policies.of(bands, model.plan)
        if running is not None and (matching_columns(running, model.plan) < 0).any():
            running = None
        return Served(self._panel(model, policy, running), policy, key, bands)

    def _panel(self, champion: ServingModel, policy: Policy, running: Plan | None) -> Panel:
        """The champion with the models of the line-up, each with its lines. Reads files."""
        lines = partial(self.policies.with_lines, policy)
        panel = self.line_ups.panel(champion, lines, running)
        panel.failed.update(self.guard.breached(panel.line_up))
        return panel

    def _note_scorer(self, scorer: Scorer) -> None:
        plan = scorer.program.plan
        self.metrics.plan_hash = plan.hash
        self._note_plan(plan)
        if scorer.model is not None:
            self.metrics.model_name = scorer.model.name
            self.metrics.model_version = scorer.model.version

    def _note_plan(self, plan: Plan) -> None:
        self._plans.pop(plan.hash, None)  # the latest come last
        while len(self._plans) >= MOST_PLANS:
            del self._plans[next(iter(self._plans))]
        words = compile_words(plan, self.settings.money)
        self._plans[plan.hash] = (plan.feature_names, words)

    def explain(
        self, plan_hash: str, feature: int, value: float | None, contribution: float
    ) -> Reason:
        """A recorded reason in words, or by its number where the plan is not at hand."""
        known = self._plans.get(plan_hash)
        if known is None:
            return number_features(plan_hash, feature, value, contribution)
        names, words = known
        return Reason(
            feature=names[feature],
            value=value,
            contribution=contribution,
            words=words[feature](value),
        )

    # Keeping current.

    def _start_indexer(self) -> None:
        ledger, environment = named_on_command_line(self.settings)
        index = ["--index", str(self.settings.index_path)]
        self._indexer = subprocess.Popen(
            [sys.executable, "-m", "sentinel.ledger.indexer", *ledger, *index], env=environment
        )

    async def _watch_index(self) -> None:
        while True:
            due = time.perf_counter() + _WATCH_SECONDS
            await asyncio.sleep(_WATCH_SECONDS)
            self.metrics.loop_lag_seconds = max(0.0, time.perf_counter() - due)
            if self._indexer is not None and self._indexer.poll() is not None:
                log.warning("The indexer ended (%s); starting it again.", self._indexer.returncode)
                self._start_indexer()
            through = await asyncio.to_thread(lambda: self.index.indexed_through)
            self.metrics.indexed_through = through
            forgettable = self.labels.may_forget(through)
            while self.writer.forget_indexed(forgettable) + self.labels.forget_indexed(forgettable):
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

    async def _watch_champion(self) -> None:
        while True:
            await asyncio.sleep(_CHAMPION_SECONDS)
            self._note_registry()
            if serving_stamp(self.settings, self._serving_folder) == self._serving_seen:
                continue
            try:
                async with self._changing:
                    await self._take_over_champion()
                self.model_problem = None
            except SentinelError as error:
                self.model_problem = str(error)
                log.warning("The new champion cannot serve; the old one stays. %s", error)
            except Exception as error:
                self.model_problem = f"unexpected error: {shown(error)}"
                log.exception("The new champion cannot serve; the old one stays.")

    def problem_with_model(self) -> str | None:
        """Why the champion of the registry does not serve; None: it does, or nobody knows."""
        view = self.registry.look()
        if self.model_problem is None and view is not None and view.refused:
            return view.problem
        return self.model_problem

    def _note_registry(self) -> None:
        view = self.registry.look()
        self.metrics.registry_answered = 0.0 if view is None else view.answered_at_us / 1e6
        self.metrics.model_problem = self.problem_with_model() is not None

    async def _take_over_champion(self) -> None:
        started = time.perf_counter()
        served = await asyncio.to_thread(self._load_served, self.writer.scorer.program.plan)
        if served is None:
            return
        model = served.model
        if served.panel.plan.hash == self.writer.scorer.program.plan.hash:

            def swap() -> None:
                self._ask_no_more(served.panel)
                scorer = Scorer(self.writer.scorer.state, served.panel, served.policy, served.key)
                self.writer.take_over(scorer)

            await self.writer.turn.in_order(swap)
        else:
            await self._change_plan(served)
        self._plan_wanted.set()
        self._bands = served.bands
        self.metrics.model_swaps += 1
        self.metrics.model_swap_seconds = time.perf_counter() - started
        self._note_scorer(self.writer.scorer)
        log.info("Model %s version %s serves from now on.", model.name, model.version)

    async def _watch_policy(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self.policies.look):
                    async with self._changing:
                        await self._take_over_policy()
            except Exception:
                log.exception("The policy could not be looked at; trying again.")

    async def _take_over_policy(self) -> None:
        """The policy that holds now over the models that serve."""
        model = self.writer.scorer.model
        if model is None:  # the first champion brings it
            return
        policy, key = await asyncio.to_thread(self.policies.of, self._bands, model.plan)

        def swap() -> None:
            before = self.writer.scorer
            panel = before.panel.with_lines(partial(self.policies.with_lines, policy))
            self.writer.take_over(Scorer(before.state, panel, policy, key))

        await self.writer.turn.in_order(swap)
        version = self.policies.version
        if version is not None:
            log.info("Version %d of the policy holds from now on.", version.version)

    async def _watch_line_up(self) -> None:
        """Take over line-ups; what was stopped decides no more even while a champion takes long."""
        waits = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self.line_ups.look):
                    self._ask_no_more(self.writer.scorer.panel)
                    waits = True
                if waits and not self._changing.locked():
                    async with self._changing:
                        waits = False
                        await self._take_over_line_up()
            except Exception:
                log.exception("The line-up could not be looked at; trying again.")

    async def _watch_guardrails(self) -> None:
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            self.metrics.experiment_payments_uncounted = self.guard.uncounted
            waiting = self.guard.take()  # of an experiment that has ended, nothing is left
            if not self.line_ups.line_up.experiments:
                continue
            try:
                await asyncio.to_thread(self.guard.look, waiting)
            except Exception:
                log.exception("Guardrails could not be looked at; trying again.")

    def _ask_no_more(self, panel: Panel) -> None:
        """Models whose experiment was stopped decide no more, however long a new panel takes."""
        for other in panel.others:
            before = panel.line_up.find(other.name)
            now = self.line_ups.line_up.find(other.name)
            if before is None or now is None or before.started_at_us != now.started_at_us:
                panel.failed[other.name] = "it was stopped"

    async def _take_over_line_up(self) -> None:
        """The experiments that run now, beside the champion that serves."""
        scorer = self.writer.scorer
        if scorer.model is None or scorer.policy is None:  # the first champion brings them
            return
        plan = scorer.program.plan
        panel = await asyncio.to_thread(self._panel, scorer.model, scorer.policy, plan)
        self._plan_wanted.set()

        def swap() -> None:
            before = self.writer.scorer
            self.writer.take_over(Scorer(before.state, panel, before.policy, before.key))

        await self.writer.turn.in_order(swap)
        log.info(
            "Version %d of the line-up holds from now on: %s.",
            self.line_ups.line_up.version,
            ", ".join(other.name for other in panel.others) or "the champion alone",
        )

    def problem_with_experiment(self, name: str) -> str | None:
        """Why an experiment of the line-up does not run here; None if it runs."""
        return self.line_ups.problems.get(name) or self.writer.scorer.panel.failed.get(name)

    async def _change_plan(self, served: Served) -> None:
        """Another plan: its state is opened beside the running one, then both change at once."""
        async with self._opening:
            state = await self._open_beside(served.panel.plan)
            scorer = Scorer(state, served.panel, served.policy, served.key)
            await self._take_over_state(scorer)

    async def _open_beside(self, plan: Plan) -> FeatureState:
        """The state of another plan, nearly as far as the log. Only while `_opening` is held."""

        def opened() -> FeatureState:
            state = self._states.open(plan)
            state.warm()
            return state

        state = await asyncio.to_thread(opened)
        for _ in range(_GAP_ROUNDS):
            if await asyncio.to_thread(self._states.catch_up, state) < _SMALL_GAP:
                break
        return state

    async def _take_over_state(self, scorer: Scorer) -> None:
        """Go on with a scorer over another state, once that has the last entries of the log."""
        async with self._alone:
            await asyncio.to_thread(scorer.warm)
            await asyncio.to_thread(self._states.catch_up, scorer.state)
            await asyncio.to_thread(self._states.prepare_catch_up, scorer.state)

            def take_over() -> None:
                self._states.catch_up(scorer.state)
                self._ask_no_more(scorer.panel)  # what was stopped since it was put together
                self.writer.take_over(scorer)

            old = self.writer.scorer
            await self.writer.turn.holding(take_over)
        self._snapshot_sequence = 0  # there is none of this plan, or an old one

        def forget() -> None:
            old.state.close()
            if old.panel.union is not None and scorer.panel.union is not old.panel.union:
                drop_snapshots(self.settings.state_dir, old.panel.union.plan.hash)

        await asyncio.to_thread(forget)

    async def _watch_plan(self) -> None:
        """See that vectors have the features of all models of the line-up, and no others."""
        while True:
            await self._plan_wanted.wait()
            self._plan_wanted.clear()
            try:
                while await self._follow_plan():
                    pass
            except Exception:
                log.exception("The features of the line-up could not be computed; trying again.")
                await asyncio.sleep(_PLAN_SECONDS)
                self._plan_wanted.set()

    async def _follow_plan(self) -> bool:
        """Change to the plan of the line-up, if it is another one; whether it has to be looked at
        again.

        Payments, labels, new champions and line-ups go on meanwhile. Whatever was decided in the
        time it took holds.
        """
        plan = self.line_ups.plan
        if plan is None or plan.hash == self.writer.scorer.program.plan.hash:
            return False
        log.info("The state of plan %s is opened beside the one that serves.", plan.hash)
        async with self._opening:
            state = await self._open_beside(plan)
        async with self._changing:
            before = self.writer.scorer
            wanted = self.line_ups.plan
            model, policy = before.model, before.policy
            if (
                wanted is None
                or wanted.hash != plan.hash
                or before.program.plan.hash == plan.hash
                or model is None
                or policy is None
            ):
                await asyncio.to_thread(self._discard, state)
                return True
            panel = await asyncio.to_thread(self._panel, model, policy, plan)
            await self._take_over_state(Scorer(state, panel, policy, before.key))
        self._note_scorer(self.writer.scorer)
        log.info("Vectors are of plan %s from now on.", plan.hash)
        return True

    def _discard(self, state: FeatureState) -> None:
        """Give up a state that was opened beside the one that serves."""
        state.close()
        plan_hash = state.program.plan.hash
        wanted, serving = self.line_ups.plan, self.writer.scorer.program.plan
        unused = wanted is not None and plan_hash not in (wanted.hash, serving.hash)
        if unused and union_path(self.settings, plan_hash).exists():
            drop_snapshots(self.settings.state_dir, plan_hash)

    async def _take_snapshots(self) -> None:
        while True:
            await asyncio.sleep(self.settings.state.snapshot_seconds)
            if self.writer.scorer.state.sequence < self._snapshot_sequence + _SNAPSHOT_ENTRIES:
                continue
            try:
                await self.snapshot()
            except OSError as error:
                log.warning("The state snapshot could not be written: %s", error)

    async def snapshot(self) -> Path | None:
        """Write a snapshot of the state as it is between two groups; None: it is kept elsewhere.

        Raises:
            OSError: It cannot be written.
        """

        def begin() -> tuple[SnapshotWritten | None, int]:
            state = self.writer.scorer.state
            if self.writer.unavailable is not None:
                return None, 0  # it may hold what never became durable
            written = state.begin_snapshot(self.settings.state_dir, leisurely=True)
            return written, state.sequence

        written, sequence = await self.writer.turn.in_order(begin)
        if written is None:
            return None
        path: Path = await asyncio.to_thread(written)
        self._snapshot_sequence = self.metrics.snapshot_sequence = sequence
        return path
