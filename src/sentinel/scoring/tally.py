"""Counts decisions for the metrics, one pass for many groups."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from sentinel.log.entries import FLAG_DEGRADED, FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT, outcome_codes
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.pending import Pending
from sentinel.scoring.scorer import Scored

_COUNTED_AT_ONCE: Final = 1024


class Tally:
    """Decisions that the metrics do not hold yet.

    Args:
        metrics: Brought up to date before each scrape.
    """

    def __init__(self, metrics: ScoringMetrics) -> None:
        self._metrics = metrics
        self._flags = bytearray()
        self._probabilities = bytearray()
        self._latencies: list[int] = []

    def add(self, group: Sequence[Pending], scored: Scored) -> None:
        """Count a group that was answered just now."""
        now = time.perf_counter_ns()
        self._flags += scored.flags.tobytes()
        self._probabilities += scored.deciding_probabilities().tobytes()
        self._latencies += [(now - pending.arrived_ns) // 1000 for pending in group]
        if len(self._latencies) >= _COUNTED_AT_ONCE:
            self.count()

    def count(self) -> None:
        """Bring the metrics up to date."""
        flags = np.frombuffer(bytes(self._flags), dtype=np.uint32)
        probabilities = np.frombuffer(bytes(self._probabilities), dtype=np.float64)
        latencies = np.array(self._latencies, dtype=np.int64)
        self._flags.clear()
        self._probabilities.clear()
        self._latencies.clear()
        metrics = self._metrics
        metrics.decisions += np.bincount(outcome_codes(flags), minlength=3)
        metrics.probability.observe(probabilities)
        metrics.latency.observe(latencies)
        metrics.late_events += int(np.count_nonzero(flags & FLAG_LATE_EVENT))
        metrics.expired_events += int(np.count_nonzero(flags & FLAG_EXPIRED_EVENT))
        metrics.degraded += int(np.count_nonzero(flags & FLAG_DEGRADED))
