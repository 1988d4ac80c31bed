"""The time that payments are stamped with, as long as it can be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sentinel.domain import ClockJumped

JUMP_US: Final = 60_000_000
"""The wall clock may move against the steady one by so much between two payments."""

_STEADY: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def wall_us() -> int:
    """The wall clock, microseconds UTC."""
    return time.time_ns() // 1000


def steady_us() -> int:
    """A clock that nobody can set, microseconds since some start; it runs while machines sleep."""
    return time.clock_gettime_ns(_STEADY) // 1000


class ReceiptClock:
    """The wall clock, held against a steady one, and never backwards.

    Slow corrections are followed. If the wall clock jumps, nothing is stamped until it agrees with
    the steady clock again: one payment stamped a year ahead would move its entities' windows there
    for good. A clock that lies behind the log at the start is wrong in the same way: nothing is
    stamped until it has come near the log's end, and from there on it is followed.

    Args:
        last_us: Time of the last entry of the log; nothing is stamped before it.
        wall, steady: The two clocks, in microseconds.
    """

    def __init__(
        self,
        last_us: int = 0,
        wall: Callable[[], int] = wall_us,
        steady: Callable[[], int] = steady_us,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()
        self._behind = wall() < last_us - JUMP_US
        self.last_us = last_us

    def now_us(self) -> int:
        """The time to stamp on what arrives now, microseconds UTC.

        Raises:
            ClockJumped: The wall clock has jumped, or was behind the log at the start.
        """
        now = self._wall()
        offset = now - self._steady()
        if self._behind:
            self._check_against_log(now)
            self._behind, self._offset = False, offset
        jump = offset - self._offset
        if -JUMP_US <= jump <= JUMP_US:
            self._offset = offset
            if now < self.last_us:
                now = self.last_us
            self.last_us = now
            return now
        raise ClockJumped(
            f"This machine's clock has jumped by {jump / 1e6:+,.0f} s. Nothing is decided until it "
            "agrees with the time that has passed, so that no payment is stamped with a wrong "
            "time. Set the clock right (look at its time service); if it was wrong before and is "
            "right now, start the scorer anew."
        )

    def _check_against_log(self, now: int) -> None:
        behind = self.last_us - now
        if behind > JUMP_US:
            raise ClockJumped(
                f"This machine's clock is {behind / 1e6:,.0f} s behind the last entry of the log. "
                "Nothing is decided until it is not, so that no payment is stamped with a wrong "
                "time. Set the clock right (look at its time service); the scorer goes on by "
                "itself then."
            )
