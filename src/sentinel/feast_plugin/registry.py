"""What ``feast apply`` does, in this process: definitions into Feast's registry."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    OnDemandFeatureView,
    Project,
    StreamFeatureView,
)
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY
from feast.labeling.label_view import LabelView
from feast.permissions.permission import Permission
from feast.repo_contents import RepoContents
from feast.repo_operations import apply_total_with_repo_instance

from sentinel.feast_plugin.repo import repo_objects
from sentinel.feast_plugin.store import feast_on
from sentinel.settings import Settings


def register(settings: Settings) -> str:
    """Bring Feast's registry and the online store's tables in line with the definitions.

    Args:
        settings: The deployment.

    Returns:
        Where the registry is, without a password.

    Raises:
        DefinitionError: A definition is not understood; the registry stays as it was.
        ConfigurationError: Feast's settings file is missing or incomplete.
    """
    with feast_on(settings) as store, contextlib.redirect_stdout(io.StringIO()):
        contents = _contents(repo_objects(settings.definitions_dir), store.project)
        apply_total_with_repo_instance(
            store, store.project, store.registry, contents, skip_source_validation=False
        )
        return _where(store)


def _contents(objects: Iterable[object], project: str) -> RepoContents:
    """Feast objects, sorted as Feast wants them."""
    found = list(objects)

    def of(kind: type[Any] | tuple[type[Any], ...], *but: type[Any]) -> list[Any]:
        return [item for item in found if isinstance(item, kind) and not isinstance(item, but)]

    views = of(FeatureView)
    sources = [*of(DataSource)]
    for view in views:
        sources += [view.batch_source, view.stream_source]
    sources += [getattr(source, "batch_source", None) for source in sources]
    return RepoContents(
        projects=of(Project) or [Project(name=project, description="")],
        data_sources=_once(sources),
        entities=[*of(Entity), DUMMY_ENTITY],
        feature_views=of(FeatureView, StreamFeatureView),
        feature_services=of(FeatureService),
        on_demand_feature_views=of(OnDemandFeatureView),
        stream_feature_views=of(StreamFeatureView),
        label_views=of(LabelView),
        permissions=of(Permission),
    )


def _once(sources: Iterable[DataSource | None]) -> list[DataSource]:
    return list({id(source): source for source in sources if source is not None}.values())


def _where(store: FeatureStore) -> str:
    """The registry's file, or its address without user and password."""
    kept: Any = getattr(store.registry, "_registry_store", None)
    file: Path | None = getattr(kept, "_filepath", None)
    if file is not None:
        return str(file)
    scheme, mark, rest = str(store.config.registry.path).partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
