"""What a feature is, by a hash of its own: the same in every plan that defines it alike.

A plan's hash changes with any of its features. A vector that was served under an old plan still
holds, column by column, the values of a new one where the definitions are the same.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import Plan


def definition_hashes(plan: Plan) -> tuple[str, ...]:
    """Sixteen hex digits for each feature of a vector, in its order.

    A hash covers all that the feature's value depends on: the plan's format, entity keys,
    function, column, window, hop, offset, filters, capacity, and the dictionary of a category; of a
    ratio the definitions of its two parts. It covers no name and no words: a feature that was
    renamed is the same, and so is one of a view that was renamed or has other features beside it.
    """
    hashes: dict[str, str] = {}
    for view in plan.views:
        for aggregate in view.aggregates:
            rest = _without_name(aggregate)
            hashes[aggregate.name] = _hash("aggregate", plan.format, view.keys, rest)
    for feature in plan.request:
        hashes[feature.name] = _hash("request", plan.format, _without_name(feature))
    for ratio in plan.ratios:
        parts = [hashes.get(name, name) for name in (ratio.numerator, ratio.denominator)]
        hashes[ratio.name] = _hash("ratio", plan.format, parts)
    return tuple(hashes[name] for name in plan.feature_names)


def matching_columns(served: Plan, wanted: Plan) -> npt.NDArray[np.int64]:
    """Where a vector of one plan has the features of another.

    Args:
        served: The plan of the vectors that there are.
        wanted: The plan whose features are looked for.

    Returns:
        int64 (features of ``wanted``,): the column of each in a vector of ``served``, -1 where it
        has none with the same definition.
    """
    columns: dict[str, int] = {}
    for column, definition in enumerate(definition_hashes(served)):
        columns.setdefault(definition, column)
    found = [columns.get(definition, -1) for definition in definition_hashes(wanted)]
    return np.array(found, dtype=np.int64)


def _without_name(feature: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(feature)
    return {name: value for name, value in fields.items() if name not in ("name", "words")}


def _hash(*definition: object) -> str:
    return hashlib.sha256(msgspec.json.encode(definition, order="sorted")).hexdigest()[:16]
