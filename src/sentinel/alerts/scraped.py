"""What a scorer counts, as far as alerts ask for it, and how it grew between two looks."""

from __future__ import annotations

import bisect
import math
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

MOST_LOOKS: Final = 1_000
"""Looks that are kept to tell rates; of a longer window only the last ones count."""
_STOPPED: Final = ("review", "decline")
_LATENCY: Final = "sentinel_decision_latency_seconds_bucket"


class Scraped(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a scorer at one moment.

    Attributes:
        at_us: When they were read, microseconds UTC.
        totals: Sums over all labels, by the name of the metric.
        stopped: Decisions that sent a payment to review or declined it.
        errors: Answers with a status from 500 on.
        latencies: Decisions that took at most so many seconds, by seconds.
    """

    at_us: int
    totals: Mapping[str, float]
    stopped: float
    errors: float
    latencies: Mapping[float, float]

    def total(self, name: str) -> float:
        """Of a metric; 0 if the scorer does not have it."""
        return self.totals.get(name, 0.0)


def scraped(text: str, at_us: int) -> Scraped:
    """Read what `/metrics` says.

    Args:
        text: In Prometheus' format.
        at_us: When it was read, microseconds UTC.

    Raises:
        ValueError: It is something else.
    """
    totals: dict[str, float] = {}
    latencies: dict[float, float] = {}
    stopped = errors = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.startswith("sentinel_"):
                continue
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
            if sample.name == "sentinel_decisions_total":
                stopped += sample.value if sample.labels.get("outcome") in _STOPPED else 0.0
            elif sample.name == "sentinel_problems_total":
                errors += sample.value if sample.labels.get("status", "").startswith("5") else 0.0
            elif sample.name == _LATENCY:
                bound = float(sample.labels["le"])
                latencies[bound] = latencies.get(bound, 0.0) + sample.value
    return Scraped(at_us=at_us, totals=totals, stopped=stopped, errors=errors, latencies=latencies)


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """How a scorer's figures grew within a window.

    Attributes:
        seconds: Between the first and the last of its looks.
        decisions, stopped, degraded, errors, commit_failures: How many there were.
        latency_p99_seconds: 99 of 100 decisions took at most so long; None if there were none.
    """

    seconds: float
    decisions: float
    stopped: float
    degraded: float
    errors: float
    commit_failures: float
    latency_p99_seconds: float | None


class Looks:
    """The last looks at a scorer.

    Args:
        window_us: How long they are kept.
    """

    def __init__(self, window_us: int) -> None:
        self._window_us = window_us
        self._looks: deque[Scraped] = deque(maxlen=MOST_LOOKS)

    def add(self, look: Scraped) -> Growth | None:
        """Take a look in.

        Returns:
            How much everything grew since the look before; None if this is the first, or the
            scorer began to count anew.
        """
        before = self._looks[-1] if self._looks else None
        if before is not None and _began_anew(before, look):
            self._looks.clear()
            before = None
        self._looks.append(look)
        while self._looks[0].at_us < look.at_us - self._window_us:
            self._looks.popleft()
        return None if before is None else growth(before, look)

    @property
    def last(self) -> Scraped | None:
        """The last look; None if there was none."""
        return self._looks[-1] if self._looks else None

    def growth(self) -> Growth | None:
        """How much everything grew within the window; None if there is one look at most."""
        return growth(self._looks[0], self._looks[-1]) if len(self._looks) > 1 else None


def growth(first: Scraped, last: Scraped) -> Growth:
    """What lies between two looks."""
    rise = {
        name: last.total(f"sentinel_{name}_total") - first.total(f"sentinel_{name}_total")
        for name in ("decisions", "degraded_decisions", "commit_failures")
    }
    return Growth(
        seconds=max((last.at_us - first.at_us) / 1e6, 1e-6),
        decisions=rise["decisions"],
        stopped=last.stopped - first.stopped,
        degraded=rise["degraded_decisions"],
        errors=last.errors - first.errors,
        commit_failures=rise["commit_failures"],
        latency_p99_seconds=_quantile(
            {bound: n - first.latencies.get(bound, 0.0) for bound, n in last.latencies.items()},
            0.99,
        ),
    )


def _quantile(below: Mapping[float, float], share: float) -> float | None:
    """The bound that a share of observations lies below, interpolated as Prometheus does."""
    bounds = sorted(below)
    if not bounds or below[bounds[-1]] <= 0:
        return None
    counts = [below[bound] for bound in bounds]
    wanted = share * counts[-1]
    place = bisect.bisect_left(counts, wanted)
    if math.isinf(bounds[place]):
        return bounds[place - 1] if place else None
    low, before = (bounds[place - 1], counts[place - 1]) if place else (0.0, 0.0)
    within = counts[place] - before
    return low + (bounds[place] - low) * ((wanted - before) / within if within else 1.0)


def _began_anew(before: Scraped, after: Scraped) -> bool:
    started = "sentinel_start_time_seconds"
    name = "sentinel_decisions_total"
    return before.total(started) != after.total(started) or after.total(name) < before.total(name)
