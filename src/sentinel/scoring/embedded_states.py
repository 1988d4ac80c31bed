"""Feature state in this process, which alone writes the ledger."""

from __future__ import annotations

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.base import Ledger
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_writer
from sentinel.scoring.recovery import catch_up, recover
from sentinel.scoring.state_beside import make_snapshot
from sentinel.scoring.states import Progress
from sentinel.settings import Settings
from sentinel.spare_time import Between, go_on
from sentinel.state.base import FeatureState
from sentinel.state.budget import embedded_budget
from sentinel.state.embedded import EmbeddedState


class EmbeddedStates:
    """State in this process: the only writer of the ledger.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader: Ledger
        self._index: LedgerIndex
        self._decides = False
        self._between: Between = go_on
        self._threads: int | None = None

    # See `States` for all of these.

    def open_ledger(self) -> Ledger:
        return open_writer(self._settings)

    def attach(self, reader: Ledger, index: LedgerIndex) -> None:
        self._reader, self._index = reader, index

    def give_way(self, between: Between) -> None:
        self._between = between
        self._threads = 1

    def open(self, plan: Plan, progress: Progress | None = None) -> EmbeddedState:
        if self._decides:  # by another plan, meanwhile
            make_snapshot(self._settings, plan, self._reader)
        state = self._recover(plan, progress)
        self._decides = True
        return state

    def _recover(self, plan: Plan, progress: Progress | None = None) -> EmbeddedState:
        self._index.catch_up()
        state = recover(
            compile_program(plan),
            self._reader,
            self._settings.state_dir,
            self._index.transaction,
            progress=progress,
            between=self._between,
            threads=self._threads,
        )
        state.budget_bytes = embedded_budget(self._settings)
        state.count_waiting(self._between)
        return state

    def rebuild(self, state: FeatureState) -> EmbeddedState:
        rebuilt = self._recover(state.program.plan)
        rebuilt.warm()
        return rebuilt

    def catch_up(self, state: FeatureState) -> int:
        assert isinstance(state, EmbeddedState)
        before = state.sequence
        # Labels may be about transactions that are in the log but not indexed yet. Those that the
        # state gets in the same pass are at hand, so most of the time nothing waits for the index.
        if self._index.indexed_through < before:
            self._index.catch_up()
        catch_up(state, self._reader, self._index.transaction, threads=self._threads)
        return state.sequence - before

    def prepare_catch_up(self, state: FeatureState) -> None:
        if self._index.indexed_through < state.sequence:
            self._index.catch_up()

    def close(self) -> None:
        """Nothing is held."""
