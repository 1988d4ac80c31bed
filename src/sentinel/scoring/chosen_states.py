"""Which kind of feature state a scoring process has."""

from __future__ import annotations

from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.embedded_states import EmbeddedStates
from sentinel.scoring.states import States
from sentinel.settings import Settings


def states_of(settings: Settings, metrics: ScoringMetrics) -> States:
    """Where state comes from, as the settings say: the one place that knows both kinds.

    Raises:
        ConfigurationError: The settings do not fit together.
    """
    if settings.state.backend == "redis":
        # Its clients of Redis and PostgreSQL are loaded where they are used.
        from sentinel.scoring.shared_states import SharedStates

        return SharedStates(settings, metrics)
    return EmbeddedStates(settings)
