"""How the watches of the monitor's process do, as Prometheus samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.families import families
from sentinel.monitoring.table import WATCHES


class WatchState(msgspec.Struct, frozen=True, kw_only=True):
    """How a watch does.

    Attributes:
        name: Of the watch.
        every_seconds: Its pause after a run.
        runs, failures: Runs that ended well, and that raised.
        running_seconds: For how long the present run has lasted; 0 between runs.
        last_seconds: How long the last run took.
        last_success_us: When a run last ended well, microseconds UTC; 0: never.
        problem: Why the last run failed; empty if it did not.
    """

    name: str
    every_seconds: float
    runs: int
    failures: int
    running_seconds: float
    last_seconds: float
    last_success_us: int
    problem: str


class WatchMetrics(Collector):
    """Samples of all watches.

    Args:
        states: Gives their states.
    """

    def __init__(self, states: Callable[[], Sequence[WatchState]]) -> None:
        self._states = states

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        states = self._states()
        return families(
            WATCHES,
            {
                "sentinel_watch_runs": {
                    (state.name, result): runs
                    for state in states
                    for result, runs in (("success", state.runs), ("failure", state.failures))
                },
                "sentinel_watch_last_success_timestamp_seconds": {
                    (state.name,): state.last_success_us / 1e6 for state in states
                },
                "sentinel_watch_pause_seconds": {
                    (state.name,): state.every_seconds for state in states
                },
                "sentinel_watch_last_run_seconds": {
                    (state.name,): state.last_seconds for state in states
                },
            },
        )
