"""Feast's provider, which knows that views over the log need no materialization."""

from __future__ import annotations

from typing import Any

from feast.infra.passthrough_provider import PassthroughProvider

from sentinel.feast_plugin.source import reads_the_log


class SentinelProvider(PassthroughProvider):
    """Feast's own provider but for one thing: views over the log are always up to date.

    So ``feast materialize`` can be run over a whole repository.
    """

    def materialize_single_feature_view(
        self, config: Any, feature_view: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Copy a view's newest values to the online store, unless it reads the log."""
        if not reads_the_log(feature_view):
            super().materialize_single_feature_view(config, feature_view, *args, **kwargs)
