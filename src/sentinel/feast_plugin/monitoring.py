"""Feast's monitoring of what Sentinel computes: figures of features, and where they are kept.

``feast monitor run`` asks the offline store for the distribution of each feature over a stretch of
time. Features of a view over the log are read from the vectors that ``sentinel features backfill``
writes, NaN as null and categories by their names. Those of a materialized view are read from its
table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from feast.infra.offline_stores.dask import DaskOfflineStore
from feast.monitoring.metrics_calculator import MetricsCalculator
from feast.monitoring.monitoring_utils import monitoring_table_meta, normalize_monitoring_row
from feast.repo_config import RepoConfig

from sentinel.domain import DefinitionError
from sentinel.feast_plugin.monitored_views import include_stream_views
from sentinel.feast_plugin.source import EVENT_TIMESTAMP, MaterializedTable, TransactionLog
from sentinel.feast_plugin.workspace import place_of
from sentinel.features.plan.plan import Plan
from sentinel.retrieval.monitoring_tables import MonitoringTable
from sentinel.retrieval.vector_parts import FeatureParts
from sentinel.retrieval.view_table import ViewTable

log = logging.getLogger(__name__)

_EVENT_TIME = "event_time_us"

include_stream_views()


class MonitoredStore:
    """The monitoring methods of the offline store, as Feast's `OfflineStore` describes them."""

    @staticmethod
    def compute_monitoring_metrics(
        config: RepoConfig,
        data_source: Any,
        feature_columns: list[tuple[str, str]],
        timestamp_field: str,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
        histogram_bins: int = 20,
        top_n: int = 10,
    ) -> list[dict[str, Any]]:
        """Figures of features between two times, both included."""
        calculator = MetricsCalculator(histogram_bins, top_n)
        if isinstance(data_source, TransactionLog):
            read = _vectors(config, start_date, end_date)
        elif isinstance(data_source, MaterializedTable):
            read = partial(_table_column, config, data_source.name, start_date, end_date)
        else:
            figures: list[dict[str, Any]] = DaskOfflineStore.compute_monitoring_metrics(
                config,
                data_source,
                feature_columns,
                timestamp_field,
                start_date,
                end_date,
                histogram_bins,
                top_n,
            )
            return figures
        # One column at a time: a whole log's vectors may be larger than memory.
        return [_figures(calculator, name, read(name)) for name, _ in feature_columns]

    @staticmethod
    def get_monitoring_max_timestamp(
        config: RepoConfig, data_source: Any, timestamp_field: str
    ) -> datetime | None:
        """The time of the newest row; None if there is none."""
        if isinstance(data_source, TransactionLog):
            return _newest_vector(config)
        if isinstance(data_source, MaterializedTable):
            root, settings = place_of(config)
            rows = ViewTable(root, data_source.name, settings).rows([EVENT_TIMESTAMP])
            found = None if rows is None else pc.max(rows.column(EVENT_TIMESTAMP)).as_py()
            return None if found is None else found.replace(tzinfo=UTC)
        newest: datetime | None = DaskOfflineStore.get_monitoring_max_timestamp(
            config, data_source, timestamp_field
        )
        return newest

    @staticmethod
    def ensure_monitoring_tables(config: RepoConfig) -> None:
        """Nothing to make: a table begins with its first row."""

    @staticmethod
    def save_monitoring_metrics(
        config: RepoConfig, metric_type: str, metrics: list[dict[str, Any]]
    ) -> None:
        """Keep figures, in the place of those of the same feature, day and granularity."""
        if metrics:
            _kept(config, metric_type).save(metrics)

    @staticmethod
    def query_monitoring_metrics(
        config: RepoConfig,
        project: str,
        metric_type: str,
        filters: dict[str, Any] | None = None,
        start_date: date | None = None,
        end_date: date | None = None,
    ) -> list[dict[str, Any]]:
        """Figures by rising date."""
        wanted = _wanted(filters or {}, project)
        rows = _kept(config, metric_type).rows(wanted, start_date, end_date)
        return [normalize_monitoring_row(row) for row in rows]

    @staticmethod
    def clear_monitoring_baseline(
        config: RepoConfig,
        project: str,
        feature_view_name: str | None = None,
        feature_name: str | None = None,
        data_source_type: str | None = None,
    ) -> None:
        """Have figures that were the baseline be it no longer."""
        named = {
            "feature_view_name": feature_view_name,
            "feature_name": feature_name,
            "data_source_type": data_source_type,
        }
        _kept(config, "feature").end_baseline(_wanted(named, project))


