"""What people say of changes: silences, and changes that are planned.

A *silence* is a window in which changes are recorded and raise no alarm. A *planned change* is said
in advance, such as a new merchant or a release; it is shown at the changes that it explains.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

HOUR_US: Final = 3_600_000_000
DAY_HOURS: Final = 24
AFTERWARDS_HOURS: Final = 72
"""So long after a silence's end, what began in it raises no alarm."""
MOST_TEXT: Final = 1_000
MOST_NOTICES: Final = 10_000
"""Silences and plans that are kept."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A silence or a planned change.

    Attributes:
        id: Counted from 1; 0 until it is stored.
        kind: Which of the two.
        why: In words. Of a plan: what is planned.
        by: Who said it.
        said_at_us: When it was said, microseconds UTC.
        from_us, until_us: The window; the end is exclusive.
        feature, segment: Names, ``*`` and ``?`` allowed; ``*``: all of them.
    """

    id: int = 0
    kind: Literal["silence", "plan"]
    why: str
    by: str
    said_at_us: int
    from_us: int
    until_us: int
    feature: str = "*"
    segment: str = "*"

    def is_about(self, feature: str, segment: str) -> bool:
        """Whether it is about a feature in a segment.

        >>> notice = Notice(kind="silence", why="", by="", said_at_us=0, from_us=0, until_us=9,
        ...                 feature="amount*")
        >>> notice.is_about("amount_mean", "all payments"), notice.is_about("score", "a")
        (True, False)
        """
        return fnmatch.fnmatchcase(feature, self.feature) and fnmatch.fnmatchcase(
            segment, self.segment
        )

    def holds_at(self, at_us: int) -> bool:
        """Whether a moment lies in its window."""
        return self.from_us <= at_us < self.until_us

    def touches(self, first_hour: int, last_hour: int) -> bool:
        """Whether its window meets these hours since 1970, both included.

        One that was ended before it began has an empty window, which meets none.
        """
        if self.until_us <= self.from_us:
            return False
        return self.from_us < (last_hour + 1) * HOUR_US and first_hour * HOUR_US < self.until_us


def silence_of(
    notices: Iterable[Notice],
    feature: str,
    segment: str,
    since_hour: int,
    at_hour: int,
    now_us: int,
) -> Notice | None:
    """The silence that keeps a change from raising an alarm; None if there is none.

    Args:
        notices: All of them.
        feature, segment: Of the change.
        since_hour, at_hour: When it began, and when it was found. A change that was found in a
            silence's window raises no alarm after it either, nor does one that began in it and was
            found within `AFTERWARDS_HOURS` of its end: it is made of what was silenced.
        now_us: A silence that holds now keeps older changes still, too.
    """
    # What began more than two days before it was found is known to the day.
    known_to = DAY_HOURS if since_hour % DAY_HOURS == 0 and at_hour - since_hour >= 48 else 1
    for notice in notices:
        if notice.kind == "silence" and notice.is_about(feature, segment):
            if notice.holds_at(now_us) or notice.touches(at_hour, at_hour):
                return notice
            began_in_it = notice.touches(since_hour, since_hour + known_to - 1)
            if began_in_it and at_hour * HOUR_US < notice.until_us + AFTERWARDS_HOURS * HOUR_US:
                return notice
    return None


def plan_of(
    notices: Iterable[Notice], feature: str, segment: str, since_hour: int, at_hour: int
) -> Notice | None:
    """The planned change that explains one; None if there is none.

    Args:
        notices: All of them.
        feature, segment: Of the change.
        since_hour, at_hour: When it began, and when it was found: the plan's window meets them.
    """
    for notice in notices:
        if notice.kind == "plan" and notice.is_about(feature, segment):
            if notice.touches(since_hour, at_hour):
                return notice
    return None
