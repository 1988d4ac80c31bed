"""Changes of labels over time: found, come back, and found again.

`sentinel.drift.label_drift` names the first change after a reference. Here a change ends once a
fortnight of known days looks more like the reference than like the change; days after that are
tested anew, with those of the change left out.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from sentinel.drift.label_drift import LabelDays, counted, label_drift
from sentinel.drift.label_figures import MOST_DAYS_TOLD, LabelChange, LabelDay, LabelFigures

BACK_DAYS: Final = 14
"""Known days in a row that must look like the reference before a change has ended."""
MOST_CHANGES: Final = 20
"""Changes that are told of one reference."""


def label_changes(
    days: LabelDays, reference_days: int, *, false_alarms_a_month: float
) -> LabelFigures:
    """Hold days of payments against the first ones, over and over.

    Args:
        days: As far as they are known.
        reference_days: So many of the first are the reference.
        false_alarms_a_month: See `label_drift`.
    """
    found: list[LabelChange] = []
    told = label_drift(days, reference_days, false_alarms_a_month=false_alarms_a_month)
    rest = days
    while told.change is not None and len(found) < MOST_CHANGES:
        change = told.change
        ended = _came_back(rest, change.stream, change.found_day, change.before, change.now)
        found.append(
            LabelChange(
                stream=change.stream,
                since_day=change.since_day,
                found_day=change.found_day,
                before=change.before,
                now=change.now,
                evidence=change.evidence,
                ended_day=ended,
            )
        )
        if ended is None:
            break
        rest = _without(rest, reference_days, ended)
        told = label_drift(rest, reference_days, false_alarms_a_month=false_alarms_a_month)
    first = int(days.day[0]) if len(days.day) else 0
    return LabelFigures(
        missing=told.missing,
        reference_first_day=first,
        reference_last_day=first + reference_days - 1,
        tested_days=0 if told.missing else int(np.isfinite(days.early[reference_days:]).sum()),
        changes=tuple(reversed(found)),
        days=_told(days),
    )


def _came_back(
    days: LabelDays, stream: str, found_day: int, before: float, now: float
) -> int | None:
    """The last of a fortnight that is nearer to the reference than to the change; None: none is."""
    count, among = counted(days, stream)
    after = np.flatnonzero(np.isfinite(count) & np.isfinite(among) & (days.day > found_day))
    border = np.sqrt(max(before, 1e-9) * max(now, 1e-9))
    for end in range(BACK_DAYS, len(after) + 1):
        span = after[end - BACK_DAYS : end]
        total = float(among[span].sum())
        if total > 0 and (float(count[span].sum()) / total < border) == (now > before):
            return int(days.day[span[-1]])
    return None


def _without(days: LabelDays, reference_days: int, until_day: int) -> LabelDays:
    """The days, with nothing known of those between the reference and a day, which is included."""
    out = (np.arange(len(days.day)) >= reference_days) & (days.day <= until_day)
    return dataclasses.replace(
        days,
        early=np.where(out, np.nan, days.early),
        frauds=np.where(out, np.nan, days.frauds),
        slow=np.where(out, np.nan, days.slow),
    )


def _told(days: LabelDays) -> tuple[LabelDay, ...]:
    shares = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        for stream in ("early share", "share", "share given probability", "delay"):
            count, among = counted(days, stream)
            shares[stream] = np.where(among > 0, count / among, np.nan)

    def share(stream: str, at: int) -> float | None:
        value = float(shares[stream][at])
        return value if np.isfinite(value) else None

    return tuple(
        LabelDay(
            day=int(days.day[at]),
            payments=float(days.payments[at]),
            early_share=share("early share", at),
            share=share("share", at),
            given_probability=share("share given probability", at),
            delay=share("delay", at),
        )
        for at in range(max(0, len(days.day) - MOST_DAYS_TOLD), len(days.day))
    )
