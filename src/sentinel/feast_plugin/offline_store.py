"""Feast's offline store: features as of the past, folded from the ledger.

A view over the transaction log is computed by the same kernel as in serving. A materialized view is
read from its table, other views by Feast's own file store; both are joined row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, NoReturn

import pandas as pd
import pyarrow as pa
from feast import FeatureView, utils
from feast.infra.offline_stores.dask import (
    DaskOfflineStore,
    DaskOfflineStoreConfig,
    DaskRetrievalJob,
)
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from pydantic import field_validator

from sentinel.domain import InvalidQuery
from sentinel.feast_plugin.monitoring import MonitoredStore
from sentinel.feast_plugin.source import (
    MaterializedTable,
    TransactionLog,
    is_materialized,
    reads_the_log,
)
from sentinel.feast_plugin.workspace import find_workspace, place_of, settings_of
from sentinel.features.as_of import features_as_of, only_needed
from sentinel.features.plan.plan import Plan
from sentinel.ingest.guard import Guard
from sentinel.ledger.log import read_log
from sentinel.ledger.open import open_reader
from sentinel.retrieval.entity_frame import joined, rows_as_of, texts_of, with_features
from sentinel.retrieval.frame_values import arrow_table, time_values
from sentinel.retrieval.view_rows import newest_rows, rows_known_at
from sentinel.retrieval.view_table import ViewTable

_CLASS_PATH = "sentinel.feast_plugin.offline_store.SentinelOfflineStore"
_ROW = "__sentinel_row"

Requested = list[tuple[FeatureView, list[str]]]
"""Views and the names of the features that are asked of them."""


class SentinelOfflineStoreConfig(DaskOfflineStoreConfig):
    """Options in ``feature_store.yaml``.

    Attributes:
        type: The class path of the store.
        workspace: Folder of the deployment, relative to the file; ``SENTINEL_WORKSPACE`` in the
            environment goes before it.
        path: Folder or ``s3://`` address of materialized views; empty if they are in the workspace.
    """

    type: Literal["sentinel.feast_plugin.offline_store.SentinelOfflineStore"] = _CLASS_PATH  # type: ignore[assignment]
    workspace: str = "../.sentinel"
    path: str = ""

    @field_validator("path", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        # YAML reads `path: ${VARIABLE}`, where the variable is empty, as no value at all.
        return "" if value is None else value


class SentinelRetrievalJob(DaskRetrievalJob):
    """A retrieval that is computed when its result is asked for.

    Rows come in the order of the entity data frame, none is left out, and the index is 0, 1, ...

    Args:
        evaluate: Computes the result.
        full_feature_names, repo_path, on_demand_feature_views, metadata: See Feast.
    """

    def __init__(
        self,
        evaluate: Callable[[], pd.DataFrame],
        full_feature_names: bool,
        repo_path: str,
        on_demand_feature_views: list[OnDemandFeatureView],
        metadata: RetrievalMetadata,
    ) -> None:
        super().__init__(evaluate, full_feature_names, repo_path, on_demand_feature_views, metadata)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        frame: pd.DataFrame = self.evaluation_function()
        return frame

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return arrow_table(self._to_df_internal(timeout))


class TableRetrievalJob(SentinelRetrievalJob):
    """Rows of a materialized table, in their own types.

    Args:
        rows: Reads them.
        repo_path: See Feast.
    """

    def __init__(self, rows: Callable[[], pa.Table], repo_path: str) -> None:
        nothing = RetrievalMetadata(features=[], keys=[])
        super().__init__(lambda: rows().to_pandas(), False, repo_path, [], nothing)
        self._rows = rows

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._rows()


class SentinelOfflineStore(MonitoredStore, DaskOfflineStore):
    """The offline store that Feast loads by class path."""

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """Features of entities as of the past; see Feast's `OfflineStore`.

        A row with time t gets what a reader at t saw: the log entries received before t. Rows
        that have an ``amount_minor`` are payments and get request features and ratios of the
        amount as well, from it and from ``attributes.NAME`` columns.
        """
        ours = [view for view in feature_views if reads_the_log(view)]
        tables = [view for view in feature_views if is_materialized(view)]
        if not ours and not tables:
            return DaskOfflineStore.get_historical_features(
                config,
                feature_views,
                feature_refs,
                entity_df,
                registry,
                project,
                full_feature_names,
                filter_by_created_timestamp,
                **kwargs,
            )
        frame = _checked_frame(entity_df, [*ours, *tables])
        timestamp = infer_event_timestamp_from_entity_df(dict(frame.dtypes))
        time_values(frame[timestamp], timestamp)
        on_demand = utils._get_requested_on_demand_feature_views(feature_refs, project, registry)
        grouped, _ = utils._get_requested_feature_views_to_features_dict(
            feature_refs, feature_views, on_demand
        )
        requested: Requested = list(grouped.items())
        others = [v for v in feature_views if not reads_the_log(v) and not is_materialized(v)]
        foreign = tuple(f"{_shown_name(view)}:" for view in others)
        refs = [ref for ref in feature_refs if ref.startswith(foreign)]

        def evaluate() -> pd.DataFrame:
            result = frame
            if others:
                job = DaskOfflineStore.get_historical_features(
                    config,
                    others,
                    refs,
                    frame.assign(**{_ROW: range(len(frame))}),
                    registry,
                    project,
                    full_feature_names,
                    filter_by_created_timestamp,
                )
                result = _joined_by_row(frame, job._to_df_internal())
            for view, names in requested:
                if is_materialized(view):
                    result = _with_table_features(
                        config, result, timestamp, view, names, full_feature_names
                    )
            if not ours:
                return result
            return _with_window_features(
                config,
                result,
                timestamp,
                [r for r in requested if reads_the_log(r[0])],
                full_feature_names,
            )

        return SentinelRetrievalJob(
            evaluate,
            full_feature_names,
            str(config.repo_path),
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            RetrievalMetadata(
                features=feature_refs,
                keys=[str(name) for name in frame.columns if name != timestamp],
                min_event_timestamp=frame[timestamp].min(),
                max_event_timestamp=frame[timestamp].max(),
            ),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """The newest rows of a source, for materialization; refused for the log."""
        if isinstance(data_source, TransactionLog):
            _refuse_to_copy(data_source)
        if isinstance(data_source, MaterializedTable):
            return TableRetrievalJob(
                lambda: newest_rows(
                    _table(config, data_source.name),
                    join_key_columns,
                    feature_name_columns,
                    start_date,
                    end_date,
                ),
                str(config.repo_path),
            )
        return DaskOfflineStore.pull_latest_from_table_or_query(
            config,
            data_source,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: Any,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """The rows of a source; refused for the log."""
        if isinstance(data_source, TransactionLog):
            _refuse_to_copy(data_source)
        if isinstance(data_source, MaterializedTable):
            return TableRetrievalJob(
                lambda: newest_rows(
                    _table(config, data_source.name),
                    join_key_columns,
                    feature_name_columns,
                    start_date,
                    end_date,
                    all_rows=True,
                ),
                str(config.repo_path),
            )
        return DaskOfflineStore.pull_all_from_table_or_query(
            config,
            data_source,
            join_key_columns,
            feature_name_columns,
            timestamp_field,
            created_timestamp_column,
            start_date,
            end_date,
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig,
        feature_view: FeatureView,
        table: pa.Table,
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Append rows to a view's file; refused for views over the log."""
        if reads_the_log(feature_view) or is_materialized(feature_view):
            raise InvalidQuery(
                f"View {feature_view.name!r} is computed from the transaction log and cannot be "
                "written. Import transactions with `sentinel import`."
            )
        DaskOfflineStore.offline_write_batch(config, feature_view, table, progress)


