"""A plan as text: what `sentinel features plan` prints, one feature a line, fit to be compared.

Lines keep to 80 columns; what does not fit goes on below, further in.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from sentinel.features.plan.durations import format_duration
from sentinel.features.plan.functions import AMOUNT, FUNCTIONS
from sentinel.features.plan.parts import Aggregate, Filter, RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program

_COLUMNS = 80
_SHOWN_CATEGORIES = 8
_SHOWN_CHARACTERS = 28


def describe(plan: Plan) -> str:
    """The compiled form of the definitions, readable and diffable.

    Each line stands for itself, so that a changed feature is one changed line.

    >>> from sentinel.features.plan.plan import DAY_US, HOUR_US
    >>> from sentinel.features.plan.plan import Aggregate, Plan, RequestFeature, View
    >>> count = Aggregate(name="card_count_1d", function="count", window_us=DAY_US,
    ...                   hop_us=2 * HOUR_US)
    >>> print(describe(Plan(
    ...     views=(View(name="card", keys=("card_id",), aggregates=(count,)),),
    ...     request=(RequestFeature(name="amount", kind="amount"),))), end="")
    plan ...: 2 features, 1 windowed
    <BLANKLINE>
    view card by card_id: 128 bytes an entity
      card_count_1d  count over 1d, hop 2h
    <BLANKLINE>
    request
      amount  amount
    """
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    program = compile_program(plan)
    windowed = sum(len(view.aggregates) for view in plan.views)
    yield f"plan {plan.hash}: {len(plan.feature_names)} features, {windowed} windowed"
    for view, words in zip(plan.views, program.record_words, strict=True):
        yield ""
        yield f"view {view.name} by {' + '.join(view.keys)}: {words * 8:,} bytes an entity"
        yield from _section([(a.name, _aggregate(a) + _said(a.words)) for a in view.aggregates])
    if plan.request:
        yield ""
        yield "request"
        yield from _section([(f.name, _request(f) + _said(f.words)) for f in plan.request])
    if plan.ratios:
        yield ""
        yield "ratios"
        yield from _section(
            [(r.name, f"{r.numerator} / {r.denominator}{_said(r.words)}") for r in plan.ratios]
        )
    for warning in program.warnings():
        yield ""
        yield from textwrap.wrap(f"warning: {warning}", _COLUMNS, subsequent_indent="  ")


def _section(features: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Names and what they are, in two columns."""
    width = max(len(name) for name, _ in features)
    for name, text in features:
        yield from textwrap.wrap(
            text,
            _COLUMNS,
            initial_indent=f"  {name:<{width}}  ",
            subsequent_indent=" " * 6,
            break_long_words=False,
            break_on_hyphens=False,
        )


def _said(words: str) -> str:
    return f", said {words!r}" if words else ""


def _aggregate(aggregate: Aggregate) -> str:
    of = f" {aggregate.column}" if aggregate.column not in ("", AMOUNT) else ""
    what = FUNCTIONS[aggregate.function].short or aggregate.function
    text = f"{what}{of} over {format_duration(aggregate.window_us)}"
    if aggregate.offset_us:
        text += f" up to {format_duration(aggregate.offset_us)} ago"
    text += f", hop {format_duration(aggregate.hop_us)}"
    if aggregate.capacity:
        text += f", up to {aggregate.capacity}"
    if aggregate.filters:
        text += f", where {' and '.join(_condition(f) for f in aggregate.filters)}"
    return text


def _condition(condition: Filter) -> str:
    value = condition.value
    shown = repr(value) if isinstance(value, str) else f"{value:g}"
    return f"{condition.column} {condition.operator} {shown}"


def _request(feature: RequestFeature) -> str:
    if feature.kind != "category":
        return f"{feature.kind} {feature.column}".rstrip().removesuffix(f" {feature.name}")
    known = feature.categories
    shown: list[str] = []
    for value in known[:_SHOWN_CATEGORIES]:
        if shown and len(", ".join([*shown, value])) > _SHOWN_CHARACTERS:
            break
        shown.append(value if len(value) <= _SHOWN_CHARACTERS else f"{value[:_SHOWN_CHARACTERS]}…")
    column = "" if feature.column == feature.name else f" {feature.column}"
    more = ", ..." if len(known) > len(shown) else ""
    return f"category{column} of {len(known)}" + (f": {', '.join(shown)}{more}" if known else "")
