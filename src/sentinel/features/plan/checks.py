"""What a plan must keep to, whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from sentinel.domain import ENTITY_COLUMNS, DefinitionError
from sentinel.features.plan.functions import AMOUNT, FUNCTIONS, Takes
from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View
from sentinel.features.plan.templates import (
    OF_RATIOS,
    OF_REQUESTS,
    OF_WINDOWS,
    check_template,
)

MAX_FILTER_SETS: Final = 62
MAX_CAPACITY: Final = 256


def check_parts(
    views: Sequence[View], request: Sequence[RequestFeature], ratios: Sequence[Ratio]
) -> None:
    """Check what a plan is made of, one feature after the other.

    Raises:
        DefinitionError: Something in it is not possible.
    """
    aggregates = [aggregate for view in views for aggregate in view.aggregates]
    seen: set[str] = set()
    names = [*(a.name for a in aggregates), *(f.name for f in request), *(r.name for r in ratios)]
    for name in names:
        if name in seen:
            raise DefinitionError(f"Two features are named {name!r}. Rename one.")
        seen.add(name)
    view_names: set[str] = set()
    for view in views:
        if view.name in view_names:
            raise DefinitionError(f"Two views are named {view.name!r}. Rename one.")
        view_names.add(view.name)
        if len(set(view.keys)) < len(view.keys):
            raise DefinitionError(f"View {view.name!r} names a key twice.")
        if not view.keys:
            raise DefinitionError(f"View {view.name!r} has no entity key.")
        for key in view.keys:
            if key not in ENTITY_COLUMNS:
                raise DefinitionError(
                    f"View {view.name!r} is keyed by {key!r}; "
                    f"a key is one of {', '.join(ENTITY_COLUMNS)}."
                )
        for aggregate in view.aggregates:
            _check_aggregate(view, aggregate)
            where = f"Feature {aggregate.name!r} of view {view.name!r}"
            check_template(aggregate.words, OF_WINDOWS, where)
    for feature in request:
        check_template(feature.words, OF_REQUESTS, f"Feature {feature.name!r}")
        if feature.kind in ("category", "number") and not feature.column:
            raise DefinitionError(f"Feature {feature.name!r} ({feature.kind}) needs a column.")
        if len(set(feature.categories)) < len(feature.categories):
            raise DefinitionError(f"Feature {feature.name!r} names a category twice.")
    named = {aggregate.name for aggregate in aggregates}
    if AMOUNT in named:
        raise DefinitionError(f"An aggregate cannot be named {AMOUNT!r}: ratios use that name.")
    for ratio in ratios:
        check_template(ratio.words, OF_RATIOS, f"Ratio {ratio.name!r}")
        for name in (ratio.numerator, ratio.denominator):
            if name not in named and (name != AMOUNT or name == ratio.denominator):
                raise DefinitionError(
                    f"Ratio {ratio.name!r} uses {name!r}, which is not an aggregate of the plan."
                )


def check_columns(
    request: Sequence[RequestFeature],
    filter_sets: Sequence[tuple[Filter, ...]],
    numbers: frozenset[str],
    distinct: Sequence[str],
) -> None:
    """Check how a plan uses columns.

    Args:
        request: Its features of a request.
        filter_sets, numbers, distinct: See `Plan.filter_sets`, `Plan.number_columns` and
            `Plan.distinct_columns`.

    Raises:
        DefinitionError: One is used in two ways, or there are too many filters.
    """
    texts = {f.column for f in request if f.kind == "category"} | {
        condition.column
        for conditions in filter_sets
        for condition in conditions
        if isinstance(condition.value, str)
    }
    for column in sorted(numbers & (texts | set(distinct))):
        raise DefinitionError(
            f"Attribute {column!r} is used as a number and as text. Use it one way."
        )
    for column in sorted(numbers & set(ENTITY_COLUMNS)):
        raise DefinitionError(f"{column!r} is an identifier; it cannot be used as a number.")
    if len(filter_sets) > MAX_FILTER_SETS:
        raise DefinitionError(
            f"The plan has {len(filter_sets)} different filters; at most {MAX_FILTER_SETS}."
        )


def _check_aggregate(view: View, aggregate: Aggregate) -> None:
    where = f"Feature {aggregate.name!r} of view {view.name!r}"
    if aggregate.window_us <= 0 or aggregate.hop_us <= 0 or aggregate.offset_us < 0:
        raise DefinitionError(
            f"{where} needs a window and a hop above 0 and an offset of 0 or more."
        )
    if aggregate.hop_us > aggregate.window_us:
        raise DefinitionError(f"{where} has a hop longer than its window.")
    row = FUNCTIONS[aggregate.function]
    if row.takes is Takes.AMOUNTS and aggregate.column != AMOUNT:
        raise DefinitionError(f"{where}: {row.name} works on {AMOUNT!r}, not {aggregate.column!r}.")
    if row.takes is Takes.VALUES and not aggregate.column:
        raise DefinitionError(f"{where}: {row.name} needs a column.")
    if row.capacity and not 1 <= aggregate.capacity <= MAX_CAPACITY:
        raise DefinitionError(f"{where}: {row.name} needs a capacity of 1 to {MAX_CAPACITY}.")
    if aggregate.offset_us and not row.offset:
        raise DefinitionError(f"{where}: {row.name} takes no offset.")
    if aggregate.filters and not row.filters:
        raise DefinitionError(f"{where}: {row.name} takes no filter.")
    for condition in aggregate.filters:
        if isinstance(condition.value, str) and condition.column == AMOUNT:
            raise DefinitionError(
                f"{where}: {AMOUNT!r} is a number; compare it with a number, "
                f"not with {condition.value!r}."
            )
        if isinstance(condition.value, float) and not math.isfinite(condition.value):
            raise DefinitionError(f"{where}: a filter compares with a finite number or with text.")
        if isinstance(condition.value, str) and condition.operator not in ("==", "!="):
            raise DefinitionError(
                f"{where}: text is compared by == or !=, not by {condition.operator}."
            )
