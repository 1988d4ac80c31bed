"""What a digest says of drift: figures, what was found or came back, and what is on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from sentinel.drift.alarms import by_feature
from sentinel.drift.notices import HOUR_US
from sentinel.drift.rows import RecordedChange
from sentinel.drift.store import open_drift
from sentinel.pipeline.drift_words import hour_words
from sentinel.settings import Settings

MOST_TOLD: Final = 5
"""Features that a digest names in each of its lists."""


class DriftDigest(msgspec.Struct, frozen=True, kw_only=True):
    """Drift over a time.

    Attributes:
        found: Changes that were found in it, of whichever model.
        alarms: Changes that are on now and not silenced, of the model that decides.
        changed, waits: Sentences.
    """

    found: int = 0
    alarms: int = 0
    changed: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()


def drift_digest(settings: Settings, start_us: int, end_us: int, now_us: int) -> DriftDigest:
    """What is known of drift.

    Args:
        settings: The deployment.
        start_us, end_us: The time; the end is exclusive, microseconds UTC.
        now_us: The clock, for silences.

    Raises:
        LedgerUnavailable, WorkspaceError: The record cannot be read.
    """
    store = open_drift(settings)
    try:
        every, alarms = store.changes(now_us), store.open_alarms(now_us)
        labels = store.labels(now_us)
    finally:
        store.close()

    def within(hour: int) -> bool:
        return start_us <= hour * HOUR_US < end_us

    found = [one for one in every if within(one.change.at_hour)]
    ended = [one for one in every if one.change.ended_hour and within(one.change.ended_hour)]
    changed = _sentences(found, "changed") + _sentences(ended, "as before again")
    waits = []
    if alarms:
        features = list(by_feature(alarms))
        more = len(features) - MOST_TOLD
        waits.append(
            f"Payments have changed in {', '.join(features[:MOST_TOLD])}"
            f"{f' and {more} more features' if more > 0 else ''}, and nobody silenced it: "
            "`sentinel drift report` says how far and what it does to the model."
        )
    if labels is not None and labels.alarms:
        told = "; ".join(one.words for one in labels.alarms)
        waits.append(f"Labels have changed, and nobody silenced it: {told}.")
    return DriftDigest(
        found=len(found), alarms=len(alarms), changed=tuple(changed), waits=tuple(waits)
    )


def _sentences(changes: Sequence[RecordedChange], what: str) -> list[str]:
    """A sentence for each feature: where, how far, and since when."""
    said = []
    features = by_feature(changes)
    for feature, some in list(features.items())[:MOST_TOLD]:
        first = max(some, key=lambda one: one.change.total_variation)
        segments = len({one.change.segment for one in some})
        where = first.change.segment + (f" and {segments - 1} more segments" * (segments > 1))
        if what == "changed":
            change = first.change
            told = (
                f"Drift: {feature} in {where} changed since {hour_words(change.since_hour)} UTC "
                f"({change.question}: {change.was:.1%} to {change.now:.1%})"
            )
            if first.plan is not None:
                told += f"; planned: {first.plan.why}"
            if first.silence is not None:
                told += f"; silenced: {first.silence.why}"
        else:
            told = f"Drift: {feature} in {where}: {first.change.ended_words}"
        said.append(f"{told}.")
    if len(features) > MOST_TOLD:
        rest = len(features) - MOST_TOLD
        said.append(f"Drift: {rest} more features {'changed' if what == 'changed' else 'ended'}.")
    return said
