"""Columns of data frames as the log has them: ids, attributes, amounts and times.

Data frames come with every type that pandas knows, and with several in one column. Columns of one
type are read at once; others value by value, and what cannot be read is named by column and row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from sentinel.domain import InvalidQuery
from sentinel.features.plan.functions import AMOUNT
from sentinel.ingest.card_columns import ColumnJudge
from sentinel.ingest.cards import masked
from sentinel.ingest.columns import category_column, flat, number_column
from sentinel.ingest.guard import Guard
from sentinel.ingest.names import secret_flaw, secret_of
from sentinel.ingest.values import BadValue, Flaw, attribute_of, id_of, normal_id, plain_text
from sentinel.log.schema import ATTRIBUTE_PREFIX

_UNITS: Final = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (float("inf"), "ns"))


def id_values(column: Any, name: str, guard: Guard) -> pa.Array:
    """Ids of a column of any type as text, null where unknown.

    Args:
        column: A series.
        name: Its name, an entity.
        guard: What the deployment does with ids.

    Raises:
        InvalidQuery: Naming the row of a value that cannot be an id.
    """
    values = _one_type(column)
    if values is None:
        texts = [_read(id_of, value, name, row) for row, value in enumerate(column)]
        values = pa.array(texts, pa.string())
    ids, flaws = guard.id_column(name, [values], ColumnJudge())
    _refuse(flaws, column, name)
    return ids


def check_names(names: Iterable[Any]) -> None:
    """Refuse columns that hold security codes, PINs or tracks of cards by their names.

    Raises:
        InvalidQuery: Naming the column.
    """
    for name in names:
        secret = secret_of(str(name).removeprefix(ATTRIBUTE_PREFIX))
        if secret is not None:
            raise InvalidQuery(f"The column {str(name)!r} {secret_flaw(secret).message}.")


def attribute_values(column: Any, name: str, kind: str, guard: Guard) -> pa.Array:
    """An attribute of any type as the plan reads it: text or float64, null where unknown.

    Args:
        column: A series.
        name: Its name, ``attributes.NAME``.
        kind: "number" or "category".
        guard: What the deployment does with card numbers.

    Raises:
        InvalidQuery: Naming the row of a value that cannot be read or must not be stored.
    """
    values = _attribute_values(column, name, kind)
    _refuse(guard.attribute_flaws(name, values), column, name)
    return values


def _refuse(flaws: Iterable[tuple[Flaw, npt.NDArray[np.bool_]]], column: Any, name: str) -> None:
    for flaw, rows in flaws:
        row = int(np.flatnonzero(rows)[0])
        raise InvalidQuery(f"{_place(name, row, column.iloc[row])}: it {flaw.message}.")


def _attribute_values(column: Any, name: str, kind: str) -> pa.Array:
    form = pa.float64() if kind == "number" else pa.string()
    values = _one_type(column)
    if values is None:
        return pa.array(
            [
                _read(lambda v: attribute_of(_plain(v), kind), value, name, row)
                for row, value in enumerate(column)
            ],
            form,
        )
    if kind == "category":
        return category_column(values)
    numbers, bad = number_column(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InvalidQuery(f"{_place(name, row, column.iloc[row])}: the plan reads a number here.")
    return numbers


def amount_values(column: Any) -> pa.Array:
    """Amounts as int64, null where there is no payment.

    Raises:
        InvalidQuery: A value is no whole number.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    fractional = numbers.notna() & (numbers % 1 != 0)
    if fractional.any() or (numbers.isna() & column.notna()).any():
        raise InvalidQuery(
            f"Column {AMOUNT!r} holds something else than whole numbers. Amounts are given in "
            "minor units of the base currency, such as cents."
        )
    return pa.array(numbers.astype("Int64"), pa.int64(), from_pandas=True)


def time_values(column: Any, name: str) -> npt.NDArray[np.int64]:
    """Times as nanoseconds UTC; those without a zone are UTC.

    Raises:
        InvalidQuery: A row has no time, or numbers where times should be.
    """
    _refuse_numbers(column, name)
    try:
        times = pd.to_datetime(column, utc=True)
    except (TypeError, ValueError) as error:
        raise InvalidQuery(f"Column {name!r} holds no timestamps: {error}.") from error
    if times.isna().any():
        row = int(np.flatnonzero(times.isna())[0])
        raise InvalidQuery(f"Column {name!r} has no time in row {row}; every row needs one.")
    nanoseconds: npt.NDArray[np.int64] = times.dt.as_unit("ns").astype("int64").to_numpy()
    return nanoseconds


def _refuse_numbers(column: Any, name: str) -> None:
    """Raise `InvalidQuery` if a column of times holds numbers, of which nobody said the unit."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        rows = np.flatnonzero(column.notna())
    elif column.dtype == object or isinstance(column.dtype, pd.CategoricalDtype):
        rows = np.flatnonzero([_is_number(value) for value in column])
    else:
        return
    if len(rows) == 0:
        return
    row = int(rows[0])
    value = column.iloc[row]
    size = abs(float(value))
    unit = next(unit for bound, unit in _UNITS if size < bound)
    whole = "whole numbers" if float(value).is_integer() else "numbers"
    raise InvalidQuery(
        f"Column {name!r} holds {whole}, such as {value} in row {row}, and wants times. If they "
        f"count from 1970, say in what: pd.to_datetime(frame[{name!r}], unit={unit!r}, utc=True)."
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, str):  # "20240310" is a date, "1710064800" a count
        return value.strip().lstrip("+-").isdigit() and len(value.strip()) not in (8, 14)
    return isinstance(value, int | float | np.integer | np.floating) and value == value


def _one_type(column: Any) -> pa.Array | None:
    """A series as an Arrow array without a loss; None if it has values of several types."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        distinct = _one_type(pd.Series(column.cat.categories))
        codes = column.cat.codes.to_numpy()
        return None if distinct is None else distinct.take(pa.array(codes, mask=codes < 0))
    kind = pa.string() if column.dtype == object else None
    try:
        return flat(pa.array(column, kind, from_pandas=True))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return None


def _plain(value: Any) -> Any:
    """A value as JSON would have it."""
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | bool | int | float) else id_of(value)


def _read(read: Any, value: Any, name: str, row: int) -> Any:
    if _is_nothing(value):
        return None
    try:
        return read(value)
    except BadValue as error:
        raise InvalidQuery(f"{_place(name, row, value)}: it {error}.") from None


def _is_nothing(value: Any) -> bool:
    missing = pd.isna(value)
    return missing is True or (isinstance(missing, np.bool_) and bool(missing))


def _place(name: str, row: int, value: Any) -> str:
    return f"Column {name!r} holds {masked(repr(value))[:80]} in row {row}"


def arrow_table(frame: pd.DataFrame) -> pa.Table:
    """A data frame as Arrow; columns with values of several types become text."""
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException:
        plain = {name: _as_one_type(frame[name]) for name in frame.columns}
        return pa.Table.from_pandas(pd.DataFrame(plain), preserve_index=False)


def _as_one_type(column: Any) -> Any:
    try:
        pa.array(column, from_pandas=True)
    except pa.ArrowException:
        texts = [None if _is_nothing(value) else _shown(value) for value in column]
        return pd.Series(texts, index=column.index, dtype=object)
    return column


def _shown(value: Any) -> str:
    try:
        return normal_id(plain_text(value) or "")
    except BadValue:
        return str(value)
