"""Who is told of groups of payments: the log and the traces, where the settings want them."""

from __future__ import annotations

from sentinel.scoring.told_groups import GroupLog, GroupTeller
from sentinel.scoring.traced_groups import GroupTraces
from sentinel.settings import Settings
from sentinel.telemetry.tracing import TraceWriter


class Tellers:
    """What a scorer tells of its groups, and where to.

    Args:
        settings: The deployment.

    Attributes:
        all: Those who are told; none by default.

    Raises:
        ConfigurationError: Traces are wanted and the extra `otel` is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        self.all: list[GroupTeller] = []
        self._traces: TraceWriter | None = None
        if settings.logs.requests > 0:
            self.all.append(GroupLog(settings.logs.requests))
        if settings.traces.endpoint:
            self._traces = TraceWriter(settings.traces.endpoint, "sentinel-serve")
            self.all.append(GroupTraces(self._traces, settings.traces.requests))

    def close(self) -> None:
        """Send what is under way. Waits."""
        if self._traces is not None:
            self._traces.close()
