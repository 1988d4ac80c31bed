"""Families of windowed features: one function over one or more windows, a feature for each.

Import them from `sentinel.feast_plugin.families`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from feast import Field
from feast.aggregation import Aggregation
from feast.types import Float32

from sentinel.domain import DefinitionError
from sentinel.feast_plugin import tags
from sentinel.feast_plugin.aggregations import COLUMNS
from sentinel.feast_plugin.tags import Condition
from sentinel.features.plan.durations import format_duration, microseconds
from sentinel.features.plan.functions import FUNCTIONS, AggregateFunction, Takes

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(days=7)
MONTH: Final = timedelta(days=30)
QUARTER: Final = timedelta(days=90)


@dataclass(frozen=True)
class Family:
    """One function over one or more windows: a feature for each.

    Attributes:
        function, column: As Feast's ``Aggregation`` takes them.
        name: The middle of the features' names, such as ``count``.
        windows: Lengths of the windows.
        spans: What ends the feature's name for each window; an empty one adds nothing.
        hop: Step in which the windows slide; None for the default.
        offset: How far before now the windows end.
        where: Conditions that must all hold for a transaction to count.
        capacity: Distinct values that are counted exactly; None for the default.
        words: Template of the features' sentence; empty for the function's own.
    """

    function: str
    column: str
    name: str
    windows: tuple[timedelta, ...]
    spans: tuple[str, ...]
    hop: timedelta | None = None
    offset: timedelta = timedelta(0)
    where: tuple[Condition, ...] = ()
    capacity: int | None = None
    words: str = ""

    def features(self, prefix: str) -> list[tuple[Aggregation, Field]]:
        """Feast's two halves of each feature: the aggregation, and the field with its tags."""
        return [
            (
                Aggregation(
                    name=feature,
                    function=self.function,
                    column=self.column,
                    time_window=window,
                    slide_interval=self.hop,
                ),
                Field(
                    name=feature,
                    dtype=Float32,
                    tags=tags.windowed(
                        offset=self.offset,
                        where=self.where,
                        capacity=self.capacity,
                        words=self.words,
                    ),
                ),
            )
            for window, span in zip(self.windows, self.spans, strict=True)
            for feature in ["_".join(filter(None, (prefix, self.name, span)))]
        ]


def count(
    *windows: timedelta,
    name: str = "",
    span: str = "",
    hop: timedelta | None = None,
    offset: timedelta = timedelta(0),
    where: Sequence[Condition] = (),
    words: str = "",
) -> Family:
    """How many transactions.

    Args:
        windows: One or more lengths.
        name: The middle of the features' names, ``count`` by default. Name a family with
            conditions after them.
        span: Ends the name in place of the window's length; for one window.
        hop: Step in which the windows slide; by default at most a twelfth of the window.
        offset: How far before now the windows end.
        where: Conditions that must all hold, such as ``("channel", "==", "online")``.
        words: Template of the sentence that says a value, such as ``"{number} payments on this
            card in {period}"``; see `sentinel.features.plan.templates`.
    """
    return _family(FUNCTIONS["count"], windows, name, span, hop, offset, where, words=words)


def amount(
    function: str,
    *windows: timedelta,
    name: str = "",
    span: str = "",
    hop: timedelta | None = None,
    offset: timedelta = timedelta(0),
    where: Sequence[Condition] = (),
    words: str = "",
) -> Family:
    """A statistic of the amounts in minor units: ``sum``, ``mean``, ``std``, ``min`` or ``max``.

    The name is ``amount_`` and the function by default; the other arguments are those of `count`.
    """
    row = _row(function, Takes.AMOUNTS)
    return _family(row, windows, name, span, hop, offset, where, words=words)


def values(
    function: str,
    column: str,
    *windows: timedelta,
    capacity: int | None = None,
    name: str = "",
    span: str = "",
    hop: timedelta | None = None,
    words: str = "",
) -> Family:
    """A function of the values of an identifier or attribute; `distinct` is one of them.

    Args:
        function: Such as ``count_distinct``.
        column: Such as ``merchant_id``.
        windows: One or more lengths.
        capacity: Values are told apart up to so many (16 by default, at most 256); 16 bytes each.
        name, span, hop, words: As in `count`.
    """
    family = _family(
        _row(function, Takes.VALUES), windows, name, span, hop, column=column, words=words
    )
    return replace(family, capacity=capacity)


