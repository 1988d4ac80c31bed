"""The views that the online store holds copies of: what they are, and writing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.stream_feature_view import StreamFeatureView
from feast.utils import _convert_arrow_to_proto

from sentinel.domain import DefinitionError
from sentinel.feast_plugin.profiles import Profile, read_profile
from sentinel.feast_plugin.source import (
    TransactionHistory,
    is_profile,
    reads_the_log,
)
from sentinel.feast_plugin.store import feast_on
from sentinel.retrieval.current import CurrentFeatures, Row
from sentinel.retrieval.watermarks import Watermark
from sentinel.settings import Settings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS_A_WRITE: Final = 5_000


@dataclass(frozen=True)
class OnlineView:
    """One view.

    Attributes:
        name: In the registry.
        table: Name of its table in the offline store.
        profile: What a slow-changing view holds; None for other views.
        is_history: Whether it is the per-transaction view.
    """

    name: str
    table: str
    profile: Profile | None
    is_history: bool
    _view: FeatureView

    @property
    def is_ordinary(self) -> bool:
        """Whether its source is Feast's own affair."""
        return self.profile is None and not self.is_history


class OnlineViews:
    """The registry's views, and the online store that holds copies of some.

    Args:
        store: Feast's SDK.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._online: Any = store._get_provider().online_store

    @classmethod
    @contextmanager
    def open(cls, settings: Settings) -> Iterator[OnlineViews]:
        """Feast on these settings, for the length of the block."""
        with feast_on(settings) as store:
            yield cls(store)

    def views(self) -> list[OnlineView]:
        """The registered views that are materialized, by name: profiles and history first.

        Raises:
            DefinitionError: Nothing was applied to the registry yet.
        """
        views = [view for view in self._store.list_feature_views() if view.online]
        if not views:
            raise DefinitionError(
                "Feast's registry has no feature views. Run `sentinel features apply` first."
            )
        found = [
            OnlineView(
                view.name,
                str(getattr(view.batch_source, "name", "")),
                read_profile(view) if is_profile(view) else None,
                isinstance(view.batch_source, TransactionHistory),
                view,
            )
            for view in views
            if not reads_the_log(view) and not isinstance(view, StreamFeatureView)
        ]
        return sorted(found, key=lambda view: (view.is_ordinary, view.name))

    def watermark(self, view: OnlineView) -> Watermark:
        """How much of a view's table the online store holds."""
        watermark: Watermark = self._online.watermark(self._store.config, view._view)
        return watermark

    def set_watermark(self, view: OnlineView, watermark: Watermark) -> None:
        """Remember it, in the online store."""
        self._online.set_watermark(self._store.config, view._view, watermark)

    def empty(self, view: OnlineView) -> None:
        """Delete a view's rows from the online store."""
        self._online.empty(self._store.config, view._view)

    def write(self, view: OnlineView, rows: pa.Table) -> Iterator[int]:
        """Write rows to the online store, whatever it holds of them.

        Args:
            view: Whose.
            rows: Entity columns, ``event_timestamp`` and the view's features.

        Yields:
            How many of the rows are there, after each write.
        """
        keys = {column.name: column.dtype.to_value_type() for column in view._view.entity_columns}
        written = 0
        for batch in rows.combine_chunks().to_batches(_ROWS_A_WRITE):
            protos = _convert_arrow_to_proto(batch, view._view, keys)
            self._online.overwrite(self._store.config, view._view, protos)
            written += batch.num_rows
            yield written

    def read(
        self, view: OnlineView, features: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, list[Any]]:
        """What the online store holds, as Feast's SDK gives it: a list for each feature."""
        if not rows:
            return {name: [] for name in features}
        names = [f"{view.name}:{name}" for name in features]
        found: dict[str, list[Any]] = self._store.get_online_features(names, list(rows)).to_dict()
        return found

    def windows(
        self, rows: Sequence[Row], features: Sequence[str], now_us: int
    ) -> npt.NDArray[np.float32]:
        """Windows of entities as of a moment, float32 (n_rows, n_features), NaN = unknown."""
        found: CurrentFeatures = self._online.read_windows(
            self._store.config, rows, features, now_us
        )
        return found.values

    def record(self, view: OnlineView, from_us: int, to_us: int) -> None:
        """Tell the registry what is materialized, for Feast's own commands and interface."""
        self._store.registry.apply_materialization(
            view._view, self._store.project, _moment(from_us), _moment(to_us)
        )

    def materialize_ordinary(self, view: OnlineView, to_us: int, full: bool) -> int:
        """Let Feast materialize a view over a source of its own.

        Returns:
            Rows that were written.
        """
        before = self._online.rows_written
        if full or view._view.most_recent_end_time is None:
            self._store.materialize(_EPOCH, _moment(to_us), [view.name])
        else:
            self._store.materialize_incremental(_moment(to_us), [view.name])
        return int(self._online.rows_written - before)


def _moment(time_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_us)
