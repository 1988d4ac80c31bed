"""Prometheus metrics of the scoring process, cheap enough for the hot path.

Counts are kept per batch in plain numbers and arrays and turned into Prometheus samples only
when somebody scrapes. What each metric is stands in `sentinel.monitoring.table`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.counting import ByLabels, Histogram
from sentinel.monitoring.families import Value, families
from sentinel.monitoring.table import SCORER

LATENCY_BOUNDS_US: Final = np.array(
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 125_000, 250_000, 500_000,
     1_000_000, 2_500_000, 5_000_000]
)  # fmt: skip
REQUEST_BOUNDS_SECONDS: Final = (0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0)
AGE_BOUNDS_US: Final = (
    np.array([0.1, 0.5, 1, 5, 30, 60, 300, 3_600, 21_600, 86_400, 604_800]) * 1e6
).astype(np.int64)
LABEL_DELAY_BOUNDS_US: Final = (
    np.array([1 / 24, 0.25, 1, 2, 4, 7, 14, 21, 30, 45, 60, 90, 120, 180]) * 86_400e6
).astype(np.int64)
PROBABILITY_BOUNDS: Final = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
OUTCOME_NAMES: Final = ("approve", "review", "decline")

MOST_MODELS: Final = 32
"""Models (version, role and experiment) that have labels of their own."""
MOST_ROUTES: Final = 128
"""Routes that have durations of their own, and routes with a status that have counts."""

ModelLabels = tuple[str, str, str]
"""Version, role, experiment."""


def _by_outcome() -> npt.NDArray[np.int64]:
    return np.zeros(len(OUTCOME_NAMES), dtype=np.int64)


def _scores_and_seconds() -> npt.NDArray[np.float64]:
    return np.zeros(2)


class ScoringMetrics(Collector):
    """All metrics of one scoring process; collected by its own registry.

    Attributes:
        refresh: Called before each scrape, for what is counted only then.
        connections: Called at each scrape: how many connections there are.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.decisions: ByLabels[npt.NDArray[np.int64]] = ByLabels(MOST_MODELS, 3, _by_outcome)
        self.scored_beside: ByLabels[npt.NDArray[np.float64]] = ByLabels(
            MOST_MODELS, 3, _scores_and_seconds
        )
        self.late_events = 0
        self.expired_events = 0
        self.degraded = 0
        self.without_room = 0
        self.explored = 0
        self.eligible = 0
        self.explored_amount = 0
        self.explored_loss = 0.0
        self.new_entities = 0
        self.batches_over_quota = 0
        self.state_held_bytes = 0
        self.state_budget_bytes = 0
        self.repeats = 0
        self.conflicts = 0
        self.commits = 0
        self.commit_failures = 0
        self.rebuilds = 0
        self.experiment_failures = 0
        self.experiment_payments_uncounted = 0
        self.telemetry_failures = 0
        self.labels = {"fraud": 0, "legitimate": 0}
        self.label_delay = {
            verdict: Histogram(LABEL_DELAY_BOUNDS_US, 1e-6) for verdict in self.labels
        }
        self.voids = 0
        self.payment_answers = {"/predict": 0, "/predict/batch": 0}
        self.problems: dict[tuple[str, str], int] = {}
        self.answers: ByLabels[list[int]] = ByLabels(MOST_ROUTES, 2, lambda: [0])
        self.request_seconds: ByLabels[Histogram] = ByLabels(
            MOST_ROUTES, 1, lambda: Histogram(REQUEST_BOUNDS_SECONDS)
        )
        self.latency = Histogram(LATENCY_BOUNDS_US, 1e-6)
        self.commit_latency = Histogram(LATENCY_BOUNDS_US, 1e-6)
        self.event_age = Histogram(AGE_BOUNDS_US, 1e-6)
        self.probability = Histogram(PROBABILITY_BOUNDS)
        self.model_name = ""
        self.model_version = ""
        self.plan_hash = ""
        self.model_swaps = 0
        self.model_swap_seconds = 0.0
        self.model_problem = False
        self.registry_answered = 0.0
        self.sequence = 0
        self.indexed_through = 0
        self.entities: Mapping[str, int] = {}
        self.state_bytes: Mapping[str, int] = {}
        self.pending = 0
        self.loop_lag_seconds = 0.0
        self.repairs_pending = 0
        self.snapshot_sequence = 0
        self.started = time.time()
        self.refresh: Callable[[], None] = lambda: None
        self.connections: Callable[[], int] = lambda: 0

    def problem(self, route: str, status: int) -> None:
        """Count an answer that was an error."""
        key = (route, str(status))
        self.problems[key] = self.problems.get(key, 0) + 1

    def answer(self, route: str, status: int, seconds: float) -> None:
        """Count an answer of a route other than those of payments; errors are `problem`'s."""
        if status < 400:
            self.answers.of((route, str(status)))[0] += 1
        self.request_seconds.of((route,)).add(seconds)

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        self.refresh()
        return families(SCORER, self._values())

    def _values(self) -> dict[str, Value]:
        requests: dict[tuple[str, ...], float] = {
            (path, "200"): count for path, count in self.payment_answers.items()
        }
        for labels, (count,) in self.answers.items.items():
            requests[labels] = requests.get(labels, 0) + count
        for failed, count in self.problems.items():
            requests[failed] = count
        champion = (self.model_version, "champion", "")
        self.decisions.of(champion)  # so that it is there before the first decision
        return {
            "sentinel_requests": requests,
            "sentinel_problems": self.problems,
            "sentinel_request_seconds": self.request_seconds.items,
            "sentinel_decision_latency_seconds": self.latency,
            "sentinel_repeated_requests": self.repeats,
            "sentinel_conflicting_requests": self.conflicts,
            "sentinel_pending_requests": self.pending,
            "sentinel_open_connections": self.connections(),
            "sentinel_event_loop_lag_seconds": self.loop_lag_seconds,
            "sentinel_commits": self.commits,
            "sentinel_commit_failures": self.commit_failures,
            "sentinel_commit_latency_seconds": self.commit_latency,
            "sentinel_ledger_sequence": self.sequence,
            "sentinel_indexed_sequence": self.indexed_through,
            "sentinel_snapshot_sequence": self.snapshot_sequence,
            "sentinel_start_time_seconds": self.started,
            "sentinel_telemetry_failures": self.telemetry_failures,
            "sentinel_decisions": {
                (outcome, *labels): count
                for labels, counts in self.decisions.items.items()
                for outcome, count in zip(OUTCOME_NAMES, counts.tolist(), strict=True)
            },
            "sentinel_fraud_probability": self.probability,
            "sentinel_degraded_decisions": {
                ("no_state",): self.degraded - self.without_room,
                ("no_room",): self.without_room,
            },
            "sentinel_model_scores": {
                labels: float(found[0]) for labels, found in self.scored_beside.items.items()
            },
            "sentinel_model_scoring_seconds": {
                labels: float(found[1]) for labels, found in self.scored_beside.items.items()
            },
            "sentinel_experiment_failures": self.experiment_failures,
            "sentinel_experiment_payments_uncounted": self.experiment_payments_uncounted,
            "sentinel_control_group_eligible": self.eligible,
            "sentinel_control_group_explored": self.explored,
            "sentinel_control_group_amount_minor": self.explored_amount,
            "sentinel_control_group_expected_loss_minor": self.explored_loss,
            "sentinel_event_age_seconds": self.event_age,
            "sentinel_late_events": self.late_events,
            "sentinel_expired_events": self.expired_events,
            "sentinel_new_entities": self.new_entities,
            "sentinel_batches_over_quota": self.batches_over_quota,
            "sentinel_state_entities": {(view,): n for view, n in self.entities.items()},
            "sentinel_state_bytes": {(view,): n for view, n in self.state_bytes.items()},
            "sentinel_state_held_bytes": self.state_held_bytes,
            "sentinel_state_budget_bytes": self.state_budget_bytes,
            "sentinel_state_rebuilds": self.rebuilds,
            "sentinel_repairs_pending": self.repairs_pending,
            "sentinel_labels": {(verdict,): count for verdict, count in self.labels.items()},
            "sentinel_label_delay_seconds": {
                (verdict,): delays for verdict, delays in self.label_delay.items()
            },
            "sentinel_voids": self.voids,
            "sentinel_model": {
                "name": self.model_name,
                "version": self.model_version,
                "plan_hash": self.plan_hash,
            },
            "sentinel_model_swaps": self.model_swaps,
            "sentinel_model_swap_seconds": self.model_swap_seconds,
            "sentinel_model_problem": self.model_problem,
            "sentinel_registry_answered_time_seconds": self.registry_answered,
        }
