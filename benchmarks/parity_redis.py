"""Shared state in Redis over a whole log, compared with a backfill's vectors and records."""

from __future__ import annotations

import time
from collections.abc import Container
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow as pa

from benchmarks.parity_tally import Tally
from sentinel.features.arena import Arena
from sentinel.features.plan.program import Program
from sentinel.state.redis.effects import Effects
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.records import Records
from sentinel.state.redis.wire import Wire
from testkit.entry_fold import Vectors, entries_of
from testkit.redis_fold import RedisFold
from testkit.servers import Redis

_ROUND_TRIP: Final = 500
_POSITION: Final = 1


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
        self.effects = Effects(self._records())
        features = SharedFeatures(self._records())
        self._fold = RedisFold(features, self.effects, _ROUND_TRIP, self._labelled)
        return self

    def _records(self) -> Records:
        return Records(self._program, Wire(self._server.url, timeout_seconds=60))

    def __exit__(self, *_: object) -> None:
        self._fold.features.records.close()
        self.effects.records.close()
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
                stored = self.effects.records.stored([(view, key) for key in part])
                for key, value in zip(part, stored, strict=True):
                    expected = arena.record(view, key).copy()
                    found = np.zeros_like(expected)
                    if value is not None:
                        found = self.effects.folded(view, value)
                    words += len(expected)
                    if len(found) != len(expected):  # another plan's layout
                        differing += len(expected)
                        continue
                    found[_POSITION] = expected[_POSITION]  # those of a server have an epoch
                    differing += int(np.count_nonzero(found != expected))
        tally.add_state(words, differing + abs(self.effects.records.count() - arena.entities))
