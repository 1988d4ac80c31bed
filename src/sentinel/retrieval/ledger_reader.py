"""Reads features where no scorer runs: snapshot and log, opened read-only."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sentinel.domain import DefinitionError, Transaction
from sentinel.features.online import OnlineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_reader
from sentinel.retrieval.current import CurrentFeatures, Row
from sentinel.scoring.recovery import catch_up, recover
from sentinel.settings import Settings


class LedgerReader:
    """A `FeatureReader` that recovers the state by itself and follows the log.

    Recovery is done once; each later read folds only what the log holds beyond. For one thread at
    a time.

    Args:
        settings: Names the workspace.

    Raises:
        DefinitionError: No plan has been applied yet.
        WorkspaceError: There is no ledger.
    """

    def __init__(self, settings: Settings) -> None:
        self.plan = Plan.load(settings.plan_path)
        self._plan_path = settings.plan_path
        self._index_path = settings.index_path
        self._index: LedgerIndex | None = None
        self._places = {name: i for i, name in enumerate(self.plan.feature_names)}
        self._ledger = open_reader(settings)
        self._state = recover(
            compile_program(self.plan), self._ledger, settings.state_dir, self._find
        )

    @property
    def is_current(self) -> bool:
        """Whether this reader's plan is still the applied one."""
        return Plan.load(self._plan_path).hash == self.plan.hash

    def read(
        self, rows: Sequence[Row], features: Sequence[str], now_us: int | None
    ) -> CurrentFeatures:
        """See `FeatureReader.read`."""
        unknown = [name for name in features if name not in self._places]
        if unknown:
            raise DefinitionError(
                f"The applied plan {self.plan.hash} has no feature {unknown[0]!r}. "
                "If the definitions changed, run `sentinel features apply`."
            )
        catch_up(self._state, self._ledger, self._find)
        now = time.time_ns() // 1000 if now_us is None else now_us
        values = self._fold(rows, now)[:, [self._places[name] for name in features]]
        return CurrentFeatures(self.plan.hash, now, tuple(features), values)

    def close(self) -> None:
        """Release the files."""
        if self._index is not None:
            self._index.close()
        self._ledger.close()

    def _fold(self, rows: Sequence[Row], now_us: int) -> npt.NDArray[np.float32]:
        return OnlineFold(self._state.program, self._state.arena, len(rows)).read(rows, now_us)

    def _find(self, transaction_id: str) -> Transaction | None:
        """A transaction before the snapshot that a later label is about."""
        if self._index is None:
            self._index = LedgerIndex(self._index_path, self._ledger)
        self._index.catch_up()
        return self._index.transaction(transaction_id)
