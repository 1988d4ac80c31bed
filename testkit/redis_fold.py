"""Shared records over log entries, as scorers and the follower of the log change them."""

from __future__ import annotations

from collections.abc import Container, Iterable

import numpy as np

from sentinel.domain import Transaction
from sentinel.features.offline import LabelBook
from sentinel.log.labels import take_arrival, take_label
from sentinel.state.redis.effects import Change, Effects, step_of
from sentinel.state.redis.features import SharedFeatures
from testkit.entry_fold import Entry, Vectors


class RedisFold:
    """Transactions are added in groups, and labels take effect between two.

    Args:
        features: A scorer's way to the records.
        effects: A follower's.
        capacity: Most transactions of a group.
        labelled: Transactions that are kept for labels to come; None: all.
    """

    def __init__(
        self,
        features: SharedFeatures,
        effects: Effects,
        capacity: int = 1,
        labelled: Container[str] | None = None,
    ) -> None:
        self.features = features
        self.effects = effects
        self.capacity = capacity
        self.labelled = labelled
        self.book = LabelBook()
        self._known: dict[str, Transaction] = {}
        self._sequence = 0

    def run(self, entries: Iterable[Entry]) -> Vectors:
        """Apply log entries; float32 (n_transactions, n_features)."""
        found = [np.empty((0, self.features.program.n_features), dtype=np.float32)]
        group: list[Transaction] = []
        for entry in entries:
            self._sequence += 1
            if isinstance(entry, Transaction):
                group.append(entry)
                if self.labelled is None or entry.transaction_id in self.labelled:
                    self._known[entry.transaction_id] = entry
                kind = take_arrival(self.book.fraud, entry.transaction_id)
            else:
                kind = take_label(
                    self.book.fraud, entry.transaction_id, entry.verdict, self.book.void
                )
            transaction = self._known.get(entry.transaction_id)
            if kind is not None and transaction is not None:
                found.append(self._add(group))
                group = []
                step = step_of(self._sequence, label=True)
                self.effects.apply([Change(transaction, kind, step)])
            if len(group) >= self.capacity:
                found.append(self._add(group))
                group = []
        found.append(self._add(group))
        return np.concatenate(found)

    def _add(self, group: list[Transaction]) -> Vectors:
        if not group:
            return np.empty((0, self.features.program.n_features), dtype=np.float32)
        ticket = self.features.next_ticket()
        added = self.features.add(group, ticket)
        if added.repeated.any():
            raise AssertionError("a transaction that was added once was found to be repeated")
        self.features.settled(ticket)
        self._compact()
        return added.vectors

    def _compact(self) -> None:
        full = self.features.full_tails
        if len(full) >= self.capacity:
            self.features.say_settled(self.effects.records)
            named = list(full)
            full.clear()
            self.effects.compact(named, self._sequence)
