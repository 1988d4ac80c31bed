"""Feast's online store: window features as they are now, everything else from SQLite.

A view over the transaction log is never written to: its values are read from the state in Redis or
of the scorer, or from snapshot and log where no scorer runs. Other views are materialized.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from feast import FeatureView, utils
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import RepoConfig

from sentinel.access.own_key import OwnKey
from sentinel.domain import ENTITY_COLUMNS, InvalidQuery
from sentinel.feast_plugin.compile import check_view
from sentinel.feast_plugin.profiles import read_profile
from sentinel.feast_plugin.source import is_materialized, is_profile, reads_the_log
from sentinel.feast_plugin.workspace import find_workspace, settings_of
from sentinel.ingest.cards import masked
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue
from sentinel.retrieval.current import CurrentFeatures, Row
from sentinel.retrieval.ledger_reader import LedgerReader
from sentinel.retrieval.redis_state_reader import RedisStateReader
from sentinel.retrieval.scorer_reader import NotRunning, ScorerReader
from sentinel.retrieval.watermarks import Watermark, decode_watermark, encode_watermark

_CLASS_PATH = "sentinel.feast_plugin.online_store.SentinelOnlineStore"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ReadRow = tuple[datetime | None, dict[str, Value] | None]


class SentinelOnlineStoreConfig(SqliteOnlineStoreConfig):
    """Options in ``feature_store.yaml``.

    Attributes:
        type: The class path of the store.
        workspace: Folder of the deployment, relative to the file; ``SENTINEL_WORKSPACE`` in the
            environment goes before it.
        path: SQLite file for views that are not computed from the log, relative to the workspace.
        now_us: CurrentFeatures as of this time, microseconds UTC, instead of now. For replays.
    """

    type: Literal["sentinel.feast_plugin.online_store.SentinelOnlineStore"] = _CLASS_PATH  # type: ignore[assignment]
    workspace: str = "../.sentinel"
    path: str = "feast_online.db"
    now_us: int | None = None


_StoreBehind: Any = OnlineStore
"""Each method of the mixed-in class may go on to the store that it is mixed into."""


class WindowReads(_StoreBehind):
    """What an online store does for views over the log; the store behind does the rest.

    Mixed into one of Feast's online stores.
    """

    _overwriting: ClassVar[dict[str, Any]] = {}
    """Options of the store's configuration that make it write without looking."""

    def __init__(self) -> None:
        super().__init__()
        self._own_reader: LedgerReader | RedisStateReader | None = None
        self._one_at_a_time = Lock()
        self.rows_written = 0  # of views that are not over the log, by this object

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        """Feature values of some entities; see Feast's `OnlineStore.online_read`."""
        if not reads_the_log(table):
            rows: list[ReadRow] = super().online_read(
                config, table, entity_keys, requested_features
            )
            return rows
        columns = {column.name for column in table.entity_columns}
        features = requested_features or [
            field.name for field in table.features if field.name not in columns
        ]
        guard = Guard.of(settings_of(_workspace(config)))
        keys = [
            _row(zip(entity.join_keys, entity.entity_values, strict=True), guard)
            for entity in entity_keys
        ]
        answer = self.read_windows(config, keys, features)
        moment = _moment(answer)
        return [
            (moment, dict(zip(features, _protos(values), strict=True))) for values in answer.values
        ]

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, list[Value]],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """Read all views over the log at once, so that their values are of one moment."""
        together = [
            (table, names)
            for table, names in grouped_refs
            if reads_the_log(table) and not table.projection.join_key_map
        ]
        guard = Guard.of(settings_of(_workspace(config)))
        rows = _rows(together, join_key_values, entity_name_to_join_key_map, guard)
        wanted = list(dict.fromkeys(name for _, names in together for name in names))
        answer = self.read_windows(config, rows, wanted) if together else None
        for table, names in grouped_refs:
            if answer is None or not any(table is ours for ours, _ in together):
                super()._read_features_per_fv(
                    config,
                    [(table, names)],
                    _spelled(join_key_values, guard) if is_materialized(table) else join_key_values,
                    entity_name_to_join_key_map,
                    online_features_response,
                    full_feature_names,
                    include_feature_view_version_metadata,
                )
                continue
            columns = answer.values[:, [wanted.index(name) for name in names]]
            moment = _moment(answer)
            utils._populate_response_from_feature_data(
                names,
                [(moment, dict(zip(names, _protos(row), strict=True))) for row in columns],
                [[i] for i in range(len(rows))],
                online_features_response,
                full_feature_names,
                table,
                len(rows),
                include_feature_view_version_metadata,
            )

    def read_windows(
        self,
        config: RepoConfig,
        rows: Sequence[Row],
        features: Sequence[str],
        now_us: int | None = None,
    ) -> CurrentFeatures:
        """Features of views over the log, all of one moment.

        Args:
            config: Feast's.
            rows: The entities.
            features: Names of features.
            now_us: The moment; None for what the configuration says, else now.
        """
        workspace = _workspace(config)
        now_us = config.online_store.now_us if now_us is None else now_us
        settings = settings_of(workspace)
        shared = settings.state.backend == "redis"
        scorer = None if shared else ScorerReader.find(workspace, OwnKey(settings))
        if scorer is not None:
            try:
                answer = scorer.read(rows, features, now_us)
            except NotRunning:
                pass
            else:
                with self._one_at_a_time:
                    self._forget_reader()
                return answer
        with self._one_at_a_time:
            if self._own_reader is not None and not self._own_reader.is_current:
                self._forget_reader()
            if self._own_reader is None:
                self._own_reader = RedisStateReader(settings) if shared else LedgerReader(settings)
            return self._own_reader.read(rows, features, now_us)

    def release(self) -> None:
        """Close connections; Feast's own `close` is for its server, and asynchronous."""
        with self._one_at_a_time:
            self._forget_reader()

    def _forget_reader(self) -> None:
        if self._own_reader is not None:
            self._own_reader.close()
            self._own_reader = None

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows of a view; views over the log are refused."""
        if reads_the_log(table):
            raise InvalidQuery(
                f"View {table.name!r} is computed from the transaction log and cannot be written. "
                "Send transactions to POST /predict, or import them with `sentinel import`."
            )
        super().online_write_batch(config, table, data, progress)
        self.rows_written += len(data)

    def overwrite(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]],
    ) -> None:
        """Write rows even where the store has rows of the same or a later time."""
        always = config.model_copy()
        always._online_store = config.online_store.model_copy(update=self._overwriting)
        self.online_write_batch(always, table, data, None)

    async def get_online_features_async(self, *args: Any, **kwargs: Any) -> Any:
        """In a thread: reading the windows has no other way."""
        return await asyncio.to_thread(self.get_online_features, *args, **kwargs)

    async def online_write_batch_async(self, *args: Any, **kwargs: Any) -> None:
        """In a thread, by the same rules."""
        await asyncio.to_thread(self.online_write_batch, *args, **kwargs)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """What ``feast apply`` calls: check views over the log, make tables for the others."""
        for table in tables_to_keep:
            if reads_the_log(table):
                check_view(table)
            elif is_profile(table):
                read_profile(table)
        super().update(
            config,
            [table for table in tables_to_delete if not reads_the_log(table)],
            [table for table in tables_to_keep if not reads_the_log(table)],
            entities_to_delete,
            entities_to_keep,
            partial,
        )

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Any]
    ) -> None:
        """Remove what `update` made. The ledger and the state stay."""
        super().teardown(config, [table for table in tables if not reads_the_log(table)], entities)


class SentinelOnlineStore(WindowReads, SqliteOnlineStore):
    """The online store of one machine; Feast loads it by class path."""

    @staticmethod
    def _get_db_path(config: RepoConfig) -> str:
        path = _workspace(config) / config.online_store.path
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    def release(self) -> None:
        """Close connections; Feast's own `close` is for its server, and asynchronous."""
        super().release()
        if self._conn is not None:
            self._conn.close()
            self._conn = None

    def watermark(self, config: RepoConfig, view: FeatureView) -> Watermark:
        """How much of a view's table is in the file."""
        row = (
            self._with_watermarks(config)
            .execute("SELECT value FROM sentinel_watermarks WHERE view = ?", (view.name,))
            .fetchone()
        )
        return decode_watermark(None if row is None else row[0])

    def set_watermark(self, config: RepoConfig, view: FeatureView, watermark: Watermark) -> None:
        """Remember it."""
        connection = self._with_watermarks(config)
        with connection:
            connection.execute(
                "INSERT OR REPLACE INTO sentinel_watermarks VALUES (?, ?)",
                (view.name, encode_watermark(watermark)),
            )

    def empty(self, config: RepoConfig, view: FeatureView) -> None:
        """Delete a view's rows."""
        super().teardown(config, [view], [])
        self.update(config, [], [view], [], [], partial=True)

    def _with_watermarks(self, config: RepoConfig) -> sqlite3.Connection:
        connection: sqlite3.Connection = self._get_conn(config)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS sentinel_watermarks (view TEXT PRIMARY KEY, value BLOB)"
        )
        return connection


