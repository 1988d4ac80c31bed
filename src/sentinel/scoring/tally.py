"""Counts decisions for the metrics, one pass for many groups."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import PartlyTracked
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_EXPIRED_EVENT,
    FLAG_LATE_EVENT,
    Flags,
    outcome_codes,
)
from sentinel.monitoring.metrics import ModelLabels, ScoringMetrics
from sentinel.scoring.panel import PanelModel
from sentinel.scoring.pending import Pending
from sentinel.scoring.scorer import Scored

_COUNTED_AT_ONCE: Final = 1024
_AS_DECIDED: Final = b"\xff"
"""In place of the outcome before the control group: there was none."""


class Tally:
    """Decisions that the metrics do not hold yet.

    Args:
        metrics: Brought up to date before each scrape.
    """

    def __init__(self, metrics: ScoringMetrics) -> None:
        self._metrics = metrics
        self._version = ""
        self._others: tuple[PanelModel, ...] = ()
        self._begin()

    def _begin(self) -> None:
        """Hold nothing. What is held are figures: payments would come back cold from memory."""
        self._flags = bytearray()
        self._probabilities = bytearray()
        self._deciders = bytearray()
        self._ages: list[int] = []
        self._latencies: list[int] = []
        self._controls = 0
        self._bases = bytearray()
        self._eligible = bytearray()
        self._amounts: list[int] = []
        self._beside: list[npt.NDArray[np.float64]] = []
        self._took_ns: list[Sequence[int]] = []

    def add(self, group: Sequence[Pending], scored: Scored) -> None:
        """Count a group that was answered just now."""
        now = time.perf_counter_ns()
        roles, control = scored.roles, scored.control
        others = () if roles is None else roles.models
        if scored.model.version != self._version or others != self._others:
            self.count()  # what came before was of other models
            self._version, self._others = scored.model.version, others
        self._flags += scored.flags.tobytes()
        self._probabilities += scored.deciding_probabilities().tobytes()
        if roles is None or roles.deciders is None:
            self._deciders += bytes(len(group))
        else:
            self._deciders += roles.deciders.tobytes()
        for pending in group:
            self._latencies.append(now - pending.arrived_ns)
            transaction = pending.transaction
            self._ages.append(transaction.received_at_us - transaction.event_time_us)
            self._amounts.append(transaction.amount_minor)
        if roles is not None:
            self._beside.append(roles.probabilities)
            self._took_ns.append(roles.took_ns)
        if control is None:
            self._bases += _AS_DECIDED * len(group)
        else:
            self._controls += 1
            self._bases += control.base_outcomes.tobytes()
            self._eligible += control.eligible.tobytes()
        if scored.untracked:
            self._metrics.without_room += sum(
                isinstance(pending.transaction, PartlyTracked) for pending in group
            )
        if len(self._latencies) >= _COUNTED_AT_ONCE:
            self.count()

    def count(self) -> None:
        """Bring the metrics up to date."""
        if not self._latencies:
            return
        flags = np.frombuffer(bytes(self._flags), dtype=np.uint32)
        probabilities = np.frombuffer(bytes(self._probabilities), dtype=np.float64)
        metrics = self._metrics
        metrics.probability.observe(probabilities)
        metrics.latency.observe(np.array(self._latencies, dtype=np.int64) // 1000)
        metrics.event_age.observe(np.array(self._ages, dtype=np.int64))
        metrics.late_events += int(np.count_nonzero(flags & FLAG_LATE_EVENT))
        metrics.expired_events += int(np.count_nonzero(flags & FLAG_EXPIRED_EVENT))
        metrics.degraded += int(np.count_nonzero(flags & FLAG_DEGRADED))
        outcomes = outcome_codes(flags)
        deciders = np.frombuffer(bytes(self._deciders), dtype=np.uint8)
        for number in np.unique(deciders).tolist():
            labels = (self._version, "champion", "")
            if number:
                labels = _labels(self._others[number - 1])
            theirs = metrics.decisions.of(labels)
            theirs += np.bincount(outcomes[deciders == number], minlength=3)
        if self._beside:
            self._count_roles()
        if self._controls:
            self._count_control(outcomes, probabilities)
        self._begin()

    def _count_roles(self) -> None:
        scored = np.count_nonzero(~np.isnan(np.concatenate(self._beside, axis=1)), axis=1)
        took_ns = np.sum(self._took_ns, axis=0)
        for row, other in enumerate(self._others):
            theirs = self._metrics.scored_beside.of(_labels(other))
            theirs += np.array((scored[row + 1], took_ns[row] * 1e-9))

    def _count_control(self, outcomes: Flags, probabilities: npt.NDArray[np.float64]) -> None:
        metrics = self._metrics
        metrics.eligible += int(np.count_nonzero(np.frombuffer(bytes(self._eligible), np.bool_)))
        bases = np.frombuffer(bytes(self._bases), dtype=np.uint8)
        explored = np.flatnonzero((bases != outcomes) & (bases != _AS_DECIDED[0]))
        metrics.explored += len(explored)
        for row in explored.tolist():
            amount = self._amounts[row]
            metrics.explored_amount += amount
            metrics.explored_loss += amount * float(probabilities[row])


def _labels(other: PanelModel) -> ModelLabels:
    return other.model.version, other.kind, other.name
