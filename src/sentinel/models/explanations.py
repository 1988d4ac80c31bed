"""A feature's value in words, for the reasons of a decision.

Sentences are made from the plan's own structures, or from the template of a feature's definition
where it has one; one function per feature, prepared once:

    9 payments by this card in the last hour
    amount is 6.2 times this card's mean of the last 30 days
    12 % of the payments at this merchant in the last 7 days are known fraud
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from sentinel.features.plan.functions import AMOUNT, FUNCTIONS, AggregateFunction, Unit
from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Plan
from sentinel.features.plan.templates import fill

Words = Callable[[float | None], str]
"""A feature's value (None or NaN = unknown) to a sentence."""

Shown = Callable[[float], str]
"""A known value as it is written."""


class Money(Protocol):
    """The base currency: its ISO 4217 code and the decimals of one unit."""

    @property
    def currency(self) -> str: ...

    @property
    def scale(self) -> int: ...


_NOUNS: Final = {
    "customer_id": "customer",
    "card_id": "card",
    "merchant_id": "merchant",
    "device_id": "device",
    "ip_address": "IP address",
}
_NUMBERS: Final = {2: "two", 3: "three", 4: "four"}
_PLURALS: Final = {"IP address": "IP addresses"}
_PREPOSITIONS: Final = {
    "customer_id": "by",
    "card_id": "by",
    "merchant_id": "at",
    "device_id": "on",
    "ip_address": "from",
}
_OPERATORS: Final = {
    "==": "",
    "!=": "not ",
    "<": "below ",
    "<=": "at most ",
    ">": "above ",
    ">=": "at least ",
}
_WEEKDAYS: Final = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
_UNITS: Final = ((DAY_US, "day"), (HOUR_US, "hour"), (MINUTE_US, "minute"), (SECOND_US, "second"))


def compile_words(plan: Plan, money: Money) -> list[Words]:
    """One sentence maker per feature, in vector order.

    Args:
        plan: The plan the vectors are of.
        money: Currency and scale of all amounts.
    """
    owners = {a.name: (view, a) for view in plan.views for a in view.aggregates}
    return [
        *(_aggregate(view, a, money) for view in plan.views for a in view.aggregates),
        *(_request(feature, money) for feature in plan.request),
        *(_ratio(ratio, owners, money) for ratio in plan.ratios),
    ]


def amount_words(value: float, money: Money) -> str:
    """Money in its currency: 1,250.00 EUR."""
    return f"{_amount_number(value, money)} {money.currency}"


def _amount_number(value: float, money: Money) -> str:
    """Money without its currency: 1,250.00."""
    return f"{value / 10**money.scale:,.{money.scale}f}"


def number_words(value: float) -> str:
    """Whole numbers whole, others to two or three significant digits."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def _plural(count: float, noun: str) -> str:
    return f"{number_words(count)} {noun}" if count == 1 else f"{number_words(count)} {_many(noun)}"


def _many(noun: str) -> str:
    return _PLURALS.get(noun, noun + "s")


def _duration(us: float) -> str:
    """A length of time in its largest whole unit, days only from two on: 24 hours, 7 days."""
    for unit, noun in _UNITS:
        if us >= unit * (2 if unit == DAY_US else 1) and us % unit == 0:
            return _plural(us / unit, noun)
    return f"{us / SECOND_US:g} seconds"


def _age(seconds: float) -> str:
    """A measured length of time, to one unit: 3 minutes, 2 days."""
    us = seconds * SECOND_US
    for unit, noun in _UNITS:
        if us >= unit:
            return _plural(float(round(us / unit)), noun)
    return "less than a second"


def period_words(aggregate: Aggregate) -> str:
    """``the last hour``, ``the last 7 days``, ``the 30 days before the last 7 days``."""
    window = _duration(aggregate.window_us)
    if aggregate.offset_us:
        return f"the {window} before the last {_duration(aggregate.offset_us)}"
    one, _, unit = window.partition(" ")
    return f"the last {unit}" if one == "1" else f"the last {window}"


def _column(name: str) -> str:
    return _NOUNS.get(name) or name.removesuffix("_id").replace("_", " ")


def _owner(view: View) -> str:
    """``this card``, ``this card and merchant``."""
    return "this " + " and ".join(_column(key) for key in view.keys)


def where_words(view: View) -> str:
    """``by this card``, ``by this card at this merchant``."""
    return " ".join(f"{_PREPOSITIONS.get(key, 'of')} this {_column(key)}" for key in view.keys)


def _condition(condition: Filter, money: Money) -> str:
    if condition.column == AMOUNT and not isinstance(condition.value, str):
        return f"{_OPERATORS[condition.operator]}{amount_words(condition.value, money)}"
    value = condition.value if isinstance(condition.value, str) else number_words(condition.value)
    return f"{_column(condition.column)} {_OPERATORS[condition.operator]}{value}"


def _filtered(aggregate: Aggregate, money: Money) -> str:
    """`` (above 100.00 EUR, channel online)`` or nothing."""
    if not aggregate.filters:
        return ""
    return f" ({', '.join(_condition(condition, money) for condition in aggregate.filters)})"


def _or(missing: str, known: Callable[[float], str]) -> Words:
    """A sentence maker that knows what to say of an unknown value."""
    return lambda value: missing if value is None or math.isnan(value) else known(value)


def _aggregate(view: View, aggregate: Aggregate, money: Money) -> Words:
    row = FUNCTIONS[aggregate.function]
    which, where, period = _filtered(aggregate, money), where_words(view), period_words(aggregate)
    of = f"{which} {where} in {period}"
    if row.least == 0:
        missing = f"{' and '.join(_column(key) for key in view.keys)} unknown"
    elif row.least == 1:
        missing = f"no earlier payment{of}"
    else:
        missing = f"fewer than {_NUMBERS.get(row.least, row.least)} earlier payments{of}"
    parts = {"which": which, "where": where, "period": period, "of": of} | _of_column(aggregate)
    shown = _shown(row, aggregate, money)
    if aggregate.words:
        return _or(missing, _templated(aggregate.words, parts, shown, _number(row.unit, money)))
    before, _, after = row.sentence.partition("{value}")
    before, after = before.format(**parts), after.format(**parts)
    zero = row.zero.format(**parts)
    return _or(missing, lambda v: zero if zero and not v else f"{before}{shown(v)}{after}")


def _templated(
    template: str, parts: dict[str, str], shown: Shown, number: Shown
) -> Callable[[float], str]:
    """The sentence of a template; all but the value is put in once."""
    *pieces, (after, _) = fill(template, parts)
    written = [(text, shown if name == "value" else number) for text, name in pieces]
    if len(written) == 1:  # as almost all are: one string is put together, nothing joined
        before, write = written[0]
        return lambda v: f"{before}{write(v)}{after}"
    return lambda v: "".join([f"{text}{write(v)}" for text, write in written]) + after


def _number(unit: Unit, money: Money) -> Shown:
    """Writes a value without its unit."""
    if unit is Unit.AMOUNT:
        return lambda v: _amount_number(v, money)
    if unit is Unit.SHARE:
        return lambda v: number_words(100 * v)
    return number_words


def _of_column(aggregate: Aggregate) -> dict[str, str]:
    """The words for an aggregate's column that rows of the table may use."""
    noun = _column(aggregate.column)
    return {"column": noun, "columns": _many(noun)}


