"""From the data frame of a Feast user to rows as of the past, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, InvalidQuery
from sentinel.features.as_of import RowsAsOf
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.plan import Plan
from sentinel.ingest.guard import Guard
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.retrieval.frame_values import (
    amount_values,
    attribute_values,
    check_names,
    id_values,
    time_values,
)


def rows_as_of(
    frame: pd.DataFrame,
    timestamp_column: str,
    keys: Iterable[str],
    plan: Plan | None = None,
    guard: Guard | None = None,
) -> RowsAsOf:
    """What an entity data frame asks.

    Args:
        frame: Entity columns, a timestamp, and for rows that are payments ``amount_minor`` and
            ``attributes.NAME`` columns.
        timestamp_column: Its timestamp; times without a zone are UTC.
        keys: The entity columns that the features need.
        plan: Says how attributes are read; None if no feature reads any.
        guard: What the deployment does with ids; None if ids only take their normal form.

    Raises:
        InvalidQuery: A column is missing or holds what it cannot.
    """
    check_names(frame.columns)
    for key in keys:
        if key not in frame.columns:
            raise InvalidQuery(
                f"The entity data frame has no column {key!r}, by which a requested view is read. "
                "Add it (null where it is unknown), or leave the view's features out."
            )
    guard = guard or Guard()
    nanoseconds = time_values(frame[timestamp_column], timestamp_column)
    columns: dict[str, pa.Array] = {
        name: id_values(frame[name], name, guard)
        for name in ENTITY_COLUMNS
        if name in frame.columns
    }
    if AMOUNT in frame.columns:
        columns[AMOUNT] = amount_values(frame[AMOUNT])
    for name, kind in _attribute_kinds(plan).items():
        field = ATTRIBUTE_PREFIX + name
        if field in frame.columns:
            secret = field in guard.fields
            values = attribute_values(frame[field], field, "category" if secret else kind, guard)
            columns[field] = guard.tokens_of(values) if secret else values
    return RowsAsOf(
        # Received times are whole microseconds: `received < t` holds up to the next one above.
        sees_before_us=-(-nanoseconds // 1000),
        time_us=nanoseconds // 1000,
        columns=columns,
    )


def texts_of(frame: pd.DataFrame, names: Iterable[str], guard: Guard) -> pa.Table:
    """Identifier columns of a data frame as text."""
    return pa.table({name: id_values(frame[name], name, guard) for name in names})


def _attribute_kinds(plan: Plan | None) -> dict[str, str]:
    if plan is None:
        return {}
    return dict.fromkeys(sorted(plan.category_columns), "category") | dict.fromkeys(
        sorted(plan.number_columns), "number"
    )


def with_features(
    frame: pd.DataFrame, names: Sequence[str], values: npt.NDArray[np.float32]
) -> pd.DataFrame:
    """The data frame with features as further columns.

    Raises:
        InvalidQuery: A feature has the name of a column that is there already.
    """
    features = pd.DataFrame(values, columns=list(names), index=frame.index)
    return joined(frame, features)


def joined(frame: pd.DataFrame, features: pd.DataFrame) -> pd.DataFrame:
    """The data frame with the columns of another one with the same rows.

    Raises:
        InvalidQuery: A feature has the name of a column that is there already.
    """
    taken = [str(name) for name in features.columns if name in frame.columns]
    if taken:
        raise InvalidQuery(
            f"The entity data frame has a column {taken[0]!r} already, which is also the name of a "
            f"requested feature. Rename it (attributes are named {ATTRIBUTE_PREFIX}NAME), or ask "
            "with full_feature_names=True."
        )
    return pd.concat([frame, features], axis=1)
