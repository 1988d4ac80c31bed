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
        self._begin()

    def _begin(self) -> None:
        """Hold nothing. What is held is small: payments would come back cold from memory."""
        self._flags: list[Flags] = []
        self._probabilities: list[npt.NDArray[np.float64]] = []
        self._controls: list[Control | None] = []
        self._roles: list[RolesScored] = []
        self._deciders: list[npt.NDArray[np.uint8] | None] = []
        self._latencies: list[int] = []
        self._ages: list[int] = []
        self._amounts: list[int] = []

    def add(self, group: Sequence[Pending], scored: Scored) -> None:
        """Count a group that was answered just now."""
        now = time.perf_counter_ns()
        roles = scored.roles
        others = () if roles is None else roles.models
        if scored.model.version != self._version or others != self._others:
            self.count()  # what came before was of other models
            self._version, self._others = scored.model.version, others
        self._flags.append(scored.flags)
        self._probabilities.append(scored.deciding_probabilities())
        self._controls.append(scored.control)
        if roles is None:
            self._deciders.append(None)
        else:
            self._roles.append(roles)
            self._deciders.append(roles.deciders)
        for pending in group:
            self._latencies.append(now - pending.arrived_ns)
            transaction = pending.transaction
            self._ages.append(transaction.received_at_us - transaction.event_time_us)
            self._amounts.append(transaction.amount_minor)
        if scored.untracked:
            self._metrics.without_room += sum(
                isinstance(pending.transaction, PartlyTracked) for pending in group
            )
        if len(self._latencies) >= _COUNTED_AT_ONCE:
            self.count()

    def count(self) -> None:
        """Bring the metrics up to date."""
        if not self._flags:
            return
        flags = np.concatenate(self._flags)
        probabilities = np.concatenate(self._probabilities)
        metrics = self._metrics
        metrics.probability.observe(probabilities)
        metrics.latency.observe(np.array(self._latencies, dtype=np.int64) // 1000)
        metrics.event_age.observe(np.array(self._ages, dtype=np.int64))
        metrics.late_events += int(np.count_nonzero(flags & FLAG_LATE_EVENT))
        metrics.expired_events += int(np.count_nonzero(flags & FLAG_EXPIRED_EVENT))
        metrics.degraded += int(np.count_nonzero(flags & FLAG_DEGRADED))
        outcomes = outcome_codes(flags)
        self._count_outcomes(outcomes)
        if self._roles:
            self._count_roles()
        if any(control is not None for control in self._controls):
            self._count_control(outcomes, probabilities)
        self._begin()

    def _count_outcomes(self, outcomes: Flags) -> None:
        deciders = np.concatenate(
            [
                np.zeros(len(flags), dtype=np.uint8) if of_group is None else of_group
                for flags, of_group in zip(self._flags, self._deciders, strict=True)
            ]
            if any(of_group is not None for of_group in self._deciders)
            else [np.zeros(len(outcomes), dtype=np.uint8)]
        )
        for number in np.unique(deciders).tolist():
            labels = (self._version, "champion", "")
            if number:
                labels = _labels(self._others[number - 1])
            theirs = self._metrics.decisions.of(labels)
            theirs += np.bincount(outcomes[deciders == number], minlength=3)

    def _count_roles(self) -> None:
        said = np.concatenate([roles.probabilities for roles in self._roles], axis=1)
        scored = np.count_nonzero(~np.isnan(said), axis=1)
        took_ns = np.sum([roles.took_ns for roles in self._roles], axis=0)
        for row, other in enumerate(self._others):
            theirs = self._metrics.scored_beside.of(_labels(other))
            theirs += np.array((scored[row + 1], took_ns[row] * 1e-9))

    def _count_control(self, outcomes: Flags, probabilities: npt.NDArray[np.float64]) -> None:
        metrics = self._metrics
        before = [
            outcome_codes(flags) if control is None else control.base_outcomes
            for flags, control in zip(self._flags, self._controls, strict=True)
        ]
        eligible = [control.eligible for control in self._controls if control is not None]
        metrics.eligible += int(np.count_nonzero(np.concatenate(eligible)))
        explored = np.flatnonzero(np.concatenate(before) != outcomes)
        metrics.explored += len(explored)
        for row in explored.tolist():
            amount = self._amounts[row]
            metrics.explored_amount += amount
            metrics.explored_loss += amount * float(probabilities[row])


def _labels(other: PanelModel) -> ModelLabels:
    return other.model.version, other.kind, other.name
