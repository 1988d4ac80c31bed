"""A scoring process put together: ledger, index, state, model, and what keeps them current."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from sentinel.domain import (
    Decision,
    Label,
    Reason,
    SentinelError,
    Transaction,
)
from sentinel.features.plan.plan import Plan
from sentinel.ledger.base import Ledger
from sentinel.ledger.history_scores import HistoricScore, HistoryScores
from sentinel.ledger.index import LedgerIndex, number_features
from sentinel.ledger.open import named_on_command_line, open_reader
from sentinel.models.champion import CHAMPION_FILE, champion_of
from sentinel.models.explanations import Words, compile_words
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.backends import backend_of
from sentinel.scoring.champions import RegistryWatch, WarmModels
from sentinel.scoring.engine import ScoringEngine
from sentinel.scoring.labels import LabelDesk
from sentinel.scoring.service import Render, ScoringService, conflict, same_payment
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings
from sentinel.state.embedded import FrozenState

log = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 0.5
_CHAMPION_SECONDS: Final = 0.1
_SNAPSHOT_ENTRIES: Final = 1_000


def load_plan(settings: Settings) -> Plan:
    """The plan that serving runs: the champion's, or the one applied last.

    Raises:
        DefinitionError: There is none yet.
    """
    champion = champion_of(settings)
    if champion is None:
        return Plan.load(settings.plan_path)
    return Plan.load(settings.models_dir / champion.folder / "plan.json")


class History(Protocol):
    """Answers for transactions that were never decided on."""

    def find(self, transaction_id: str) -> HistoricScore | None:
        """The score of a historic transaction; None: it has none."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


