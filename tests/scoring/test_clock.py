"""A clock that cannot be trusted stamps no payment."""

from __future__ import annotations

import pytest

from sentinel.domain import ClockJumped, Unavailable
from sentinel.scoring.clock import JUMP_US, ReceiptClock, steady_us, wall_us

YEAR_US = 365 * 86_400_000_000
SECOND_US = 1_000_000


class Times:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.wall = 1_700_000_000_000_000
        self.steady = 5_000

    def pass_on(self, us: int, *, wall_gains: int = 0) -> None:
        self.steady += us
        self.wall += us + wall_gains

    def clock(self, last_us: int = 0) -> ReceiptClock:
        return ReceiptClock(last_us, lambda: self.wall, lambda: self.steady)


@pytest.mark.parametrize("jump", [YEAR_US, -YEAR_US, JUMP_US + 1, -JUMP_US - 1])
def test_nothing_is_stamped_while_the_clock_is_wrong(jump: int) -> None:
    times = Times()
    clock = times.clock()
    assert clock.now_us() == times.wall
    times.pass_on(SECOND_US, wall_gains=jump)
    for _ in range(3):
        with pytest.raises(ClockJumped, match=r"clock has jumped by [+-][\d,]+ s") as refused:
            clock.now_us()
        times.pass_on(SECOND_US)
    assert isinstance(refused.value, Unavailable)  # a 503: come again
    times.pass_on(SECOND_US, wall_gains=-jump)
    assert clock.now_us() == times.wall, "it recovers by itself"


def test_slow_corrections_are_followed_however_far_they_lead() -> None:
    times = Times()
    clock = times.clock()
    start = times.wall
    for _ in range(200):
        times.pass_on(SECOND_US, wall_gains=SECOND_US)
        assert clock.now_us() == times.wall
    assert times.wall - start > 3 * JUMP_US


def test_time_never_goes_back() -> None:
    times = Times()
    last = times.wall + 10 * SECOND_US
    clock = times.clock(last)
    assert clock.now_us() == last, "the log's last entry is a little ahead"
    times.pass_on(20 * SECOND_US)
    now = clock.now_us()
    assert now == times.wall
    times.pass_on(0, wall_gains=-5 * SECOND_US)
    assert clock.now_us() == now


def test_this_machines_clocks_agree() -> None:
    clock = ReceiptClock()
    assert abs(clock.now_us() - wall_us()) < 10 * SECOND_US
    assert steady_us() <= steady_us()


def test_a_clock_that_is_behind_the_log_at_the_start_stamps_nothing_until_it_is_set() -> None:
    times = Times()
    clock = times.clock(times.wall + YEAR_US)
    for _ in range(3):
        times.pass_on(SECOND_US)
        with pytest.raises(ClockJumped, match=r"31,535,9\d\d s behind the last entry of the log"):
            clock.now_us()
    times.pass_on(SECOND_US, wall_gains=YEAR_US)
    assert clock.now_us() == times.wall, "it was set right, and is followed from there on"
    times.pass_on(SECOND_US, wall_gains=-YEAR_US)
    with pytest.raises(ClockJumped, match="clock has jumped"):
        clock.now_us()
