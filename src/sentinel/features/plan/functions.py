"""The table of aggregates: one row for each function over the payments of a window.

Whatever depends on which function an aggregate has reads its row: a plan is checked by it and laid
out by it, Feast's aggregations and families are compiled by it, reasons and pages are worded by it.
A new function is a row here, its part of the kernel (`sentinel.features.kernel`), and its plain
definition in the oracle; `tests/features/test_functions.py` holds the three together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

Function = Literal[
    "count",
    "sum",
    "mean",
    "std",
    "min",
    "max",
    "time_since_last",
    "distinct_count",
    "fraud_count",
    "fraud_rate",
]

AMOUNT: Final = "amount_minor"
"""The column that functions of amounts, conditions and ratios name."""

# What a window of a ring is finished to, as programs say it; never renumbered.
OUT_COUNT: Final = 0
OUT_SUM: Final = 1
OUT_MEAN: Final = 2
OUT_STD: Final = 3
OUT_MIN: Final = 4
OUT_MAX: Final = 5
OUT_FRAUD_COUNT: Final = 6
OUT_FRAUD_RATE: Final = 7

# Fields of a ring's tile beyond the counts.
FIELD_SUM: Final = 1
FIELD_SQUARES: Final = 2
FIELD_RANGE: Final = 4


class Takes(Enum):
    """What an aggregate is computed from."""

    PAYMENTS = "payments"
    AMOUNTS = "amounts"
    TIMES = "times"
    LABELS = "labels"
    VALUES = "values"
    """Of the identifier or attribute that the aggregate names as its column."""


class Section(Enum):
    """The part of a record that an aggregate is read from; each has its file in the kernel."""

    RINGS = "rings"
    LASTS = "lasts"
    DISTINCTS = "distincts"


class Unit(Enum):
    """What an aggregate's value is a number of, for words."""

    COUNT = "count"
    AMOUNT = "amount"
    SECONDS = "seconds"
    SHARE = "share"


@dataclass(frozen=True, kw_only=True, slots=True)
class AggregateFunction:
    """One row of the table.

    In `counted`, `sentence` and `noun`, ``{column}`` and ``{columns}`` are the column's noun and
    its plural. In `sentence`, ``{value}`` is the value with its unit, ``{which}`` the conditions
    in brackets, ``{where}`` the entity (``by this card``), ``{period}`` the window (``the last
    hour``), and ``{of}`` the three together.

    Attributes:
        name: As plans spell it.
        feast: Function of Feast's ``Aggregation``; together with what it takes it names the row.
        takes: What it is computed from.
        section: Part of the record.
        code: What a ring's window is finished to; -1 in other sections.
        fields: Of a ring's tile, those it needs.
        least: Payments below which the value is null; 0 if only an unknown entity makes it null.
        offset, filters, capacity: Whether an aggregate may have one. With a capacity, values are
            told apart up to so many.
        unit: Of the value.
        counted: What a count counts, in the singular.
        sentence: The value in words.
        zero: In place of `sentence` if the value is 0; empty if it is none of its own.
        noun: What the value is, in front of ``of the last hour``; in a ratio.
        plural: Whether the noun is one.
        short: What `sentinel features plan` calls it.
        feature: The middle of a feature's name by default; ``{columns}`` is the column's plural.
        example: A line of definitions, for the docs.
        meaning: What the value is, for the docs.
    """

    name: Function
    feast: str
    takes: Takes
    section: Section = Section.RINGS
    code: int = -1
    fields: int = 0
    least: int = 0
    offset: bool = True
    filters: bool = True
    capacity: bool = False
    unit: Unit
    counted: str = ""
    sentence: str
    zero: str = ""
    noun: str
    plural: bool = False
    short: str = ""
    feature: str
    example: str
    meaning: str