def _shown(row: AggregateFunction, aggregate: Aggregate, money: Money) -> Shown:
    """Writes a value with its unit."""
    if row.unit is Unit.AMOUNT:
        return lambda v: amount_words(v, money)
    if row.unit is Unit.SECONDS:
        return _age
    if row.unit is Unit.SHARE:
        return lambda v: f"{number_words(100 * v)} %"
    noun, capacity = row.counted.format(**_of_column(aggregate)), aggregate.capacity
    if not row.capacity:
        return lambda v: _plural(v, noun)
    return lambda v: f"{'at least ' if v >= capacity else ''}{_plural(v, noun)}"


def _request(feature: RequestFeature, money: Money) -> Words:
    name = _column(feature.column)
    number: Shown = number_words
    if feature.kind == "amount":
        missing, usual = "amount unknown", "amount is {value}"
        shown: Shown = partial(amount_words, money=money)
        number = partial(_amount_number, money=money)
    elif feature.kind == "hour_of_day":
        missing, usual = "time unknown", "paid at {value} UTC"
        shown = _clock
    elif feature.kind == "day_of_week":
        missing, usual = "day unknown", "paid on a {value}"
        shown = _weekday
    else:
        missing, usual = f"{name} not given", "{column} is {value}"
        texts = ("one never seen before", *feature.categories)
        shown = number_words if feature.kind == "number" else lambda v: texts[int(v)]
    return _or(missing, _templated(feature.words or usual, {"column": name}, shown, number))


def _clock(hour: float) -> str:
    return f"{int(hour):02d}:{int(hour % 1 * 60):02d}"


def _weekday(day: float) -> str:
    return _WEEKDAYS[int(day) % 7]


def _noun(view: View, aggregate: Aggregate, money: Money) -> str:
    """A noun phrase for one side of a ratio: ``this card's mean of the last 30 days``."""
    noun = FUNCTIONS[aggregate.function].noun.format(**_of_column(aggregate))
    return f"{_owner(view)}'s {noun}{_filtered(aggregate, money)} of {period_words(aggregate)}"


def _ratio(ratio: Ratio, owners: dict[str, tuple[View, Aggregate]], money: Money) -> Words:
    below_view, below = owners[ratio.denominator]
    denominator = _noun(below_view, below, money)
    if ratio.numerator == AMOUNT:
        subject, verb = "amount", "is"
    else:
        subject = _noun(*owners[ratio.numerator], money)
        verb = "are" if FUNCTIONS[owners[ratio.numerator][1].function].plural else "is"
    usual = f"{{numerator}} {verb} {{value}} times {{denominator}}"
    parts = {"numerator": subject, "denominator": denominator}
    return _or(
        f"no history to compare with for {denominator}",
        _templated(ratio.words or usual, parts, number_words, number_words),
    )
