"""How the follower of the registry does, as Prometheus samples."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.counting import Histogram
from sentinel.monitoring.families import families
from sentinel.monitoring.metrics import REQUEST_BOUNDS_SECONDS
from sentinel.monitoring.table import FOLLOWER

STUCK_SECONDS: Final = 900.0
"""A look that takes longer, with what it fetches, is told as stuck by `/healthz`."""


class FollowerMetrics(Collector):
    """Counts looks in the follower's thread; other threads show them."""

    def __init__(self) -> None:
        self._looks = {"success": 0, "failure": 0}
        self._seconds = Histogram(REQUEST_BOUNDS_SECONDS)
        self._last_success = 0.0
        self._missing = 0
        self._in_step = time.monotonic()
        self._behind = True
        self._last_look = time.monotonic()

    def looked(self, seconds: float, *, well: bool, missing: int | None) -> None:
        """Count a look.

        Args:
            seconds: What it took.
            well: Whether it went through.
            missing: Versions that are wanted and not here; None if nobody knows.
        """
        self._last_look = now = time.monotonic()
        self._looks["success" if well else "failure"] += 1
        self._seconds.add(seconds)
        if well:
            self._last_success = time.time()
        if missing is not None:
            self._missing = missing
        self._behind = missing != 0
        if not self._behind:
            self._in_step = now

    @property
    def is_stuck(self) -> bool:
        """Whether the present look takes too long."""
        return time.monotonic() - self._last_look > STUCK_SECONDS

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        return families(
            FOLLOWER,
            {
                "sentinel_follower_looks": {(how,): n for how, n in self._looks.items()},
                "sentinel_follower_look_seconds": self._seconds,
                "sentinel_follower_last_success_timestamp_seconds": self._last_success,
                "sentinel_follower_lag_versions": self._missing,
                "sentinel_follower_lag_seconds": (
                    time.monotonic() - self._in_step if self._behind else 0.0
                ),
            },
        )