def _kept(config: RepoConfig, kind: str) -> MonitoringTable:
    root, settings = place_of(config)
    _, columns, key = monitoring_table_meta(kind)
    return MonitoringTable(root, kind, columns, key, settings)


def _wanted(filters: Mapping[str, Any], project: str) -> dict[str, Any]:
    """Filters without those that let everything through."""
    said = {**filters, "project_id": project or None}
    return {column: value for column, value in said.items() if value is not None}


def _figures(
    calculator: MetricsCalculator, name: str, column: pa.Array | pa.ChunkedArray
) -> dict[str, Any]:
    is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    compute = calculator.compute_numeric if is_number else calculator.compute_categorical
    return {**compute(column), "feature_name": name}


def _vectors(
    config: RepoConfig, start: datetime | None, end: datetime | None
) -> Callable[[str], pa.ChunkedArray]:
    """Reads a feature's values in the vectors of payments between two times."""
    plan, parts = _plan_and_parts(config)
    condition = None
    if start is not None:
        condition = pc.field(_EVENT_TIME) >= _microseconds(start)
    if end is not None:
        until = pc.field(_EVENT_TIME) <= _microseconds(end)
        condition = until if condition is None else condition & until
    categories = {feature.name: feature.categories for feature in plan.request}

    def read(name: str) -> pa.ChunkedArray:
        if name not in plan.feature_names or not parts.paths:
            return pa.chunked_array([], pa.float64())
        table = pq.read_table(parts.paths, columns=[name], filters=condition)
        values = pc.if_else(pc.is_nan(table.column(name)), None, table.column(name))
        known = categories.get(name)
        return _named(values, known) if known else values

    return read


def _named(codes: pa.ChunkedArray, known: tuple[str, ...]) -> pa.ChunkedArray:
    """Categories by their names; codes that stand for none are "other values"."""
    names = pa.array([*known, "other values"])
    numbers = codes.combine_chunks().cast(pa.int32())
    places = pc.subtract(numbers, 1)
    fits = pc.and_(pc.greater_equal(places, 0), pc.less(places, len(known)))
    places = pc.if_else(fits, places, pa.scalar(len(known), pa.int32()))
    return pa.chunked_array([names.take(places)])


def _newest_vector(config: RepoConfig) -> datetime | None:
    try:
        _, parts = _plan_and_parts(config)
    except DefinitionError as error:
        log.warning("%s", error)
        return None
    newest = [_newest_of(path) for path in parts.paths]
    known = [at for at in newest if at is not None]
    if not known:
        log.warning("There are no vectors to look at: run `sentinel features backfill` first.")
        return None
    return datetime.fromtimestamp(max(known) / 1e6, UTC)


def _newest_of(path: Any) -> int | None:
    """The latest event time of a part, by the statistics of its file; None if it is empty."""
    about = pq.read_metadata(path)
    column = about.schema.names.index(_EVENT_TIME)
    groups = [about.row_group(i).column(column) for i in range(about.num_row_groups)]
    known = [int(g.statistics.max) for g in groups if g.statistics and g.statistics.has_min_max]
    return max(known, default=None)


def _plan_and_parts(config: RepoConfig) -> tuple[Plan, FeatureParts]:
    _, settings = place_of(config)
    plan = Plan.load(settings.plan_path)
    return plan, FeatureParts.open(settings, plan.hash)


def _table_column(
    config: RepoConfig, table: str, start: datetime | None, end: datetime | None, name: str
) -> pa.ChunkedArray:
    """A column of a materialized table, its rows between two times."""
    root, settings = place_of(config)
    rows = ViewTable(root, table, settings).rows([EVENT_TIMESTAMP, name])
    if rows is None:
        return pa.chunked_array([], pa.float64())
    times = rows.column(EVENT_TIMESTAMP).cast(pa.timestamp("us")).cast(pa.int64())
    kept = np.ones(len(times), dtype=bool)
    numbers = times.to_numpy()
    if start is not None:
        kept &= numbers >= _microseconds(start)
    if end is not None:
        kept &= numbers <= _microseconds(end)
    return rows.column(name).filter(pa.array(kept))


def _microseconds(at: datetime) -> int:
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1_000_000)
