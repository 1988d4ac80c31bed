"""Whether labels still arrive: a feed that stopped looks like fraud that has ended.

A payment without a label is legitimate once it is mature. That holds as long as labels come. If
they stop, every fraud from then on turns legitimate with its maturity, and a model that is fitted
on that learns to let it pass. So the silence since the newest label is held against the pauses that
the feed has had: nights, weekends, the week between two files.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US

Ints = npt.NDArray[np.int64]

FEWEST_ARRIVALS: Final = 10
"""Of fewer moments at which labels arrived nothing is said."""
SPAN_DAYS: Final = 90
SPAN_US: Final = SPAN_DAYS * DAY_US
"""Pauses of so long before the newest label count; an outage a year ago excuses none today."""
USUAL_SHARE: Final = 0.95
"""A pause is usual if this share of all time lies in pauses no longer than it."""
FACTOR: Final = 2.0
"""The feed has stopped if it is silent for so many usual pauses, and for a day at least."""


@dataclass(frozen=True)
class LabelFeed:
    """How the feed of labels does at a moment.

    Attributes:
        now_us: The moment.
        newest_us: When the newest label arrived; None if none has.
        usual_us: The longest pause that is usual; None where too few labels came to tell.
        limit_us: The longest silence that is accepted; None where any is.
    """

    now_us: int
    newest_us: int | None = None
    usual_us: int | None = None
    limit_us: int | None = None

    @property
    def silent_us(self) -> int:
        """How long no label has come; 0 if none ever has."""
        return 0 if self.newest_us is None else max(0, self.now_us - self.newest_us)

    @property
    def stopped(self) -> bool:
        """Whether labels stopped arriving."""
        return self.limit_us is not None and self.silent_us > self.limit_us

    def __str__(self) -> str:
        if self.newest_us is None:
            return "no label has arrived yet"
        newest = f"{datetime.fromtimestamp(self.newest_us / 1e6, UTC):%Y-%m-%d %H:%M}"
        digits = _telling(self.silent_us, self.limit_us)
        silent = _days(self.silent_us, digits)
        said = f"the newest of {newest} UTC, {silent} before the end of the log"
        if self.limit_us is None:
            return f"{said}; too few arrived to know their rhythm"
        usual = (
            "" if self.usual_us is None else f"pauses are usually up to {_days(self.usual_us)}, "
        )
        return f"{said}; {usual}{_days(self.limit_us, digits)} are accepted"


def label_feed(
    arrived_at_us: npt.ArrayLike, now_us: int, *, accepted_us: int | None = None
) -> LabelFeed:
    """Hold the silence since the newest label against the pauses before it.

    Pauses are weighed by their length: a feed that sends a thousand labels at once every Monday has
    pauses of a week, though nearly all of its labels come right after another.

    Args:
        arrived_at_us: int64 (n_labels,), in any order; those from `now_us` on do not count.
        now_us: The moment.
        accepted_us: The longest silence to accept; None to go by the pauses.

    >>> mondays = np.repeat(np.arange(12) * 7 * DAY_US, 100)
    >>> label_feed(mondays, mondays.max() + 13 * DAY_US).stopped
    False
    >>> label_feed(mondays, mondays.max() + 15 * DAY_US).stopped
    True
    """
    now_us = int(now_us)
    arrivals = np.unique(np.asarray(arrived_at_us, dtype=np.int64))
    arrivals = arrivals[arrivals < now_us]
    if len(arrivals) == 0:
        return LabelFeed(now_us)
    newest = int(arrivals[-1])
    recent = arrivals[arrivals >= newest - SPAN_US]
    if len(recent) < FEWEST_ARRIVALS:
        return LabelFeed(now_us, newest, None, accepted_us)
    pauses = np.sort(np.diff(recent))
    until = np.cumsum(pauses, dtype=np.float64)
    usual = int(pauses[np.searchsorted(until, USUAL_SHARE * until[-1])])
    limit = max(round(FACTOR * usual), DAY_US) if accepted_us is None else accepted_us
    return LabelFeed(now_us, newest, usual, limit)


def _days(us: int, digits: int = 1) -> str:
    """A length of time in words."""
    days = us / DAY_US
    return f"{days:.{digits}f} days" if days >= 2 else f"{24 * days:.{digits}f} hours"


def _telling(one: int, other: int | None) -> int:
    """Digits from which two lengths of time that differ are told apart."""
    if other is None or one == other:
        return 1
    return next((n for n in (1, 2, 3) if _days(one, n) != _days(other, n)), 4)
