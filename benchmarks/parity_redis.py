"""State in Redis over log entries, as scorers that share it run it."""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow as pa

from benchmarks.parity_online import Entry, Vectors, entries_of
from benchmarks.parity_tally import Tally
from benchmarks.servers import Redis
from sentinel.domain import Transaction
from sentinel.features.arena import Arena
from sentinel.features.fold import LabelBook
from sentinel.features.program import KIND_ADD, KIND_FRAUD, Program
from sentinel.state.redis import RedisState, label_hash
from sentinel.state.redis_features import Change, RedisFeatures

_ROUND_TRIP: Final = 500


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


class SharedReplay:
    """A log into a real server, which starts with the block and ends with it.

    Args:
        program: The compiled plan.
        folder: For the server.
        labelled: Transactions that are kept for labels to come.
    """

    def __init__(self, program: Program, folder: Path, labelled: Container[str]) -> None:
        # What is on disk proves nothing here.
        self._server = Redis(folder, options=("--appendonly", "no"))
        self._program = program
        self._labelled = labelled

    def __enter__(self) -> Self:
        self._server.start()
        self.state = RedisState(self._program, self._server.url, timeout_seconds=60)
        self._fold = RedisFold(self.state, _ROUND_TRIP, self._labelled)
        return self

    def __exit__(self, *_: object) -> None:
        self.state.close()
        self._server.kill()

    def step(self, batch: pa.RecordBatch, backfilled: Vectors, tally: Tally) -> None:
        """Make a log batch's changes; compare its vectors."""
        started = time.perf_counter()
        vectors = self._fold.run(entries_of(batch))
        tally.seconds += time.perf_counter() - started
        tally.compare(list(self._program.plan.feature_names), backfilled, vectors)

    def compare_records(self, arena: Arena, tally: Tally) -> None:
        """Compare every record with the backfill's, and that there are no others."""
        words = differing = 0
        for view, keys in enumerate(arena.keys):
            names = list(keys)
            for start in range(0, len(names), _ROUND_TRIP):
                part = names[start : start + _ROUND_TRIP]
                for key, raw in zip(part, self.state.read([(view, k) for k in part]), strict=True):
                    expected = arena.record(view, key)
                    found = np.frombuffer(raw, "<i8") if raw else np.zeros_like(expected)
                    words += len(expected)
                    differing += int(np.count_nonzero(found != expected))
        tally.add_state(words, differing + abs(self.state.count() - arena.entities))
