"""How the drift of payments is followed, as Prometheus samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.families import families
from sentinel.monitoring.table import DRIFT, LABEL_DRIFT


class DriftFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the follower of the log knows of drift.

    Attributes:
        alarms: Changes that are on and not silenced, of the model that decides.
        feature_alarms: The same by feature; 0 where the changes have ended or are silenced.
        changes: Changes that are on, silenced ones included.
        largest_distance: Largest total variation of the alarms; 0: there are none.
        evidence, threshold: Of all streams together, and what makes an alarm of it; 0: no test.
        tested_us: The end of the last hour that was tested, microseconds UTC; 0: none was.
        untested: Whether nothing is tested for the model that decides.
        followed: Sequence of the last entry of the log that was taken in.
        lag: Entries of the log behind it.
        entries: Entries that this process took in, by kind.
        decisions: Decisions among them, by what became of them.
        missing: Shares of unknown values, by feature.
    """

    alarms: int = 0
    feature_alarms: Mapping[str, int] = {}
    changes: int = 0
    largest_distance: float = 0.0
    evidence: float = 0.0
    threshold: float = 0.0
    tested_us: int = 0
    untested: bool = False
    followed: int = 0
    lag: int = 0
    entries: Mapping[str, int] = {}
    decisions: Mapping[str, int] = {}
    missing: Mapping[str, float] = {}


class DriftMetrics(Collector):
    """Samples of drift. There are none before the log was looked at.

    Args:
        figures: Gives them; None before they are known, so that a monitor that has just started
            does not say that all is well.
    """

    def __init__(self, figures: Callable[[], DriftFigures | None]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        now = self._figures()
        if now is None:
            return ()
        return families(
            DRIFT,
            {
                "sentinel_drift_alarms": now.alarms,
                "sentinel_drift_feature_alarms": {
                    (feature,): count for feature, count in now.feature_alarms.items()
                },
                "sentinel_drift_changes": now.changes,
                "sentinel_drift_largest_distance": now.largest_distance,
                "sentinel_drift_evidence": now.evidence,
                "sentinel_drift_evidence_threshold": now.threshold,
                "sentinel_drift_tested_timestamp_seconds": now.tested_us / 1e6,
                "sentinel_drift_untested": now.untested,
                "sentinel_drift_followed_sequence": now.followed,
                "sentinel_drift_lag_entries": now.lag,
                "sentinel_drift_entries": {(kind,): count for kind, count in now.entries.items()},
                "sentinel_drift_decisions": {
                    (result,): count for result, count in now.decisions.items()
                },
                "sentinel_drift_missing_share": {
                    (feature,): share for feature, share in now.missing.items()
                },
            },
        )


class LabelDriftFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What labels say of change.

    Attributes:
        alarms: By stream, 1 while it has changed and nobody silenced it.
        tested_days: Days of payments that were tested.
        untested: Whether nothing can be tested yet.
        as_of_us: The end of the log that it is of, microseconds UTC.
    """

    alarms: Mapping[str, int] = {}
    tested_days: int = 0
    untested: bool = False
    as_of_us: int = 0


class LabelDriftMetrics(Collector):
    """Samples of drift of labels. There are none before labels were looked at.

    Args:
        figures: Gives them; None before they are known.
    """

    def __init__(self, figures: Callable[[], LabelDriftFigures | None]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        now = self._figures()
        if now is None:
            return ()
        return families(
            LABEL_DRIFT,
            {
                "sentinel_label_drift_alarms": {
                    (stream,): alarms for stream, alarms in now.alarms.items()
                },
                "sentinel_label_drift_tested_days": now.tested_days,
                "sentinel_label_drift_untested": now.untested,
                "sentinel_label_drift_as_of_timestamp_seconds": now.as_of_us / 1e6,
            },
        )