def _refuse_to_copy(source: TransactionLog) -> NoReturn:
    raise InvalidQuery(
        f"Source {source.name!r} holds transactions, not features, and views over it are always "
        "up to date. Ask for features with get_historical_features; `sentinel export` writes the "
        "transactions as Parquet."
    )


def _checked_frame(entity_df: Any, views: Sequence[FeatureView]) -> pd.DataFrame:
    if entity_df is None:
        raise InvalidQuery(
            "Window features are asked for by entity and time. Give an entity_df with the entity "
            "columns and event_timestamp instead of start_date and end_date."
        )
    if not isinstance(entity_df, pd.DataFrame):
        raise InvalidQuery(
            "entity_df is SQL or something else than a pandas DataFrame, which this offline store "
            "does not take. Run the query first, for instance duckdb.sql(query).df()."
        )
    for view in views:
        if view.projection.join_key_map:
            raise InvalidQuery(
                f"View {view.name!r} is asked for with renamed join keys, which window features "
                "don't know. Rename the columns of entity_df instead."
            )
    return entity_df.reset_index(drop=True)


def _with_window_features(
    config: RepoConfig,
    frame: pd.DataFrame,
    timestamp: str,
    requested: Requested,
    full_feature_names: bool,
) -> pd.DataFrame:
    settings = settings_of(find_workspace(config.offline_store.workspace, config.repo_path))
    wanted = [name for _, names in requested for name in names]
    plan = only_needed(Plan.load(settings.plan_path), wanted)
    keys = dict.fromkeys(key for view in plan.views for key in view.keys)
    asked = rows_as_of(frame, timestamp, keys, plan, Guard.of(settings))
    with open_reader(settings) as ledger:
        until = ledger.last_sequence()
        values = features_as_of(
            plan, lambda: (batch for _, batch in read_log(ledger, until=until)), asked
        )
    places = {name: i for i, name in enumerate(plan.feature_names)}
    shown = [
        f"{_shown_name(view)}__{name}" if full_feature_names else name
        for view, names in requested
        for name in names
    ]
    return with_features(frame, shown, values[:, [places[name] for name in wanted]])


def _with_table_features(
    config: RepoConfig,
    frame: pd.DataFrame,
    timestamp: str,
    view: Any,
    names: list[str],
    full_feature_names: bool,
) -> pd.DataFrame:
    keys = [column.name for column in view.entity_columns]
    guard = Guard.of(settings_of(find_workspace(config.offline_store.workspace, config.repo_path)))
    asked = rows_as_of(frame, timestamp, keys, guard=guard)
    found = rows_known_at(
        _table(config, view.batch_source.name),
        keys,
        names,
        texts_of(frame, keys, guard),
        asked.time_us,
        view.ttl,
    )
    shown = [f"{_shown_name(view)}__{name}" if full_feature_names else name for name in names]
    return joined(frame, found.rename_columns(shown).to_pandas())


def _table(config: RepoConfig, name: str) -> ViewTable:
    root, settings = place_of(config)
    return ViewTable(root, name, settings)


def _shown_name(view: Any) -> str:
    return str(view.projection.name_to_use())


def _joined_by_row(frame: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """Features back in the order of the frame; Feast's file store leaves out rows without any."""
    features = features.set_index(_ROW)
    new = [name for name in features.columns if name not in frame.columns]
    return frame.join(features[new], how="left")
