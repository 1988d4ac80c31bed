"""How the drift of payments is followed, as Prometheus samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class DriftFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the follower of the log knows of drift.

    Attributes:
        alarms: Changes that are on and not silenced, of the model that decides.
        silenced: Changes that are on and silenced.
        evidence, threshold: Of all streams together, and what makes an alarm of it; 0: no test.
        tested_us: The end of the last hour that was tested, microseconds UTC; 0: none was.
        followed: Sequence of the last entry of the log that was taken in.
        lag: Entries of the log behind it.
        decisions: Decisions that this process took in, by what became of them.
        untested: Whether nothing is tested for the model that decides.
    """

    alarms: int = 0
    silenced: int = 0
    evidence: float = 0.0
    threshold: float = 0.0
    tested_us: int = 0
    followed: int = 0
    lag: int = 0
    decisions: Mapping[str, int] = {}
    untested: bool = False


class DriftMetrics(Collector):
    """Samples of drift.

    Args:
        figures: Gives them.
    """

    def __init__(self, figures: Callable[[], DriftFigures]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        now = self._figures()
        for name, text, value in (
            ("alarms", "Changes of payments that are on and not silenced.", now.alarms),
            ("silenced_changes", "Changes of payments that are on and silenced.", now.silenced),
            ("evidence", "Average evidence of all streams against no change.", now.evidence),
            ("evidence_threshold", "Evidence that raises an alarm; 0: no test.", now.threshold),
            (
                "tested_timestamp_seconds",
                "End of the last hour that was tested; 0: none was.",
                now.tested_us / 1e6,
            ),
            ("followed_sequence", "Last entry of the log that was taken in.", now.followed),
            ("lag_entries", "Entries of the log that were not taken in yet.", now.lag),
            (
                "untested",
                "1 while nothing is tested for the model that decides, for want of a reference.",
                float(now.untested),
            ),
        ):
            yield GaugeMetricFamily(f"sentinel_drift_{name}", text, value=value)
        decisions = CounterMetricFamily(
            "sentinel_drift_decisions",
            "Decisions that were followed, by what became of them.",
            labels=["result"],
        )
        for result, count in now.decisions.items():
            decisions.add_metric([result], count)
        yield decisions
