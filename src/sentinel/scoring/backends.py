"""Where feature state lives, for a scoring process: in its memory, or shared with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sentinel.domain import Label, Transaction
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.base import Ledger
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_writer
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.engine import Engine, ScoringEngine
from sentinel.scoring.labels import LabelDesk
from sentinel.scoring.recovery import catch_up, recover
from sentinel.scoring.service import ScoringService
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings
from sentinel.state.embedded import FrozenState

Progress = Callable[[int, int], None]
Find = Callable[[str], Transaction | None]
FindLabel = Callable[[str], Label | None]


class StateBackend(Protocol):
    """The parts of a scoring process that depend on where state lives."""

    def open_ledger(self) -> Ledger:
        """The ledger, to append to."""
        ...

    def attach(self, reader: Ledger, index: LedgerIndex) -> None:
        """Where to recover from."""
        ...

    def build(
        self, plan: Plan, model: ServingModel | None, progress: Progress | None = None
    ) -> ScoringEngine:
        """An engine with the state after the ledger's last entry, every kernel warm."""
        ...

    def rebuild(self, engine: Any) -> ScoringEngine:
        """An engine to go on with after a failed commit, or an error while that cannot be."""
        ...

    def adopt(self, engine: Any) -> None:
        """Take in what came since an engine was built. Runs between two groups."""
        ...

    def service(self, engine: Any, ledger: Ledger, **options: Any) -> ScoringService:
        """The service around an engine."""
        ...

    def desk(self, service: Any, find: Find, find_label: FindLabel) -> LabelDesk:
        """What takes labels."""
        ...

    def watch(self, engine: Any) -> str | None:
        """Look after what may have changed elsewhere, about twice a second, in a thread.

        Returns:
            What is wrong with the state, None: nothing.
        """
        ...

    def freeze(self, engine: Any) -> FrozenState | None:
        """A copy of the state to write as a snapshot; None where state is kept elsewhere."""
        ...

    def close(self) -> None:
        """Release what it holds."""
        ...


class EmbeddedBackend:
    """State in this process: the only writer of the ledger.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: Ledger
        self._index: LedgerIndex

    def open_ledger(self) -> Ledger:
        return open_writer(self._settings)

    def attach(self, reader: Ledger, index: LedgerIndex) -> None:
        self._reader, self._index = reader, index

    def build(
        self, plan: Plan, model: ServingModel | None, progress: Progress | None = None
    ) -> Engine:
        self._index.catch_up()
        state = recover(
            compile_program(plan),
            self._reader,
            self._settings.state_dir,
            self._index.transaction,
            progress=progress,
        )
        engine = Engine(state, model)
        engine.warm()
        return engine

    def rebuild(self, engine: Engine) -> Engine:
        return self.build(engine.program.plan, engine.model)

    def adopt(self, engine: Engine) -> None:
        # Labels may be about transactions that are in the log but not indexed yet.
        self._index.catch_up()
        catch_up(engine.state, self._reader, self._index.transaction)

    def service(self, engine: Engine, ledger: Ledger, **options: Any) -> ScoringService:
        return ScoringService(engine, ledger, **options)

    def desk(self, service: ScoringService, find: Find, find_label: FindLabel) -> LabelDesk:
        return LabelDesk(service, find, find_label)

    def watch(self, engine: Engine) -> str | None:
        return None

    def freeze(self, engine: Engine) -> FrozenState | None:
        return engine.state.freeze()

    def close(self) -> None:
        """Nothing is held."""


def backend_of(settings: Settings, metrics: ScoringMetrics) -> StateBackend:
    """The backend that the settings name.

    Raises:
        ConfigurationError: The settings do not fit together.
    """
    if settings.state.backend == "redis":
        from sentinel.scoring.shared_backend import SharedBackend

        return SharedBackend(settings, metrics)
    return EmbeddedBackend(settings)
