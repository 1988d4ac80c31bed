"""The simulated world as a source of history, and as live traffic that goes on after it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from sentinel.domain import ConfigurationError, Outcome, Transaction
from sentinel.log.schema import KIND_LABEL
from sentinel.sources.base import (
    DEFAULT_CHUNK_ROWS,
    Chunk,
    ColumnUse,
    Description,
    Source,
)
from sentinel.sources.simulator.answering import AnsweringWorld
from sentinel.sources.simulator.arrow import (
    ATTRIBUTES,
    TRANSACTIONS,
    label_rows,
    transaction_ids,
    transaction_rows,
)
from sentinel.sources.simulator.catalogue import SCENARIOS
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.events import Events, concat
from sentinel.sources.simulator.live import LiveEvent
from sentinel.sources.simulator.population import Ints
from sentinel.sources.simulator.world import World


class SimulatorSource(Source):
    """Simulated history, and live traffic of the same people that follows it.

    The same config gives the same payments, whatever the size of chunks and wherever the live
    traffic begins.

    Args:
        config: What to simulate; default: about 300,000 payments of 180 days.

    >>> source = SimulatorSource(SimulatorConfig(customers=50, days=3))
    >>> chunk = next(source.raw_batches(10))
    >>> chunk.rows.num_rows
    10
    >>> live = source.stream_from(source.config.end_us)
    >>> next(live).due_us >= source.config.end_us
    True
    """

    name = "simulator"
    scale = 2
    label_delay_us = None

    def __init__(self, config: SimulatorConfig | None = None) -> None:
        self.config = config or SimulatorConfig()
        self.attributes = ATTRIBUTES
        self._world = World(self.config)

    def describe(self) -> Description:
        """The world's size and span, and the columns that come out of it."""
        config = self.config
        return Description(
            self.name,
            (),
            tuple(ColumnUse(item.name, str(item.type), item.name) for item in TRANSACTIONS),
            "claimed days to weeks later, some never; a few claims are taken back",
            (
                f"{config.customers:,} customers and {config.merchants:,} merchants",
                f"{config.days:g} days from {config.start}, seed {config.seed}",
            ),
        )

    def row_count(self) -> int | None:
        """About how many payments the history has."""
        return round(self.config.customers * self.config.daily_rate * self.config.days)

    def raw_batches(self, chunk_rows: int = DEFAULT_CHUNK_ROWS) -> Iterator[Chunk]:
        """The history in order of time; after each chunk of payments, their labels."""
        row = 0
        labels = 0
        for events, ids in self._chunks(chunk_rows):
            rows = transaction_rows(events, ids, self.config, self._world.population)
            numbers = np.arange(row + 1, row + 1 + len(events), dtype=np.int64)
            row += len(events)
            yield Chunk(self.name, numbers, rows)
            told = label_rows(events, ids)
            if told.num_rows:
                numbers = np.arange(labels + 1, labels + 1 + told.num_rows, dtype=np.int64)
                labels += told.num_rows
                yield Chunk(f"{self.name} labels", numbers, told, kind=KIND_LABEL)

    def truth_batches(self, chunk_rows: int = DEFAULT_CHUNK_ROWS) -> Iterator[pa.RecordBatch]:
        """What really is behind each payment of the history, for judging models.

        Yields:
            Batches of ``transaction_id`` and ``scenario``, in the order of ``raw_batches``.
        """
        names = pa.array(SCENARIOS)
        for events, ids in self._chunks(chunk_rows):
            yield pa.RecordBatch.from_arrays(
                [pa.array(ids).cast(pa.string()), names.take(pa.array(events.scenario))],
                names=["transaction_id", "scenario"],
            )

    def stream_from(self, t0_us: int) -> Iterator[LiveEvent]:
        """Live traffic from a moment on, without end: payments and labels as they come.

        Labels of payments of the history before the moment come too, so that a ledger filled
        with the history up to ``t0_us`` misses none. This is the world in which every payment is
        approved; see `AnsweringWorld` for one that is told what was decided.

        Args:
            t0_us: First moment, microseconds UTC, not before the history.

        Yields:
            Events in order of ``due_us``. Nothing waits: pacing is the caller's business.

        Raises:
            ConfigurationError: The moment lies before the history.
        """
        if t0_us < self.config.start_us:
            raise ConfigurationError(
                f"Live traffic cannot begin before the simulated history ({self.config.start}); "
                "move the simulator's start."
            )
        return self._stream(t0_us)

    def _stream(self, t0_us: int) -> Iterator[LiveEvent]:
        world = AnsweringWorld(self.config, from_us=t0_us)
        while True:
            event = world.next()
            if isinstance(event.entry, Transaction):
                world.answer(Outcome.APPROVE)
            yield event

    def _day(self, day: int) -> tuple[Events, Ints]:
        events = self._world.day(day)
        return events, transaction_ids(self.config.first_day + day, len(events))

    def _chunks(self, chunk_rows: int) -> Iterator[tuple[Events, Ints]]:
        """The history in pieces of exactly ``chunk_rows``, the last one shorter."""
        parts: list[tuple[Events, Ints]] = []
        held = 0
        for day in range(int(np.ceil(self.config.days))):
            events, ids = self._day(day)
            before_end = events.time_us < self.config.end_us
            parts.append((events.take(before_end), ids[before_end]))
            held += len(parts[-1][1])
            if held < chunk_rows:
                continue
            events, ids = _joined(parts)
            for start in range(0, held - held % chunk_rows, chunk_rows):
                piece = np.arange(start, start + chunk_rows)
                yield events.take(piece), ids[piece]
            rest = np.arange(held - held % chunk_rows, held)
            parts, held = [(events.take(rest), ids[rest])], len(rest)
        if held:
            yield _joined(parts)


def _joined(parts: list[tuple[Events, Ints]]) -> tuple[Events, Ints]:
    return concat([events for events, _ in parts]), np.concatenate([ids for _, ids in parts])
