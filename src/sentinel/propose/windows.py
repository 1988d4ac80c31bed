"""Which windows fit: by the length of the history, the step of its times, and how often an
entity recurs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sentinel.propose.roles import Roles

HOUR_SECONDS: Final = 3_600.0
DAY_SECONDS: Final = 86_400.0

LADDER: Final = (
    600.0,
    HOUR_SECONDS,
    6 * HOUR_SECONDS,
    DAY_SECONDS,
    3 * DAY_SECONDS,
    7 * DAY_SECONDS,
    14 * DAY_SECONDS,
    30 * DAY_SECONDS,
    90 * DAY_SECONDS,
    180 * DAY_SECONDS,
)
_GAPS: Final = 6.0
_LONG_ENOUGH: Final = 30 * DAY_SECONDS
_SHORT: Final = 3 * DAY_SECONDS


@dataclass(frozen=True)
class Windows:
    """Windows of one entity, in seconds, shortest first.

    Attributes:
        counts: Of counts: from bursts to what is usual.
        sums: Of sums: bursts.
        usual: Of means, deviations and maxima: what is usual.
        longest: The longest of all.
        before: How far back "usual before" begins, so that a spree does not blur it; 0 = none.
        reason: Why these.
    """

    counts: tuple[float, ...]
    sums: tuple[float, ...]
    usual: tuple[float, ...]
    longest: float
    before: float
    reason: str


def choose_windows(days: float, resolution_seconds: float, typical_count: float) -> Windows | None:
    """The windows of an entity; None if the history is too short for any.

    Args:
        days: Length of the history.
        resolution_seconds: Step in which times are told.
        typical_count: How often the entity of a typical payment recurs in the history.

    >>> windows = choose_windows(180, 1, 120)
    >>> [seconds / DAY_SECONDS for seconds in windows.usual]
    [7.0, 30.0]
    >>> choose_windows(180, 86_400, 120).counts[0] == DAY_SECONDS
    True
    """
    history = days * DAY_SECONDS
    gap = history / max(typical_count, 1.0)
    possible = [w for w in LADDER if resolution_seconds <= w <= 0.9 * history]
    if days >= 14:
        possible = [w for w in possible if w != LADDER[0]]
    if not possible:
        return None
    reach = [w for w in possible if w <= max(_LONG_ENOUGH, _GAPS * gap)] or possible[:1]
    short = [w for w in reach if w <= _SHORT]
    # Two weeks are for histories that have no month.
    long = [w for w in reach if w > _SHORT and (w != LADDER[6] or LADDER[7] not in reach)]
    usual = tuple((long or short)[-3:] if gap > 3 * DAY_SECONDS else (long or short)[-2:])
    counts = tuple(dict.fromkeys([*short[:4], *long[-3:]]))
    longest = reach[-1]
    before = next((w for w in reversed(reach) if w <= longest / 4), 0.0)
    if before + longest > 0.95 * history or before < DAY_SECONDS:
        before = 0.0
    return Windows(
        counts=counts,
        sums=tuple(short[:3]) or counts[:1],
        usual=usual,
        longest=longest,
        before=before,
        reason=f"recurs about every {duration_words(gap)} in {duration_words(history)} of history",
    )


def label_delay_days(days: float) -> float:
    """A delay of labels to assume where the data tells none: a week, less in short histories.

    >>> label_delay_days(365), label_delay_days(31), label_delay_days(2)
    (7.0, 1.0, 0.0)
    """
    if days >= 90:
        return 7.0
    return 1.0 if days >= 14 else 0.0


def rate_offset(roles: Roles) -> float:
    """How far back fraud rates end, in seconds: when most of the truth is known."""
    days = min(roles.label_days, 30.0)
    if roles.label is None or not days:
        return 0.0
    return next(w for w in LADDER if w >= max(days, 1.0) * DAY_SECONDS)


def duration_words(seconds: float) -> str:
    """A length of time for people.

    >>> duration_words(5400), duration_words(86400 * 45), duration_words(86400 * 400)
    ('1.5 hours', '45 days', '400 days')
    """
    for size, name in ((DAY_SECONDS, "days"), (HOUR_SECONDS, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size or (name == "hours" and seconds >= size):
            return f"{seconds / size:,.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:,.0f} seconds"
