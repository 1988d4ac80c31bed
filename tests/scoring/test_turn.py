"""Whose turn it is, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from sentinel.domain import Transaction
from sentinel.scoring.pending import FutureReceiver, Pending
from sentinel.scoring.queue import PaymentQueue, QueueLimits
from sentinel.scoring.turn import MOST_ADDING, Turn


def payments(number: int) -> list[Pending]:
    transaction = Transaction(
        transaction_id="t", event_time_us=1, received_at_us=1, amount_minor=1, customer_id="c"
    )
    return [
        Pending(transaction, FutureReceiver(), time.perf_counter_ns(), dry_run=False)
        for _ in range(number)
    ]


class Groups:
    """Groups that a turn begins, and what becomes of them.

    Attributes:
        sizes: Payments of each group so far.
        counts_as: What reading state for a group counts as, see `Turn.adding`.
    """

    def __init__(self, at_work: int) -> None:
        self.sizes: list[int] = []
        self.counts_as = 1
        self.queue = PaymentQueue(QueueLimits())
        self.turn = Turn(self.queue, self._begin, asyncio.get_running_loop())
        self.turn.most_at_work = at_work

    def _begin(self, group: list[Pending]) -> None:
        self.turn.begun()
        self.turn.adding += self.counts_as
        self.sizes.append(len(group))

    async def come(self, number: int, *, batched: bool = False) -> None:
        """Let payments come in."""
        for pending in payments(number):
            self.queue.add(pending, batched=batched)
        await self.settle()

    async def read(self) -> None:
        """State was read for a group; it is being committed now."""
        self.turn.adding -= self.counts_as
        await self.settle()

    async def settle(self) -> None:
        self.turn.schedule()
        await asyncio.sleep(0.01)


def test_a_group_begins_while_state_is_read_for_another_and_a_third_does_not() -> None:
    async def claim() -> None:
        groups = Groups(at_work=4)
        await groups.come(3)
        await groups.come(3)
        await groups.come(3)
        assert groups.sizes == [3, 3]
        await groups.read()
        assert groups.sizes == [3, 3, 3]

    asyncio.run(claim())


def test_payments_gather_while_a_thread_reads_state() -> None:
    async def claim() -> None:
        groups = Groups(at_work=4)
        groups.counts_as = MOST_ADDING
        await groups.come(3)
        await groups.come(3)
        await groups.come(3)
        assert groups.sizes == [3]
        await groups.read()
        assert groups.sizes == [3, 6]

    asyncio.run(claim())


@pytest.mark.parametrize(
    ("at_work", "waiting", "sizes"),
    [
        (4, 15, [15]),
        (4, 16, [8, 8]),
        (4, 65, [32, 33]),
        (4, 128, [64, 64]),
        (4, 129, [129]),
        (1, 64, [64]),
    ],
)
def test_half_of_many_single_payments_go_first_where_groups_go_beside_each_other(
    at_work: int, waiting: int, sizes: list[int]
) -> None:
    async def claim() -> None:
        groups = Groups(at_work)
        await groups.come(waiting)
        assert groups.sizes == sizes

    asyncio.run(claim())


def test_batches_are_not_halved() -> None:
    async def claim() -> None:
        groups = Groups(at_work=4)
        await groups.come(64, batched=True)
        assert groups.sizes == [64]

    asyncio.run(claim())


def within(claim: Callable[[Turn], Awaitable[None]]) -> None:
    """Run a claim about a turn in which no payments wait."""

    async def run() -> None:
        queue = PaymentQueue(QueueLimits())
        turn = Turn(queue, lambda _: None, asyncio.get_running_loop())
        async with asyncio.timeout(30):
            await claim(turn)

    asyncio.run(run())


@pytest.mark.parametrize("steps", range(6))
def test_whoever_is_cancelled_while_it_waits_for_its_turn_keeps_nobody_waiting(steps: int) -> None:
    async def claim(turn: Turn) -> None:
        task = asyncio.create_task(turn.holding(lambda: None))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert await turn.in_order(lambda: "a job") == "a job"
        assert turn.is_idle

    within(claim)


def test_nothing_begins_beside_the_thread_of_a_caller_that_was_cancelled() -> None:
    async def claim(turn: Turn) -> None:
        works, go_on = threading.Event(), threading.Event()
        order = []

        def call() -> None:
            works.set()
            go_on.wait(30)
            order.append("the thread")

        task = asyncio.create_task(turn.holding(call))
        await asyncio.to_thread(works.wait, 30)
        job = asyncio.create_task(turn.in_order(lambda: order.append("a job")))
        for _ in range(2):
            task.cancel()
            await asyncio.wait({task, job}, timeout=0.05)
        go_on.set()
        await asyncio.wait({task, job})
        assert task.cancelled()
        assert order == ["the thread", "a job"]
        assert turn.is_idle

    within(claim)


def test_an_error_of_the_thread_reaches_the_caller_and_keeps_nobody_waiting() -> None:
    async def claim(turn: Turn) -> None:
        def fail() -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await turn.holding(fail)
        assert turn.is_idle

    within(claim)