class ScoringRuntime:
    """Everything one scoring process holds. Made by `open`, ended by `close`."""

    def __init__(self, settings: Settings, render_recorded: Callable[[Decision], bytes]) -> None:
        self.settings = settings
        self.metrics = ScoringMetrics()
        self._backend = backend_of(settings, self.metrics)
        self.model_problem: str | None = None
        self.state_problem: str | None = None
        self.models = WarmModels(settings)
        self.registry = RegistryWatch(settings)
        self.started_at = time.time()
        self._render_recorded = render_recorded
        self._champion_seen: tuple[int, int] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._indexer: subprocess.Popen[bytes] | None = None
        self._snapshot_sequence = 0
        self._plans: dict[str, tuple[tuple[str, ...], list[Words]]] = {}
        self.reader: Ledger
        self.index: LedgerIndex
        self.history: History
        self.service: ScoringService
        self.labels: LabelDesk

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
        ledger = await asyncio.to_thread(self._backend.open_ledger)
        try:
            self.reader = open_reader(settings)
            self.index = LedgerIndex(settings.index_path, self.reader)
            self._backend.attach(self.reader, self.index)
            self.history = self._open_history()
            engine = await asyncio.to_thread(self._first_engine, progress)
        except BaseException:
            ledger.close()
            raise
        self._snapshot_sequence = engine.state.sequence
        self.service = self._backend.service(
            engine,
            ledger,
            render=render,
            find_recorded=self._find_recorded,
            rebuild=lambda: self._backend.rebuild(self.service.engine),
            metrics=self.metrics,
        )
        self.labels = self._backend.desk(self.service, self.index.transaction, self.find_label)
        self._note_engine(engine)
        self._start_indexer()
        self._tasks = [
            asyncio.create_task(self._watch_champion(), name="watch-champion"),
            asyncio.create_task(self._watch_index(), name="watch-index"),
            asyncio.create_task(self._take_snapshots(), name="take-snapshots"),
        ]
        return self

    async def close(self) -> None:
        """Answer what has arrived, write a last snapshot, stop the indexer."""
        for task in self._tasks:
            task.cancel()
        await self.service.close()
        if self.service.unavailable is None:
            frozen = self._freeze()
            if frozen is not None and frozen.header.sequence > self._snapshot_sequence:
                await asyncio.to_thread(frozen.write, self.settings.state_dir)
        self._backend.close()
        if self._indexer is not None:
            self._indexer.terminate()
            try:
                await asyncio.to_thread(self._indexer.wait, 5)
            except subprocess.TimeoutExpired:
                self._indexer.kill()
        self.index.close()
        self.history.close()
        self.reader.close()

    def _open_history(self) -> History:
        """Answers for imported history: from Redis where it is materialized there."""
        url = self.settings.feast.online_url
        if not url:
            return HistoryScores(self.settings.workspace / "scores.db")
        from sentinel.scoring.historic import OnlineHistoryScores
        from sentinel.state.online_history import OnlineHistory

        return OnlineHistoryScores(OnlineHistory(url), lambda: self.service.engine.model)

    # What routes ask.

    def find_label(self, label_id: str) -> Label | None:
        """A recorded label by its id."""
        return self.index.label(label_id)

    def decision(self, transaction_id: str) -> Decision | None:
        """A recorded decision with its reasons in words, from the queryable tables."""
        return self.index.decision(transaction_id, self._explain)

    def feature_name(self, plan_hash: str, feature: int) -> str | None:
        """Name of a feature by its number in a plan; None: no such feature or plan."""
        known = self._plans.get(plan_hash)
        if known is None or not 0 <= feature < len(known[0]):
            return None
        return known[0][feature]

    # Engines.

    def _first_engine(self, progress: Callable[[int, int], None] | None) -> ScoringEngine:
        model = self._load_champion()
        plan = model.plan if model is not None else Plan.load(self.settings.plan_path)
        return self._backend.build(plan, model, progress)

    def _load_champion(self) -> ServingModel | None:
        try:
            status = (self.settings.models_dir / CHAMPION_FILE).stat()
        except FileNotFoundError:
            return None
        self._champion_seen = (status.st_mtime_ns, status.st_ino)
        champion = champion_of(self.settings)
        if champion is None:
            return None
        return self.models.load(champion)

    def _note_engine(self, engine: ScoringEngine) -> None:
        plan = engine.program.plan
        self.metrics.plan_hash = plan.hash
        words = compile_words(plan, self.settings.money)
        self._plans[plan.hash] = (plan.feature_names, words)
        if engine.model is not None:
            self.metrics.model_name = engine.model.name
            self.metrics.model_version = engine.model.version

    # Repeats.

    def _find_recorded(self, transaction: Transaction) -> bytes | None:
        found = self.index.transaction(transaction.transaction_id)
        if found is None:
            return None
        if not same_payment(found, transaction):
            raise conflict(transaction.transaction_id)
        decision = self.decision(transaction.transaction_id)
        if decision is None:
            raise conflict(transaction.transaction_id)
        return self._render_recorded(decision)

    def _explain(
        self, plan_hash: str, feature: int, value: float | None, contribution: float
    ) -> Reason:
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
            await asyncio.sleep(_WATCH_SECONDS)
            if self._indexer is not None and self._indexer.poll() is not None:
                log.warning("The indexer ended (%s); starting it again.", self._indexer.returncode)
                self._start_indexer()
            through = self.index.indexed_through
            self.service.forget_indexed(through)
            self.labels.forget_indexed(through)
            engine = self.service.engine
            self.state_problem = await asyncio.to_thread(self._backend.watch, engine)
            self.metrics.entities = engine.state.entities
            self.metrics.state_bytes = engine.state.used_bytes

    async def _watch_champion(self) -> None:
        path = self.settings.models_dir / CHAMPION_FILE
        while True:
            await asyncio.sleep(_CHAMPION_SECONDS)
            self._note_registry()
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            if (status.st_mtime_ns, status.st_ino) == self._champion_seen:
                continue
            try:
                await self._take_over_champion()
                self.model_problem = None
            except SentinelError as error:
                self.model_problem = str(error)
                log.warning("The new champion cannot serve; the old one stays. %s", error)
            except Exception as error:
                self.model_problem = f"unexpected error: {error!r}"
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
        model = await asyncio.to_thread(self._load_champion)
        if model is None:
            return
        if model.plan.hash == self.service.engine.program.plan.hash:
            await self._in_order(lambda: setattr(self.service.engine, "model", model))
        else:
            # Another plan: its state is built beside the running one, then both change at once.
            engine = await asyncio.to_thread(self._backend.build, model.plan, model)

            def take_over() -> None:
                self._backend.adopt(engine)
                self.service.engine = engine

            await self._in_order(take_over)
        self.metrics.model_swaps += 1
        self.metrics.model_swap_seconds = time.perf_counter() - started
        self._note_engine(self.service.engine)
        log.info("Model %s version %s serves from now on.", model.name, model.version)

    async def _take_snapshots(self) -> None:
        while True:
            await asyncio.sleep(self.settings.state.snapshot_seconds)
            if self.service.engine.state.sequence < self._snapshot_sequence + _SNAPSHOT_ENTRIES:
                continue
            try:
                await self.snapshot()
            except OSError as error:
                log.warning("The state snapshot could not be written: %s", error)

    async def snapshot(self) -> Path | None:
        """Write a snapshot of the state as it is between two groups; None: it is kept elsewhere."""
        frozen = await self._in_order(self._freeze)
        if frozen is None:
            return None
        path: Path = await asyncio.to_thread(frozen.write, self.settings.state_dir)
        self._snapshot_sequence = frozen.header.sequence
        self.metrics.snapshot_sequence = frozen.header.sequence
        return path

    def _freeze(self) -> FrozenState | None:
        return self._backend.freeze(self.service.engine)

    async def in_order(self, job: Callable[[], Any]) -> Any:
        """Run a callable between two groups, when nothing undurable can be seen."""
        return await self._in_order(job)

    async def _in_order(self, job: Callable[[], Any]) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def run() -> None:
            try:
                result = job()
            except Exception as error:  # noqa: BLE001 -- whoever waits is told
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.service.run_job(run)
        return await future
