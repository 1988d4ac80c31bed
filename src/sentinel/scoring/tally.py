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
        self._groups: list[Sequence[Pending]] = []
        self._scored: list[Scored] = []
        self._latencies: list[int] = []

    def add(self, group: Sequence[Pending], scored: Scored) -> None:
        """Count a group that was answered just now."""
        now = time.perf_counter_ns()
        others = () if scored.roles is None else scored.roles.models
        if scored.model.version != self._version or others != self._others:
            self.count()  # what came before was of other models
            self._version, self._others = scored.model.version, others
        self._groups.append(group)
        self._scored.append(scored)
        self._latencies += [now - pending.arrived_ns for pending in group]
        if len(self._latencies) >= _COUNTED_AT_ONCE:
            self.count()

    def count(self) -> None:
        """Bring the metrics up to date."""
        groups, scored, latencies = self._groups, self._scored, self._latencies
        if not groups:
            return
        self._groups, self._scored, self._latencies = [], [], []
        metrics = self._metrics
        transactions = [pending.transaction for group in groups for pending in group]
        flags = np.concatenate([one.flags for one in scored])
        probabilities = np.concatenate([one.deciding_probabilities() for one in scored])
        metrics.probability.observe(probabilities)
        metrics.latency.observe(np.array(latencies, dtype=np.int64) // 1000)
        ages = [one.received_at_us - one.event_time_us for one in transactions]
        metrics.event_age.observe(np.array(ages, dtype=np.int64))
        metrics.late_events += int(np.count_nonzero(flags & FLAG_LATE_EVENT))
        metrics.expired_events += int(np.count_nonzero(flags & FLAG_EXPIRED_EVENT))
        metrics.degraded += int(np.count_nonzero(flags & FLAG_DEGRADED))
        if any(one.untracked for one in scored):
            metrics.without_room += sum(isinstance(one, PartlyTracked) for one in transactions)
        self._count_outcomes(scored, outcome_codes(flags))
        self._count_roles([one.roles for one in scored if one.roles is not None])
        if any(one.control is not None for one in scored):
            amounts = [one.amount_minor for one in transactions]
            self._count_control(scored, outcome_codes(flags), amounts, probabilities)

    def _count_outcomes(self, groups: Sequence[Scored], outcomes: Flags) -> None:
        deciders = np.concatenate([_deciders(one) for one in groups])
        for number in np.unique(deciders).tolist():
            labels = (self._version, "champion", "")
            if number:
                labels = _labels(self._others[number - 1])
            theirs = self._metrics.decisions.of(labels)
            theirs += np.bincount(outcomes[deciders == number], minlength=3)

    def _count_roles(self, groups: Sequence[RolesScored]) -> None:
        if not groups:
            return
        scored = np.count_nonzero(
            ~np.isnan(np.concatenate([one.probabilities for one in groups], axis=1)), axis=1
        )
        took_ns = np.sum([one.took_ns for one in groups], axis=0)
        for row, other in enumerate(self._others):
            theirs = self._metrics.scored_beside.of(_labels(other))
            theirs += np.array((scored[row + 1], took_ns[row] * 1e-9))

    def _count_control(
        self,
        groups: Sequence[Scored],
        outcomes: Flags,
        amounts: Sequence[int],
        probabilities: npt.NDArray[np.float64],
    ) -> None:
        metrics = self._metrics
        controls = [one.control for one in groups]
        metrics.eligible += sum(int(np.count_nonzero(one.eligible)) for one in controls if one)
        base = np.concatenate(
            [
                outcome_codes(one.flags) if one.control is None else one.control.base_outcomes
                for one in groups
            ]
        )
        explored = np.flatnonzero(base != outcomes)
        metrics.explored += len(explored)
        for row in explored.tolist():
            metrics.explored_amount += amounts[row]
            metrics.explored_loss += amounts[row] * float(probabilities[row])


def _deciders(scored: Scored) -> npt.NDArray[np.uint8]:
    """uint8 (n,): which models decided; see `RolesScored`."""
    roles = scored.roles
    if roles is None or roles.deciders is None:
        return np.zeros(len(scored.flags), dtype=np.uint8)
    return roles.deciders


def _labels(other: PanelModel) -> ModelLabels:
    return other.model.version, other.kind, other.name
