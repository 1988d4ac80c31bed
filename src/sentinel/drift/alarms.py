"""Changes that are on, feature by feature: what alerts and metrics are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sentinel.drift.rows import RecordedChange

MOST_FEATURES: Final = 50
"""Features that have an alert and a series of their own."""
OTHERS: Final = "other features"
"""Stands for all further ones."""


def by_feature(changes: Iterable[RecordedChange]) -> dict[str, Sequence[RecordedChange]]:
    """Changes by the feature that they are of, what was found first before what came later.

    Where more than `MOST_FEATURES` changed, those that were found last are together under
    `OTHERS`: so a feature keeps its name for as long as its changes last.
    """
    found: dict[str, list[RecordedChange]] = {}
    for one in sorted(changes, key=lambda one: (one.change.at_hour, one.change.feature)):
        name = one.change.feature
        if name not in found and len(found) >= MOST_FEATURES:
            name = OTHERS
        found.setdefault(name, []).append(one)
    return dict(found)


def alarm_counts(changes: Iterable[RecordedChange]) -> dict[str, int]:
    """How many changes of each feature are on and not silenced.

    Args:
        changes: Of one model, the newest first. Features whose changes have ended or are silenced
            count 0, so that what watches a feature sees its end; with those that count more they
            are `MOST_FEATURES` at most.
    """
    changes = list(changes)
    on = by_feature(one for one in changes if one.raises_alarm)
    found = {feature: len(some) for feature, some in on.items()}
    for one in changes:
        if len(found) >= MOST_FEATURES:
            break
        found.setdefault(one.change.feature, 0)
    return found
