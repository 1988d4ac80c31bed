"""Whose turn it is, whoever gives up waiting for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from sentinel.scoring.queue import PaymentQueue, QueueLimits
from sentinel.scoring.turn import Turn


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
