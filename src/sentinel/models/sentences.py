"""What features mean in words, each beside what is usual for the same entity.

    7 payments by this card in the last hour; usually 1.4 a day
    amount is 480.00 EUR; usually 21.50 EUR by this card
    3 different merchants by this card in the last 24 hours; 4 in the last 30 days

The words of a value are those of `sentinel.models.explanations`, which answers have. What is usual
needs other features of the same vector: the longest window of the plan over the same payments,
without the time that the feature itself covers. So explanations have it, and answers do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from sentinel.features.plan.functions import FUNCTIONS, Unit
from sentinel.features.plan.parts import Aggregate, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.models.explanations import (
    Money,
    Words,
    amount_words,
    number_words,
    period_words,
    where_words,
)

Values = Sequence[float | None]
Usual = Callable[[Values], str]
"""All values of a vector to what is usual; empty if nothing can be said."""

_PER: Final = ((HOUR_US, "an hour"), (DAY_US, "a day"), (7 * DAY_US, "a week"))
_MONTH_US: Final = 30 * DAY_US
_MOST_A_DAY: Final = 48.0
"""More a day than this is said by the hour."""
_SIZES: Final = {"mean": "", "std": "by ", "min": "from ", "max": "up to "}
"""Functions of sizes that can be held against the same of a longer window, and its preposition."""


def compile_usual(plan: Plan, money: Money) -> list[Usual | None]:
    """What is usual, by feature in vector order; None where a plan has nothing to compare with."""
    place = {name: i for i, name in enumerate(plan.feature_names)}
    found: list[Usual | None] = [
        _aggregate(view, own, place, money) for view in plan.views for own in view.aggregates
    ]
    amounts = _usual_amount(plan, place, money)
    found += [amounts if feature.kind == "amount" else None for feature in plan.request]
    return found + [None] * len(plan.ratios)


def say(words: Sequence[Words], usual: Sequence[Usual | None], values: Values) -> list[str]:
    """The sentence of each feature of a vector.

    Args:
        words: Of values, from `compile_words`.
        usual: From `compile_usual`.
        values: Of the vector; None = unknown.
    """
    sentences = []
    for one, ordinary, value in zip(words, usual, values, strict=True):
        beside = "" if ordinary is None or value is None else ordinary(values)
        sentences.append(f"{one(value)}; {beside}" if beside else one(value))
    return sentences


def rate_words(count: float, span_us: float) -> str:
    """How often something happens, in the unit in which it happens at least once.

    >>> rate_words(30, 30 * DAY_US), rate_words(5, 30 * DAY_US), rate_words(0.5, 30 * DAY_US)
    ('1 a day', '1.2 a week', 'less than 1 a month')
    >>> rate_words(7200, 30 * DAY_US)
    '10 an hour'
    """
    for unit_us, per in _PER:
        rate = count / span_us * unit_us
        if unit_us == HOUR_US and rate * 24 < _MOST_A_DAY:
            continue
        if rate >= 1:
            return f"{number_words(round(rate, 1))} {per}"
    rate = count / span_us * _MONTH_US
    return f"{number_words(round(rate, 1))} a month" if rate >= 1 else "less than 1 a month"


def _aggregate(view: View, own: Aggregate, place: dict[str, int], money: Money) -> Usual | None:
    unit = FUNCTIONS[own.function].unit
    if own.function == "time_since_last":
        counts = _alike(view.aggregates, own, "count")
        longest = max(counts, key=_reach, default=None)
        return None if longest is None else _pace(place[longest.name], longest.window_us)
    if own.offset_us:  # it is what is usual
        return None
    if own.function in _SIZES:
        return _size(view, own, place, money)
    longer = [a for a in _alike(view.aggregates, own) if a.window_us > own.window_us]
    if not longer:
        return None
    reference = max(longer, key=_reach)
    here, there = place[own.name], place[reference.name]
    over = period_words(reference)
    if own.function in ("count", "sum"):
        rest_us = reference.window_us - own.window_us
        if unit is Unit.COUNT:
            return _beyond(here, there, f"no other in {over}", lambda n: rate_words(n, rest_us))
        per_us, per = (DAY_US, "a day") if own.window_us <= DAY_US else (7 * DAY_US, "a week")
        return _beyond(
            here,
            there,
            f"nothing else in {over}",
            lambda n: f"{amount_words(n / rest_us * per_us, money)} {per}",
        )
    if unit is Unit.SHARE:
        return _known(there, lambda v: f"usually {number_words(100 * v)} %")
    least = f"at least {reference.capacity}"
    return _known(
        there,
        lambda v: (
            f"{least if reference.capacity and v >= reference.capacity else number_words(v)}"
            f" in {over}"
        ),
    )


def _size(view: View, own: Aggregate, place: dict[str, int], money: Money) -> Usual | None:
    """A mean, spread or extreme against the same of the time before, or of a longer one."""
    alike = [a for a in _alike(view.aggregates, own) if a.offset_us or a.window_us > own.window_us]
    if not alike:
        return None
    how = _SIZES[own.function]
    return _first_known(
        _places(alike, place),
        lambda v: f"usually {how}{amount_words(v, money)}",
        missing="nothing before to compare with",
    )


def _usual_amount(plan: Plan, place: dict[str, int], money: Money) -> Usual | None:
    """The amount of a payment against the mean of the first entity that has one."""
    for view in plan.views:
        means = [a for a in view.aggregates if a.function == "mean" and not a.filters]
        if means:
            return _of_entity(_places(means, place), where_words(view), money)
    return None


def _places(aggregates: Iterable[Aggregate], place: dict[str, int]) -> list[int]:
    """Where they are in a vector: what ends before now first, then the longest windows."""
    ordered = sorted(aggregates, key=lambda a: (a.offset_us == 0, -a.window_us))
    return [place[a.name] for a in ordered]


def _of_entity(there: Sequence[int], where: str, money: Money) -> Usual:
    return _first_known(
        there,
        lambda v: f"usually {amount_words(v, money)} {where}",
        missing=f"no earlier payment {where} to compare with",
    )


def _alike(aggregates: Iterable[Aggregate], own: Aggregate, function: str = "") -> list[Aggregate]:
    """Other aggregates over the same payments, of the same function and column by default."""
    return [
        a
        for a in aggregates
        if a.name != own.name
        and a.filters == own.filters
        and (a.function == function or (not function and a.function == own.function))
        and (bool(function) or a.column == own.column)
        and (not a.offset_us or own.function in _SIZES)
    ]


def _reach(aggregate: Aggregate) -> int:
    return aggregate.window_us + aggregate.offset_us


def _known(there: int, said: Callable[[float], str]) -> Usual:
    return _first_known([there], said, missing="")


def _first_known(there: Sequence[int], said: Callable[[float], str], missing: str) -> Usual:
    """The words of the first of some values that is known."""

    def usual(values: Values) -> str:
        for one in there:
            value = values[one]
            if value is not None and not math.isnan(value):
                return said(value)
        return missing

    return usual


def _pace(there: int, span_us: int) -> Usual:
    """How often the entity pays, beside the time since it last did."""
    return _known(there, lambda n: f"usually {rate_words(n, span_us)}" if n > 1 else "")


def _beyond(here: int, there: int, none: str, said: Callable[[float], str]) -> Usual:
    """What the longer window holds beyond the shorter one, as a rate."""

    def usual(values: Values) -> str:
        short, long = values[here], values[there]
        if short is None or long is None:
            return ""
        rest = long - short
        return f"usually {said(rest)}" if rest > 0 else none

    return usual