def _workspace(config: RepoConfig) -> Path:
    return find_workspace(config.online_store.workspace, config.repo_path)


def _rows(
    tables: Sequence[tuple[FeatureView, list[str]]],
    values: Mapping[str, Sequence[Value]],
    join_keys: Mapping[str, str],
    guard: Guard,
) -> list[Row]:
    """One row for each row of the request, with the keys of all views."""
    needed: dict[str, str] = {}
    for table, _ in tables:
        for entity in table.entities:
            needed.setdefault(join_keys[entity], table.name)
    needed.pop(DUMMY_ENTITY_ID, None)
    for key, view in needed.items():
        if key not in values:
            raise InvalidQuery(
                f"View {view!r} is read by {key!r}: give it in every entity row, as None where "
                "it is unknown, or leave the view's features out."
            )
    if not needed:
        return [{} for _ in next(iter(values.values()), ())]
    columns = [values[key] for key in needed]
    return [
        _row(zip(needed, row, strict=True), guard, at)
        for at, row in enumerate(zip(*columns, strict=True))
    ]


def _spelled(values: Mapping[str, Sequence[Value]], guard: Guard) -> dict[str, list[Value]]:
    """The ids of entity rows as the log, and so the tables made of it, have them."""
    columns = {key: list(column) for key, column in values.items()}
    for key in columns.keys() & {"transaction_id", *ENTITY_COLUMNS}:
        for at, value in enumerate(columns[key]):
            text = _row([(key, value)], guard, at).get(key)
            if text is not None:
                columns[key][at] = Value(string_val=text)
    return columns


def _row(keys: Any, guard: Guard, at: int | None = None) -> Row:
    """The ids of an entity row, without those that are unknown (null, NaN, blank)."""
    row = {}
    for key, value in keys:
        kind = value.WhichOneof("val")
        if kind is None or key == DUMMY_ENTITY_ID:
            continue
        try:
            text = guard.id(str(key), getattr(value, kind))
        except BadValue as error:
            where = "" if at is None else f" in row {at}"
            given = masked(repr(getattr(value, kind)))[:80]
            raise InvalidQuery(f"Entity {key!r} is {given}{where}: it {error}.") from None
        if text is not None:
            row[str(key)] = text
    return row


def _protos(values: npt.NDArray[np.float32]) -> list[Value]:
    return [Value() if value != value else Value(float_val=value) for value in values.tolist()]


def _moment(answer: CurrentFeatures) -> datetime:
    return _EPOCH + timedelta(microseconds=answer.now_us)
