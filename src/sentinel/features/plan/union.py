"""The union of plans: one vector that holds the features of several.

The first plan's views, features and names stay as they are, and what other plans define beside
them is added. A feature that two plans define alike is there once, whatever they call it. Values
of a column depend on its own definition alone (`definition_hashes`), so a model that takes its
columns of the union's vectors is given the bits of its own plan.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from sentinel.features.plan.definition_hashes import definition_hashes
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Aggregate, View
from sentinel.features.plan.plan import Plan


def union_plan(first: Plan, *others: Plan) -> Plan:
    """The plan with the features of all.

    Args:
        first: Keeps its names; it is returned itself if the others define nothing beside it.
        others: Theirs are added in order. One whose name is taken by another feature gets eight
            digits of its definition's hash behind it.

    Raises:
        DefinitionError: They cannot be one plan: an attribute is a number in one and text in
            another, or there are too many filters.
    """
    union = first
    for other in others:
        union = _joined(union, other)
    return union


def _joined(plan: Plan, other: Plan) -> Plan:
    names = {h: name for name, h in _by_name(plan).items()}
    hashes = _by_name(other)
    if names.keys() >= set(hashes.values()):
        return plan
    taken = set(plan.feature_names)

    def added(name: str) -> str | None:
        """What a feature of the other plan is called from now on; None if it is there already."""
        definition = hashes[name]
        if definition in names:
            return None
        made = names[definition] = _free(name, definition, taken)
        taken.add(made)
        return made

    views = list(plan.views)
    for view in other.views:
        new: list[Aggregate] = []
        for aggregate in view.aggregates:
            name = added(aggregate.name)
            if name is not None:
                new.append(msgspec.structs.replace(aggregate, name=name))
        if new:
            _add_to_view(views, view, tuple(new))
    request = list(plan.request)
    for feature in other.request:
        name = added(feature.name)
        if name is not None:
            request.append(msgspec.structs.replace(feature, name=name))
    ratios = list(plan.ratios)
    for ratio in other.ratios:
        name = added(ratio.name)
        if name is not None:
            numerator, denominator = (
                part if part == AMOUNT else names[hashes[part]]
                for part in (ratio.numerator, ratio.denominator)
            )
            ratios.append(
                msgspec.structs.replace(
                    ratio, name=name, numerator=numerator, denominator=denominator
                )
            )
    return Plan(tuple(views), tuple(request), tuple(ratios))


def _by_name(plan: Plan) -> dict[str, str]:
    return dict(zip(plan.feature_names, definition_hashes(plan), strict=True))


def _add_to_view(views: list[View], view: View, aggregates: tuple[Aggregate, ...]) -> None:
    """Add to the view of the same entity; to one of its own if there is none."""
    for place, known in enumerate(views):
        if known.keys == view.keys:
            both = (*known.aggregates, *aggregates)
            views[place] = msgspec.structs.replace(known, aggregates=both)
            return
    name, taken = view.name, {known.name for known in views}
    while name in taken:
        name += "_of_another_plan"
    views.append(View(name, view.keys, aggregates))


def _free(name: str, definition: str, taken: Container[str]) -> str:
    if name not in taken:
        return name
    free = f"{name}_{definition[:8]}"
    while free in taken:
        free += "_"
    return free
