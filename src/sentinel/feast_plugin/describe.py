"""A plan as text: what `sentinel features plan` prints, one feature a line, fit to be compared."""

from __future__ import annotations

from collections.abc import Iterator

from sentinel.feast_plugin.spans import format_span
from sentinel.features.plan import Aggregate, Filter, Plan, RequestFeature
from sentinel.features.program import compile_program

_SHOWN_CATEGORIES = 8


def describe(plan: Plan) -> str:
    """The compiled form of the definitions, readable and diffable.

    Each line stands for itself, so that a changed feature is one changed line.

    >>> from sentinel.features.plan import Aggregate, DAY_US, HOUR_US, Plan, RequestFeature, View
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
      amount         amount
    """
    return "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    program = compile_program(plan)
    names = plan.feature_names
    width = max((len(name) for name in names), default=0)
    windowed = sum(len(view.aggregates) for view in plan.views)
    yield f"plan {plan.hash}: {len(names)} features, {windowed} windowed"
    for view, words in zip(plan.views, program.record_words, strict=True):
        yield ""
        yield f"view {view.name} by {' + '.join(view.keys)}: {words * 8:,} bytes an entity"
        for aggregate in view.aggregates:
            yield f"  {aggregate.name:<{width}}  {_aggregate(aggregate)}"
    if plan.request:
        yield ""
        yield "request"
        for feature in plan.request:
            yield f"  {feature.name:<{width}}  {_request(feature)}"
    if plan.ratios:
        yield ""
        yield "ratios"
        for ratio in plan.ratios:
            yield f"  {ratio.name:<{width}}  {ratio.numerator} / {ratio.denominator}"
    for warning in program.warnings():
        yield ""
        yield f"warning: {warning}"


def _aggregate(aggregate: Aggregate) -> str:
    of = f" of {aggregate.column}" if aggregate.column else ""
    text = f"{aggregate.function}{of} over {format_span(aggregate.window_us)}"
    if aggregate.offset_us:
        text += f" up to {format_span(aggregate.offset_us)} ago"
    text += f", hop {format_span(aggregate.hop_us)}"
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
        return f"{feature.kind} {feature.column}".rstrip()
    known = feature.categories
    shown = ", ".join(known[:_SHOWN_CATEGORIES])
    more = f", and {len(known) - _SHOWN_CATEGORIES} more" if len(known) > _SHOWN_CATEGORIES else ""
    return f"category {feature.column} of {len(known)}" + (f": {shown}{more}" if known else "")
