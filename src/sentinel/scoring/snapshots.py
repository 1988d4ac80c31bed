"""Snapshots of the feature state while payments are decided, and a last one at the end."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.writer import Writer
from sentinel.settings import Settings
from sentinel.state.base import SnapshotWritten

log = logging.getLogger(__name__)

_FEW_ENTRIES: Final = 1_000
"""After so few a regular snapshot is not worth it: a start replays them quickly."""


class Snapshots:
    """Writes snapshots of the state that a writer holds.

    Args:
        settings: Where they are kept, and how often they are taken.
        writer: Holds the state.
        metrics: Told the entry of the newest one.
    """

    def __init__(self, settings: Settings, writer: Writer, metrics: ScoringMetrics) -> None:
        self._settings = settings
        self._writer = writer
        self._metrics = metrics
        self._through = writer.scorer.state.sequence
        self._begun_anew = 0

    def begin_anew(self) -> None:
        """Another state serves from now on, of which there is no snapshot or an old one."""
        self._through = 0
        self._begun_anew += 1

    async def take_regularly(self) -> None:
        """Take one every so often, if there is something new. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(self._settings.state.snapshot_seconds)
            if self._writer.scorer.state.sequence < self._through + _FEW_ENTRIES:
                continue
            try:
                await self.take()
            except OSError as error:
                log.warning("The state snapshot could not be written: %s", error)

    async def take(self) -> Path | None:
        """Write a snapshot of the state as it is between two groups.

        Returns:
            Its file; None if state is kept elsewhere, or cannot be trusted right now.

        Raises:
            OSError: It cannot be written.
        """

        def begin() -> tuple[SnapshotWritten | None, int]:
            state = self._writer.scorer.state
            if self._writer.unavailable is not None:
                return None, 0  # it may hold what never became durable
            written = state.begin_snapshot(self._settings.state_dir, leisurely=True)
            return written, state.sequence

        begun_anew = self._begun_anew
        written, sequence = await self._writer.turn.in_order(begin)
        if written is None:
            return None
        path: Path = await asyncio.to_thread(written)
        if begun_anew == self._begun_anew:
            self._through = self._metrics.snapshot_sequence = sequence
        return path

    async def take_last(self) -> None:
        """Write one of a closed writer's state, if there is something new.

        Raises:
            OSError: It cannot be written.
        """
        state = self._writer.scorer.state
        if self._writer.unavailable is None and state.sequence > self._through:
            written = state.begin_snapshot(self._settings.state_dir)
            if written is not None:
                await asyncio.to_thread(written)
