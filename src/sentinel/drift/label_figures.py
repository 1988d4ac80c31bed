"""What is told of drift of labels, for those who compute nothing of it."""

from __future__ import annotations

import time
from typing import Final

import msgspec

ALL_PAYMENTS: Final = "all payments"
STREAM_WORDS: Final = {
    "early share": "share of fraud that is reported within a week",
    "share": "share of fraud",
    "share given probability": "frauds for each one that the model expects",
    "delay": "share of frauds that are reported after a week",
}
"""Streams of labels in words."""


class LabelChange(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of labels that has moved.

    Attributes:
        stream: A key of `STREAM_WORDS`.
        since_day: The first day of payments of the change, since 1970, as the evidence has it.
        found_day: The day of payments that raised the alarm.
        before, now: The figure in the reference, and from the change until it was found.
        evidence: Of all streams together when it was found.
        ended_day: The last day of payments of the fortnight that looked like the reference again;
            None while it is on.
        silence: Why it raises no alarm; empty if it does, while it is on.
        plan: What was planned that explains it; empty if nothing was said.
    """

    stream: str
    since_day: int
    found_day: int
    before: float
    now: float
    evidence: float
    ended_day: int | None = None
    silence: str = ""
    plan: str = ""

    @property
    def name(self) -> str:
        """What silences and planned changes call it, where others have a feature."""
        return f"labels: {self.stream}"

    @property
    def raises_alarm(self) -> bool:
        """Whether it is on and not silenced."""
        return self.ended_day is None and not self.silence

    @property
    def words(self) -> str:
        """It in a sentence without a full stop.

        >>> LabelChange(stream="share", since_day=20_000, found_day=20_030, before=0.01, now=0.021,
        ...             evidence=160.0).words
        'share of fraud: 1.00% before, 2.10% for payments since 2024-10-04'
        """
        share = "per fraud" if self.stream == "share given probability" else ""
        before, now = (
            f"{value:.2f}" if share else f"{value:.2%}" for value in (self.before, self.now)
        )
        return (
            f"{STREAM_WORDS.get(self.stream, self.stream)}: {before} before, {now} for payments "
            f"since {day_words(self.since_day)}"
        )


class LabelDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day of payments, as labels tell it by now; None where that is not known yet.

    Attributes:
        day: Since 1970.
        payments: Decided, weighted for those whose truth decisions hide.
        early_share, share, given_probability, delay: The streams' figures; see `STREAM_WORDS`.
    """

    day: int
    payments: float
    early_share: float | None = None
    share: float | None = None
    given_probability: float | None = None
    delay: float | None = None


class LabelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What labels say of change.

    Attributes:
        missing: Why nothing is tested, and what to do; empty if it is.
        as_of_us: The end of the log that it is of, microseconds UTC.
        model_version: The champion then; empty if there was none.
        reference_first_day, reference_last_day: The days that others are held against, since 1970.
        tested_days: How many were.
        changes: The newest first.
        days: The oldest first, at most `MOST_DAYS_TOLD`.
    """

    missing: str = ""
    as_of_us: int = 0
    model_version: str = ""
    reference_first_day: int = 0
    reference_last_day: int = 0
    tested_days: int = 0
    changes: tuple[LabelChange, ...] = ()
    days: tuple[LabelDay, ...] = ()

    @property
    def alarms(self) -> tuple[LabelChange, ...]:
        """Changes that are on and not silenced."""
        return tuple(one for one in self.changes if one.raises_alarm)


MOST_DAYS_TOLD: Final = 180
"""Days of payments whose figures are told one by one."""


def day_words(day: int) -> str:
    """A day since 1970, in words.

    >>> day_words(20_000)
    '2024-10-04'
    """
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
