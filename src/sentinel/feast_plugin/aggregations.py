"""From one Feast ``Aggregation`` and its tags to one aggregate of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sentinel.domain import ENTITY_COLUMNS, DefinitionError
from sentinel.feast_plugin.source import EVENT_TIMESTAMP
from sentinel.feast_plugin.spans import microseconds
from sentinel.feast_plugin.tags import FieldTags, did_you_mean
from sentinel.features.plan.plan import AMOUNT, Aggregate, Function, default_hop_us

DEFAULT_CAPACITY: Final = 16
IS_FRAUD: Final = "is_fraud"

_LABELS: Final[Mapping[str, Function]] = {"sum": "fraud_count", "mean": "fraud_rate"}
_AMOUNTS: Final[Mapping[str, Function]] = {
    "sum": "sum",
    "mean": "mean",
    "std": "std",
    "min": "min",
    "max": "max",
}
FUNCTIONS: Final = ("count", *_AMOUNTS, "time_since_last", "count_distinct")


def compile_aggregation(aggregation: Any, tags: FieldTags, where: str) -> Aggregate:
    """Compile one aggregation.

    Args:
        aggregation: A ``feast.aggregation.Aggregation`` with a name.
        tags: Those of the field of the same name.
        where: Names the feature in errors.

    Raises:
        DefinitionError: Function, column, window or tags are not possible.
    """
    function, column = _function(aggregation.function, aggregation.column, where)
    if aggregation.time_window is None:
        raise DefinitionError(
            f"{where} has no time_window. Everything slides: name one, such as timedelta(days=30)."
        )
    window_us = microseconds(aggregation.time_window)
    slide = aggregation.slide_interval
    # Feast fills slide_interval with time_window where none was given.
    default = slide is None or slide == aggregation.time_window
    if tags.capacity is not None and function != "distinct_count":
        raise DefinitionError(f"{where} has a capacity, which only count_distinct has.")
    return Aggregate(
        name=aggregation.name,
        function=function,
        window_us=window_us,
        hop_us=default_hop_us(window_us) if default else microseconds(slide),
        column=column,
        offset_us=tags.offset_us,
        filters=tags.filters,
        capacity=0 if function != "distinct_count" else tags.capacity or DEFAULT_CAPACITY,
    )


def _function(function: str, column: str, where: str) -> tuple[Function, str]:
    """The plan's function and column for Feast's."""
    if function not in FUNCTIONS:
        raise DefinitionError(
            f"{where} has the function {function!r}. {did_you_mean(function, FUNCTIONS)}"
        )
    if function == "count_distinct":
        if not column or column in (IS_FRAUD, AMOUNT, EVENT_TIMESTAMP):
            raise DefinitionError(
                f"{where} counts distinct values of {column!r}; it counts those of an identifier "
                f"({', '.join(ENTITY_COLUMNS)}) or of an attribute."
            )
        return "distinct_count", column
    if function == "count":
        _expect(column, ("transaction_id", ""), "counts transactions", where)
        return "count", ""
    if function == "time_since_last":
        _expect(column, (EVENT_TIMESTAMP, ""), "measures time", where)
        return "time_since_last", ""
    if column == IS_FRAUD:
        if function not in _LABELS:
            raise DefinitionError(
                f"{where} is the {function} of {IS_FRAUD}; labels have a sum (how many frauds) "
                "and a mean (their share)."
            )
        return _LABELS[function], ""
    if column != AMOUNT:
        raise DefinitionError(
            f"{where} is the {function} of {column!r}; {function} works on {AMOUNT} and "
            f"{IS_FRAUD}. {did_you_mean(column, (AMOUNT, IS_FRAUD))}"
        )
    return _AMOUNTS[function], AMOUNT


def _expect(column: str, allowed: tuple[str, ...], does: str, where: str) -> None:
    if column not in allowed:
        raise DefinitionError(
            f"{where} {does}, so its column is {allowed[0]!r}, not {column!r}. To count only some "
            "transactions use tags=windowed(where=[...])."
        )
