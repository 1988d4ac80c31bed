"""Prometheus metrics of the scoring process, cheap enough for the hot path.

Counts are kept per batch in plain numbers and arrays and turned into Prometheus samples only
when somebody scrapes.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

LATENCY_BOUNDS_US: Final = np.array(
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 125_000, 250_000, 500_000,
     1_000_000, 2_500_000, 5_000_000]
)  # fmt: skip
PROBABILITY_BOUNDS: Final = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
OUTCOME_NAMES: Final = ("approve", "review", "decline")


class Histogram:
    """Counts of observations between bounds."""

    def __init__(self, bounds: npt.NDArray[np.generic]) -> None:
        self.bounds = bounds
        self._bounds: list[float] = bounds.tolist()
        self.counts: npt.NDArray[np.int64] = np.zeros(len(bounds) + 1, dtype=np.int64)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Add one observation, in the unit of the bounds."""
        self.counts[bisect.bisect_left(self._bounds, value)] += 1
        self.total += value

    def observe(self, values: npt.NDArray[np.generic]) -> None:
        """Add observations (n,), in the unit of the bounds."""
        places = np.searchsorted(self.bounds, values)
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.total += float(values.sum())

    def samples(self, unit: float) -> tuple[list[tuple[str, float]], float]:
        """Cumulative buckets and the sum, with bounds and sum multiplied by ``unit``."""
        cumulative = np.cumsum(self.counts)
        labels = [repr(float(bound) * unit) for bound in self.bounds] + ["+Inf"]
        return (
            [(label, float(c)) for label, c in zip(labels, cumulative, strict=True)],
            self.total * unit,
        )


class ScoringMetrics(Collector):
    """All metrics of one scoring process; collected by its own registry.

    Attributes:
        refresh: Called before each scrape, for what is counted only then.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.decisions = np.zeros(len(OUTCOME_NAMES), dtype=np.int64)
        self.late_events = 0
        self.expired_events = 0
        self.degraded = 0
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
        self.labels = {"fraud": 0, "legitimate": 0}
        self.voids = 0
        self.problems: dict[tuple[str, str], int] = {}
        self.latency = Histogram(LATENCY_BOUNDS_US)
        self.commit_latency = Histogram(LATENCY_BOUNDS_US)
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
        self.entities = 0
        self.state_bytes = 0
        self.pending = 0
        self.repairs_pending = 0
        self.snapshot_sequence = 0
        self.started = time.time()
        self.refresh: Callable[[], None] = lambda: None

    def problem(self, route: str, status: int) -> None:
        """Count an answer that was an error."""
        key = (route, str(status))
        self.problems[key] = self.problems.get(key, 0) + 1

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        self.refresh()
        decisions = CounterMetricFamily(
            "sentinel_decisions", "Decisions made, by outcome.", labels=["outcome"]
        )
        for name, count in zip(OUTCOME_NAMES, self.decisions.tolist(), strict=True):
            decisions.add_metric([name], count)
        yield decisions
        labels = CounterMetricFamily(
            "sentinel_labels", "Labels recorded, by verdict.", labels=["verdict"]
        )
        for verdict, count in self.labels.items():
            labels.add_metric([verdict], count)
        yield labels
        problems = CounterMetricFamily(
            "sentinel_problems", "Error answers, by route and status.", labels=["route", "status"]
        )
        for (route, status), count in self.problems.items():
            problems.add_metric([route, status], count)
        yield problems
        for name, text, value in (
            ("late_events", "Transactions older than the newest of an entity.", self.late_events),
            ("expired_events", "Transactions too old to change any window.", self.expired_events),
            (
                "degraded_decisions",
                "Decisions made without feature state, or a part of it.",
                self.degraded,
            ),
            ("new_entities", "Records of feature state made for new entities.", self.new_entities),
            (
                "batches_over_quota",
                "Batches refused because they would add more entities than their sender may.",
                self.batches_over_quota,
            ),
            ("voids", "Payments declared void. Decisions count them as before.", self.voids),
            ("repeated_requests", "Requests answered from the record.", self.repeats),
            ("conflicting_requests", "Requests whose id stands for another body.", self.conflicts),
            ("commits", "Durable ledger commits.", self.commits),
            ("commit_failures", "Ledger commits that failed.", self.commit_failures),
            ("state_rebuilds", "Rebuilds of state from the ledger.", self.rebuilds),
            ("model_swaps", "Models taken over from the registry.", self.model_swaps),
            (
                "experiment_failures",
                "Times that a model beside the champion raised, and was asked no more.",
                self.experiment_failures,
            ),
            (
                "experiment_payments_uncounted",
                "Payments of experiments that guardrails left out, because too many waited.",
                self.experiment_payments_uncounted,
            ),
        ):
            yield CounterMetricFamily(f"sentinel_{name}", text, value=value)
        for name, text, histogram, unit in (
            ("decision_latency_seconds", "Arrival to durable answer.", self.latency, 1e-6),
            ("commit_latency_seconds", "Time of a ledger commit.", self.commit_latency, 1e-6),
            ("fraud_probability", "Calibrated probabilities given.", self.probability, 1.0),
        ):
            buckets, total = histogram.samples(unit)
            yield HistogramMetricFamily(f"sentinel_{name}", text, buckets=buckets, sum_value=total)
        for name, text, level in (
            ("ledger_sequence", "Sequence of the last durable log entry.", self.sequence),
            ("indexed_sequence", "Last entry in the queryable tables.", self.indexed_through),
            ("snapshot_sequence", "Last entry in the newest snapshot.", self.snapshot_sequence),
            ("state_entities", "Entity records in memory.", self.entities),
            ("state_bytes", "Bytes of entity records in memory.", self.state_bytes),
            (
                "state_held_bytes",
                "Memory that feature state takes, keys included, wherever it is kept.",
                self.state_held_bytes,
            ),
            (
                "state_budget_bytes",
                "Memory that it may take; at this size no new records are made. 0: no bound.",
                self.state_budget_bytes,
            ),
            ("repairs_pending", "Records of shared state to be rebuilt.", self.repairs_pending),
            ("pending_requests", "Requests waiting for their turn.", self.pending),
            (
                "model_swap_seconds",
                "How long the last change of models took.",
                self.model_swap_seconds,
            ),
            ("model_problem", "1 while the registry's champion cannot serve.", self.model_problem),
            (
                "registry_answered_time_seconds",
                "Unix time of its last answer.",
                self.registry_answered,
            ),
            ("start_time_seconds", "Unix time of the start.", self.started),
        ):
            yield GaugeMetricFamily(f"sentinel_{name}", text, value=level)
        yield InfoMetricFamily(
            "sentinel_model",
            "The model in charge.",
            value={
                "name": self.model_name,
                "version": self.model_version,
                "plan_hash": self.plan_hash,
            },
        )
