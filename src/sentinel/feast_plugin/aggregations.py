"""From one Feast ``Aggregation`` and its tags to one aggregate of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from feast.aggregation import Aggregation

from sentinel.domain import ENTITY_COLUMNS, DefinitionError
from sentinel.feast_plugin.source import EVENT_TIMESTAMP
from sentinel.feast_plugin.tags import FieldTags, did_you_mean
from sentinel.features.plan.durations import microseconds
from sentinel.features.plan.functions import AMOUNT, FUNCTIONS, AggregateFunction, Takes
from sentinel.features.plan.parts import Aggregate
from sentinel.features.plan.plan import default_hop_us

DEFAULT_CAPACITY: Final = 16
IS_FRAUD: Final = "is_fraud"

COLUMNS: Final[Mapping[Takes, str]] = {
    Takes.PAYMENTS: "transaction_id",
    Takes.AMOUNTS: AMOUNT,
    Takes.TIMES: EVENT_TIMESTAMP,
    Takes.LABELS: IS_FRAUD,
}
"""The column of a Feast ``Aggregation`` by what is taken; values are of a column of one's own."""

_NEEDS_NO_COLUMN: Final = frozenset({Takes.PAYMENTS, Takes.TIMES})
_NAMES: Final = tuple(dict.fromkeys(row.feast for row in FUNCTIONS.values()))


def compile_aggregation(aggregation: Aggregation, tags: FieldTags, where: str) -> Aggregate:
    """Compile one aggregation.

    Args:
        aggregation: Feast's, with a name.
        tags: Those of the field of the same name.
        where: Names the feature in errors.

    Raises:
        DefinitionError: Function, column, window or tags are not possible.
    """
    row = _row(aggregation.function, aggregation.column, where)
    if aggregation.time_window is None:
        raise DefinitionError(
            f"{where} has no time_window. Everything slides: name one, such as timedelta(days=30)."
        )
    window_us = microseconds(aggregation.time_window)
    slide = aggregation.slide_interval
    # Feast fills slide_interval with time_window where none was given.
    if slide is None or slide == aggregation.time_window:
        hop_us = default_hop_us(window_us)
    else:
        hop_us = microseconds(slide)
    if tags.capacity is not None and not row.capacity:
        with_one = " and ".join(other.feast for other in FUNCTIONS.values() if other.capacity)
        raise DefinitionError(f"{where} has a capacity, which only {with_one} has.")
    return Aggregate(
        name=aggregation.name,
        function=row.name,
        window_us=window_us,
        hop_us=hop_us,
        column=aggregation.column if row.takes in (Takes.AMOUNTS, Takes.VALUES) else "",
        offset_us=tags.offset_us,
        filters=tags.filters,
        capacity=(tags.capacity or DEFAULT_CAPACITY) if row.capacity else 0,
        words=tags.words,
    )


def _row(function: str, column: str, where: str) -> AggregateFunction:
    """The row of the table that a Feast function and its column name."""
    rows = [row for row in FUNCTIONS.values() if row.feast == function]
    for row in rows:
        if _fits(column, row.takes):
            return row
    if not rows:
        raise DefinitionError(
            f"{where} has the function {function!r}. {did_you_mean(function, _NAMES)}"
        )
    takes = rows[0].takes
    if takes is Takes.VALUES:
        raise DefinitionError(
            f"{where} is the {function} of {column!r}; {function} takes the values of an "
            f"identifier ({', '.join(ENTITY_COLUMNS)}) or of an attribute."
        )
    if takes in _NEEDS_NO_COLUMN:
        raise DefinitionError(
            f"{where} takes {takes.value}, so its column is {COLUMNS[takes]!r}, not {column!r}. "
            "To count only some transactions use tags=windowed(where=[...])."
        )
    if column == IS_FRAUD:
        of_labels = [row for row in FUNCTIONS.values() if row.takes is Takes.LABELS]
        known = " and ".join(f"a {row.feast} ({row.noun})" for row in of_labels)
        raise DefinitionError(f"{where} is the {function} of {IS_FRAUD}; labels have {known}.")
    columns = [COLUMNS[row.takes] for row in rows]
    raise DefinitionError(
        f"{where} is the {function} of {column!r}; {function} works on {' and '.join(columns)}. "
        f"{did_you_mean(column, columns)}"
    )


def _fits(column: str, takes: Takes) -> bool:
    """Whether a Feast column may stand for what is taken."""
    if takes is Takes.VALUES:
        return bool(column) and column not in (IS_FRAUD, AMOUNT, EVENT_TIMESTAMP)
    return column == COLUMNS[takes] or (not column and takes in _NEEDS_NO_COLUMN)
