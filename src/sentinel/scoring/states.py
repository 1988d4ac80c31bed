"""Where the feature state of a scoring process comes from: one contract for both kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sentinel.features.plan.plan import Plan
from sentinel.ledger.base import Ledger
from sentinel.ledger.index import LedgerIndex
from sentinel.spare_time import Between
from sentinel.state.base import FeatureState

Progress = Callable[[int, int], None]


class States(Protocol):
    """Opens feature states. All methods but `close` may take long and are called in threads."""

    def open_ledger(self) -> Ledger:
        """The ledger, to append to."""
        ...

    def attach(self, reader: Ledger, index: LedgerIndex) -> None:
        """Where to recover from."""
        ...

    def give_way(self, between: Between) -> None:
        """From now on payments are decided meanwhile.

        Args:
            between: Called between two pieces of long work, see `Pace.give_way`.
        """
        ...

    def open(self, plan: Plan, progress: Progress | None = None) -> FeatureState:
        """A plan's state after the ledger's last entry.

        Args:
            plan: Which plan.
            progress: Told (entries done, entries in all) while the log is replayed.
        """
        ...

    def rebuild(self, state: FeatureState) -> FeatureState:
        """A state to go on with after a failed commit, or an error while that cannot be."""
        ...

    def catch_up(self, state: FeatureState) -> int:
        """Take in what the log got since a state was opened, before it is used.

        Returns:
            How many entries that were.
        """
        ...

    def prepare_catch_up(self, state: FeatureState) -> None:
        """Do beforehand what `catch_up` needs, so that it takes no longer than the last entries."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...
