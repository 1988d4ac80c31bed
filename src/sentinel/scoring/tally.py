"""Counts decisions for the metrics, one pass for many groups."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from sentinel.domain import PartlyTracked
from sentinel.log.entries import FLAG_DEGRADED, FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT, outcome_codes
from sentinel.monitoring.metrics import ModelLabels, ScoringMetrics
from sentinel.policy.exploration import Control
from sentinel.scoring.panel import PanelModel
from sentinel.scoring.pending import Pending
from sentinel.scoring.roles import RolesScored
from sentinel.scoring.scorer import Scored

_COUNTED_AT_ONCE: Final = 1024


class Tally:
    """Decisions that the metrics do not hold yet.

    Args:
        metrics: Brought up to date before each scrape.
    """

    def __init__(self, metrics: ScoringMetrics) -> None:
        self._metrics = metrics
        self._version = ""
        self._others: tuple[PanelModel, ...] = ()
        self._flags = bytearray()
        self._probabilities = bytearray()
        self._deciders = bytearray()
        self._times: list[int] = []
        self._latencies: list[int] = []

    def add(self, group: Sequence[Pending], scored: Scored) -> None:
        """Count a group that was answered just now."""
        now = time.perf_counter_ns()
        roles = scored.roles
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
            self._times.append(transaction.received_at_us - transaction.event_time_us)
        if roles is not None:
            self._count_roles(roles)
        if scored.control is not None:
            self._count_control(group, scored, scored.control)
        if scored.untracked:
            self._metrics.without_room += sum(
                isinstance(pending.transaction, PartlyTracked) for pending in group
            )
        if len(self._latencies) >= _COUNTED_AT_ONCE:
            self.count()

    def _count_roles(self, roles: RolesScored) -> None:
        for row, (other, took_ns) in enumerate(zip(roles.models, roles.took_ns, strict=True), 1):
            scored = np.count_nonzero(~np.isnan(roles.probabilities[row]))
            theirs = self._metrics.scored_beside.of(_labels(other))
            theirs += np.array((scored, took_ns * 1e-9))

    def _count_control(self, group: Sequence[Pending], scored: Scored, control: Control) -> None:
        metrics = self._metrics
        metrics.eligible += int(np.count_nonzero(control.eligible))
        explored = np.flatnonzero(control.base_outcomes != outcome_codes(scored.flags))
        if len(explored):
            probabilities = scored.deciding_probabilities()
            metrics.explored += len(explored)
            for row in explored.tolist():
                amount = group[row].transaction.amount_minor
                metrics.explored_amount += amount
                metrics.explored_loss += amount * float(probabilities[row])

    def count(self) -> None:
        """Bring the metrics up to date."""
        flags = np.frombuffer(bytes(self._flags), dtype=np.uint32)
        probabilities = np.frombuffer(bytes(self._probabilities), dtype=np.float64)
        deciders = np.frombuffer(bytes(self._deciders), dtype=np.uint8)
        latencies = np.array(self._latencies, dtype=np.int64) // 1000
        ages = np.array(self._times, dtype=np.int64)
        for filled in (
            self._flags, self._probabilities, self._deciders, self._latencies, self._times
        ):  # fmt: skip
            filled.clear()
        metrics, outcomes = self._metrics, outcome_codes(flags)
        for number in np.unique(deciders).tolist():
            labels = (self._version, "champion", "")
            if number:
                labels = _labels(self._others[number - 1])
            theirs = metrics.decisions.of(labels)
            theirs += np.bincount(outcomes[deciders == number], minlength=3)
        metrics.probability.observe(probabilities)
        metrics.latency.observe(latencies)
        metrics.event_age.observe(ages)
        metrics.late_events += int(np.count_nonzero(flags & FLAG_LATE_EVENT))
        metrics.expired_events += int(np.count_nonzero(flags & FLAG_EXPIRED_EVENT))
        metrics.degraded += int(np.count_nonzero(flags & FLAG_DEGRADED))


def _labels(other: PanelModel) -> ModelLabels:
    return other.model.version, other.kind, other.name
