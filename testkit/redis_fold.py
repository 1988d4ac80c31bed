"""State in Redis over log entries, as scorers that share it run it."""

from __future__ import annotations

from collections.abc import Container, Iterable

import numpy as np

from sentinel.domain import Transaction
from sentinel.features.offline import LabelBook
from sentinel.features.plan.program import KIND_ADD, KIND_FRAUD
from sentinel.state.redis_features import Change, RedisFeatures
from sentinel.state.redis_records import RedisState, label_hash
from testkit.online_fold import Entry, Vectors


class RedisFold:
    """Entries become changes, some of which make up a round trip.

    ``positions`` and ``flags`` are those of the last run, by transaction and view.

    Args:
        state: Where the records are.
        capacity: Most changes of a round trip.
        labelled: Transactions that are kept for labels to come; None: all.
    """

    def __init__(
        self, state: RedisState, capacity: int = 1, labelled: Container[str] | None = None
    ) -> None:
        self.state = state
        self.features = RedisFeatures(state, capacity)
        self.capacity = capacity
        self.labelled = labelled
        self.book = LabelBook()
        self.positions: list[list[int]] = []
        self.flags: list[list[int]] = []
        self._known: dict[str, Transaction] = {}
        self._labels = 0

    def run(self, entries: Iterable[Entry]) -> Vectors:
        """Apply log entries; float32 (n_transactions, n_features)."""
        self.positions, self.flags = [], []
        found = [np.empty((0, self.state.program.n_features), dtype=np.float32)]
        changes: list[Change] = []
        for entry in entries:
            if isinstance(entry, Transaction):
                changes.append(Change(entry))
                if self.labelled is None or entry.transaction_id in self.labelled:
                    self._known[entry.transaction_id] = entry
                kind = KIND_FRAUD if entry.transaction_id in self.book.fraud else -1
            else:
                kind = self.book.change(entry.transaction_id, entry.verdict)
            transaction = self._known.get(entry.transaction_id)
            if kind >= 0 and transaction is not None:
                self._labels += 1
                changes.append(Change(transaction, kind, label_hash(f"label {self._labels}")))
            if len(changes) >= self.capacity:
                found.append(self._apply(changes))
                changes = []
        if changes:
            found.append(self._apply(changes))
        return np.concatenate(found)

    def _apply(self, changes: list[Change]) -> Vectors:
        applied = self.features.apply(changes)
        if applied.repeated.any():
            raise AssertionError("a change that was made once was found to be repeated")
        of_transactions = np.array([change.kind == KIND_ADD for change in changes])
        self.positions += applied.positions[of_transactions].tolist()
        self.flags += applied.flags[of_transactions].tolist()
        vectors: Vectors = applied.vectors[of_transactions]
        return vectors