_ROWS: Final = (
    AggregateFunction(
        name="count",
        feast="count",
        takes=Takes.PAYMENTS,
        code=OUT_COUNT,
        unit=Unit.COUNT,
        counted="payment",
        sentence="{value}{of}",
        zero="no earlier payment{of}",
        noun="payments",
        plural=True,
        feature="count",
        example="count(DAY)",
        meaning="number of transactions",
    ),
    AggregateFunction(
        name="sum",
        feast="sum",
        takes=Takes.AMOUNTS,
        code=OUT_SUM,
        fields=FIELD_SUM,
        unit=Unit.AMOUNT,
        sentence="{value} in payments{of}",
        noun="total",
        feature="amount_sum",
        example='amount("sum", DAY)',
        meaning="sum of amounts, minor units",
    ),
    AggregateFunction(
        name="mean",
        feast="mean",
        takes=Takes.AMOUNTS,
        code=OUT_MEAN,
        fields=FIELD_SUM,
        least=1,
        unit=Unit.AMOUNT,
        sentence="mean payment{of} is {value}",
        noun="mean",
        feature="amount_mean",
        example='amount("mean", DAY)',
        meaning="mean of the amounts",
    ),
    AggregateFunction(
        name="std",
        feast="std",
        takes=Takes.AMOUNTS,
        code=OUT_STD,
        fields=FIELD_SUM | FIELD_SQUARES,
        least=2,
        unit=Unit.AMOUNT,
        sentence="payments{of} differ by {value} (standard deviation)",
        noun="standard deviation",
        feature="amount_std",
        example='amount("std", DAY)',
        meaning="sample standard deviation of the amounts",
    ),
    AggregateFunction(
        name="min",
        feast="min",
        takes=Takes.AMOUNTS,
        code=OUT_MIN,
        fields=FIELD_RANGE,
        least=1,
        unit=Unit.AMOUNT,
        sentence="smallest payment{of} is {value}",
        noun="smallest payment",
        feature="amount_min",
        example='amount("min", DAY)',
        meaning="smallest amount",
    ),
    AggregateFunction(
        name="max",
        feast="max",
        takes=Takes.AMOUNTS,
        code=OUT_MAX,
        fields=FIELD_RANGE,
        least=1,
        unit=Unit.AMOUNT,
        sentence="largest payment{of} is {value}",
        noun="largest payment",
        feature="amount_max",
        example='amount("max", DAY)',
        meaning="largest amount",
    ),
    AggregateFunction(
        name="time_since_last",
        feast="time_since_last",
        takes=Takes.TIMES,
        section=Section.LASTS,
        least=1,
        offset=False,
        unit=Unit.SECONDS,
        sentence="{value} since the last payment{which} {where}",
        noun="time since the last payment",
        feature="seconds_since_last",
        example="since_last(MONTH)",
        meaning="seconds since the entity was last seen",
    ),
    AggregateFunction(
        name="distinct_count",
        feast="count_distinct",
        takes=Takes.VALUES,
        section=Section.DISTINCTS,
        offset=False,
        filters=False,
        capacity=True,
        unit=Unit.COUNT,
        counted="different {column}",
        sentence="{value}{of}",
        noun="different {columns}",
        plural=True,
        short="distinct",
        feature="{columns}",
        example='distinct("merchant_id", DAY)',
        meaning="different values of an identifier or attribute, exact up to `capacity`",
    ),
    AggregateFunction(
        name="fraud_count",
        feast="sum",
        takes=Takes.LABELS,
        code=OUT_FRAUD_COUNT,
        unit=Unit.COUNT,
        counted="known fraud",
        sentence="{value} among the payments{of}",
        noun="known frauds",
        plural=True,
        feature="frauds_known",
        example="fraud_count(MONTH)",
        meaning="transactions of the window known to be frauds",
    ),
    AggregateFunction(
        name="fraud_rate",
        feast="mean",
        takes=Takes.LABELS,
        code=OUT_FRAUD_RATE,
        least=1,
        unit=Unit.SHARE,
        sentence="{value} of the payments{of} are known fraud",
        noun="share of known fraud",
        feature="fraud_rate",
        example="fraud_rate(MONTH)",
        meaning="known frauds as a share of the window's transactions",
    ),
)

FUNCTIONS: Final[Mapping[Function, AggregateFunction]] = {row.name: row for row in _ROWS}
"""The table by the names that plans use."""
