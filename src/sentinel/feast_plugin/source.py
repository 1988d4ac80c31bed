"""Feast data sources over the ledger: the transaction log, and tables computed from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from feast.data_source import DataSource
from feast.feature_view import FeatureView
from feast.protos.feast.core.DataSource_pb2 import DataSource as DataSourceProto
from feast.repo_config import RepoConfig
from feast.type_map import pa_to_feast_value_type
from feast.value_type import ValueType

from sentinel.domain import ENTITY_COLUMNS
from sentinel.features.plan.functions import AMOUNT

EVENT_TIMESTAMP: Final = "event_timestamp"
"""Feast's name of the event time, in definitions and in entity data frames."""


class SentinelSource(DataSource):
    """A data source that this plug-in brings. Feast makes it from the registry by class path.

    Args:
        name: Name of the source in the registry.
        description: For the registry and its user interface.
    """

    def __init__(self, name: str, *, description: str = "") -> None:
        super().__init__(name=name, timestamp_field=EVENT_TIMESTAMP, description=description)

    def __hash__(self) -> int:
        return hash((type(self), self.name))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, SentinelSource)
            and type(self) is type(other)
            and self.to_proto() == other.to_proto()
        )

    def source_type(self) -> Any:
        """Feast's mark of a source that a plug-in brings."""
        return DataSourceProto.CUSTOM_SOURCE

    @classmethod
    def from_proto(cls, data_source: DataSourceProto) -> SentinelSource:
        """Read from the registry."""
        return cls(data_source.name, description=data_source.description)

    def _to_proto_impl(self) -> DataSourceProto:
        return DataSourceProto(
            name=self.name,
            type=DataSourceProto.CUSTOM_SOURCE,
            data_source_class_type=f"{type(self).__module__}.{type(self).__qualname__}",
            custom_options=DataSourceProto.CustomSourceOptions(configuration=b"{}"),
            timestamp_field=self.timestamp_field,
            description=self.description,
        )

    def validate(self, config: RepoConfig) -> None:
        """Nothing to check: what it reads makes itself when it is first needed."""

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], ValueType]:
        """Types are Arrow's."""
        convert: Callable[[str], ValueType] = pa_to_feast_value_type
        return convert

    def get_table_query_string(self) -> str:
        """How Feast names the source in messages."""
        return str(self.name)


class TransactionLog(SentinelSource):
    """Everything that Sentinel's ledger holds, in log order.

    A feature view that reads from it is computed by Sentinel's window engine.

    Args:
        name: Name of the source in the registry.
        description: For the registry and its user interface.
    """

    def __init__(self, name: str = "transaction_log", *, description: str = "") -> None:
        super().__init__(name, description=description)

    def get_table_column_names_and_types(
        self,
        config: RepoConfig,
    ) -> Iterable[tuple[str, str]]:
        """The columns that every transaction has."""
        return [
            ("transaction_id", "string"),
            (EVENT_TIMESTAMP, "timestamp[us]"),
            (AMOUNT, "int64"),
            *((name, "string") for name in ENTITY_COLUMNS),
        ]


class MaterializedTable(SentinelSource):
    """Parquet in the offline store that ``sentinel features materialize`` computes from the log.

    One feature view reads from it and says what it holds.
    """

    def get_table_column_names_and_types(
        self,
        config: RepoConfig,
    ) -> Iterable[tuple[str, str]]:
        """Only what every table has: the view that reads it names its columns itself."""
        return [(EVENT_TIMESTAMP, "timestamp[us]")]


class EntityProfiles(MaterializedTable):
    """What is known of each entity from all of its transactions, as of each materialization.

    The fields of its view say what, see `sentinel.feast_plugin.profiles`.
    """


class TransactionHistory(MaterializedTable):
    """Each transaction of the log with its vector, and what the champion said of it."""


def reads_the_log(view: object) -> bool:
    """Whether a feature view is computed by Sentinel's window engine."""
    return isinstance(view, FeatureView) and isinstance(view.batch_source, TransactionLog)


def is_materialized(view: object) -> bool:
    """Whether ``sentinel features materialize`` computes a feature view's table."""
    return isinstance(view, FeatureView) and isinstance(view.batch_source, MaterializedTable)


def is_profile(view: object) -> bool:
    """Whether a feature view is a slow-changing one over `EntityProfiles`."""
    return isinstance(view, FeatureView) and isinstance(view.batch_source, EntityProfiles)