def distinct(
    column: str,
    *windows: timedelta,
    capacity: int | None = None,
    name: str = "",
    span: str = "",
    hop: timedelta | None = None,
    words: str = "",
) -> Family:
    """How many different values of an identifier or attribute.

    Args:
        column: Such as ``merchant_id``, which makes the name ``merchants``.
        windows: One or more lengths.
        capacity: Counted exactly up to so many (16 by default, at most 256); 16 bytes each.
        name, span, hop, words: As in `count`.
    """
    return values(
        FUNCTIONS["distinct_count"].feast,
        column,
        *windows,
        capacity=capacity,
        name=name,
        span=span,
        hop=hop,
        words=words,
    )


def since_last(
    window: timedelta,
    *,
    name: str = "",
    hop: timedelta | None = None,
    where: Sequence[Condition] = (),
    words: str = "",
) -> Family:
    """Seconds since the entity was last seen, null if that is longer ago than the window."""
    family = _family(
        FUNCTIONS["time_since_last"], (window,), name, "", hop, where=where, words=words
    )
    return replace(family, spans=("",))


def fraud_count(
    *windows: timedelta,
    name: str = "",
    span: str = "",
    hop: timedelta | None = None,
    offset: timedelta = timedelta(0),
    where: Sequence[Condition] = (),
    words: str = "",
) -> Family:
    """How many transactions of the window are known to be frauds. Arguments as in `count`."""
    return _family(FUNCTIONS["fraud_count"], windows, name, span, hop, offset, where, words=words)


def fraud_rate(
    *windows: timedelta,
    offset: timedelta = timedelta(0),
    name: str = "",
    span: str = "",
    hop: timedelta | None = None,
    where: Sequence[Condition] = (),
    words: str = "",
) -> Family:
    """Known frauds as a share of the transactions of the window. Arguments as in `count`.

    Chargebacks take days to arrive: let ``offset`` leave out the days whose truth is not known.
    """
    return _family(FUNCTIONS["fraud_rate"], windows, name, span, hop, offset, where, words=words)


def _row(function: str, takes: Takes) -> AggregateFunction:
    """The row of the table that Feast's name of a function has among those that take the same."""
    rows = {row.feast: row for row in FUNCTIONS.values() if row.takes is takes}
    if function not in rows:
        raise DefinitionError(
            f"There is no function {function!r} of {takes.value}. "
            f"{tags.did_you_mean(function, rows)}"
        )
    return rows[function]


def feature_name(prefix: str, column: str) -> str:
    """A column's name as part of a feature's: letters, digits and underscores.

    >>> feature_name("", "Merchant City"), feature_name("ieee", "C1")
    ('Merchant_City', 'ieee_C1')
    """
    return "_".join(filter(None, (prefix, re.sub(r"\W+", "_", column))))


def _family(
    row: AggregateFunction,
    windows: tuple[timedelta, ...],
    name: str,
    span: str,
    hop: timedelta | None,
    offset: timedelta = timedelta(0),
    where: Sequence[Condition] = (),
    column: str = "",
    words: str = "",
) -> Family:
    name = name or row.feature.format(columns=_plural(column))
    if not windows:
        raise DefinitionError(f"The family {name!r} has no window. Name one or more, such as DAY.")
    if span and len(windows) > 1:
        raise DefinitionError(
            f"The family {name!r} has {len(windows)} windows and the one span {span!r}. "
            "Write a line for each window that gets a name of its own."
        )
    spans = (span,) if span else tuple(format_duration(microseconds(window)) for window in windows)
    column = column or COLUMNS.get(row.takes, "")
    return Family(row.feast, column, name, windows, spans, hop, offset, tuple(where), words=words)


def _plural(column: str) -> str:
    """The name of a column's distinct values.

    >>> _plural("merchant_id"), _plural("ip_address"), _plural("merchant_country")
    ('merchants', 'ips', 'merchant_countries')
    """
    word = feature_name("", re.sub("_id$|^(ip)_address$", r"\1", column))
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"
