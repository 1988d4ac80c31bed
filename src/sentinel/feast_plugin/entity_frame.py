"""From the data frame of a Feast user to questions, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, InvalidQuery
from sentinel.feast_plugin.questions import Questions
from sentinel.features.encode import as_text
from sentinel.features.plan import AMOUNT
from sentinel.schema import ATTRIBUTE_PREFIX


def questions_of(frame: pd.DataFrame, timestamp_column: str, keys: Iterable[str]) -> Questions:
    """What an entity data frame asks.

    Args:
        frame: Entity columns, a timestamp, and for rows that are payments ``amount_minor`` and
            ``attributes.NAME`` columns.
        timestamp_column: Its timestamp; times without a zone are UTC.
        keys: The entity columns that the features need.

    Raises:
        InvalidQuery: A column is missing or holds what it cannot.
    """
    for key in keys:
        if key not in frame.columns:
            raise InvalidQuery(
                f"The entity data frame has no column {key!r}, by which a requested view is read. "
                "Add it (null where it is unknown), or leave the view's features out."
            )
    nanoseconds = _nanoseconds(frame[timestamp_column], timestamp_column)
    columns: dict[str, pa.Array] = {
        name: _texts(frame[name]) for name in ENTITY_COLUMNS if name in frame.columns
    }
    if AMOUNT in frame.columns:
        columns[AMOUNT] = _amounts(frame[AMOUNT])
    for name in map(str, frame.columns):
        if name.startswith(ATTRIBUTE_PREFIX):
            column = frame[name]
            numeric = pd.api.types.is_numeric_dtype(column.dtype)
            columns[name] = (
                pa.array(column.astype("float64"), pa.float64(), from_pandas=True)
                if numeric
                else _texts(column)
            )
    return Questions(
        # Received times are whole microseconds: `received < t` holds up to the next one above.
        sees_before_us=-(-nanoseconds // 1000),
        time_us=nanoseconds // 1000,
        columns=columns,
    )


def texts_of(frame: pd.DataFrame, names: Iterable[str]) -> pa.Table:
    """Identifier columns of a data frame as text."""
    return pa.table({name: _texts(frame[name]) for name in names})


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


def _nanoseconds(column: Any, name: str) -> npt.NDArray[np.int64]:
    try:
        times = pd.to_datetime(column, utc=True)
    except (TypeError, ValueError) as error:
        raise InvalidQuery(f"Column {name!r} holds no timestamps: {error}.") from error
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise InvalidQuery(f"Column {name!r} has no time in row {row}; every row needs one.")
    nanoseconds: npt.NDArray[np.int64] = times.dt.as_unit("ns").astype("int64").to_numpy()
    return nanoseconds


def _texts(column: Any) -> pa.Array:
    """Identifiers as text: whole numbers without a decimal point, null where unknown."""
    codes, distinct = pd.factorize(column)
    texts = pa.array([as_text(_plain(value)) for value in distinct], pa.string())
    return texts.take(pa.array(codes, mask=codes < 0))


def _plain(value: Any) -> str | float:
    return value if isinstance(value, str) else float(value)


def _amounts(column: Any) -> pa.Array:
    numbers = pd.to_numeric(column, errors="coerce")
    fractional = numbers.notna() & (numbers % 1 != 0)
    if fractional.any() or (numbers.isna() & column.notna()).any():
        raise InvalidQuery(
            f"Column {AMOUNT!r} holds something else than whole numbers. Amounts are given in "
            "minor units of the base currency, such as cents."
        )
    return pa.array(numbers.astype("Int64"), pa.int64(), from_pandas=True)
