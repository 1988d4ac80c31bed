"""Views of entities in Feast's monitoring, which knows of ``FeatureView`` alone.

In Feast 0.67, ``feast monitor run`` and the monitoring routes of its REST list and look up feature
views without stream feature views, and windows over the log are of that kind. Both get a view of
the registry that has them all. Where Feast does so itself, nothing here is needed any more; a test
says when that is.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from feast.errors import FeatureViewNotFoundException
from feast.monitoring.monitoring_service import MonitoringService

_COMMAND_LINE: Final = "feast.cli.cli"
_DONE: Final = "_sees_stream_views"


class _AllViews:
    """A registry of which stream feature views are feature views, too.

    Args:
        registry: The registry of a feature store.
    """

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def list_feature_views(self, *args: Any, **kwargs: Any) -> list[Any]:
        """All views that have a batch source."""
        ordinary = self._registry.list_feature_views(*args, **kwargs)
        return [*ordinary, *self._registry.list_stream_feature_views(*args, **kwargs)]

    def get_feature_view(self, *args: Any, **kwargs: Any) -> Any:
        """A view by its name, of either kind."""
        try:
            return self._registry.get_feature_view(*args, **kwargs)
        except FeatureViewNotFoundException:
            return self._registry.get_stream_feature_view(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry, name)


class _Store:
    """A feature store with such a registry."""

    def __init__(self, store: Any) -> None:
        self._store = store

    @property
    def registry(self) -> _AllViews:
        return _AllViews(self._store.registry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def include_stream_views() -> None:
    """Have Feast's monitoring see all views, in this process."""
    if not hasattr(MonitoringService, _DONE):
        service: Any = MonitoringService
        begin = service.__init__

        def begin_with_all(self: Any, store: Any) -> None:
            begin(self, _Store(store))

        service.__init__ = begin_with_all
        setattr(service, _DONE, True)
    if _COMMAND_LINE in sys.modules:  # Feast's own program, which may serve its REST
        _include_in_rest()


def _include_in_rest() -> None:
    from feast.api.registry.rest import monitoring

    if hasattr(monitoring, _DONE):
        return
    for name in ("assert_feature_view", "permitted_feature_view_names"):
        setattr(monitoring, name, _with_all(getattr(monitoring, name)))
    setattr(monitoring, _DONE, True)


def _with_all(call: Any) -> Any:
    def called(store: Any, *args: Any) -> Any:
        return call(_Store(store), *args)

    return called
