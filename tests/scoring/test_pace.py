"""What takes long gives way to single payments, and gets on all the same."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from sentinel.domain import Transaction
from sentinel.scoring.pace import Pace
from sentinel.scoring.pending import FutureReceiver, Pending
from sentinel.scoring.queue import PaymentQueue, QueueLimits
from sentinel.scoring.turn import Turn


def pending(*, batched: bool = False) -> Pending:
    transaction = Transaction(
        transaction_id="t", event_time_us=1, received_at_us=1, amount_minor=100
    )
    return Pending(transaction, FutureReceiver(), time.perf_counter_ns(), False, batched)


async def seconds_of(call: Callable[[], None], times: int) -> float:
    def repeated() -> float:
        began = time.perf_counter()
        for _ in range(times):
            call()
        return time.perf_counter() - began

    return await asyncio.to_thread(repeated)


async def parts() -> tuple[PaymentQueue, Turn, Pace]:
    queue = PaymentQueue(QueueLimits())

    def begin(_group: list[Pending]) -> None:
        turn.begun()

    turn = Turn(queue, begin, asyncio.get_running_loop())
    return queue, turn, Pace(queue, turn)


def singles_are_decided(turn: Turn) -> bool:
    return turn.decides_singles


def is_idle(turn: Turn) -> bool:
    return turn.is_idle


def test_a_thread_pauses_while_a_single_payment_is_decided_and_not_for_ever() -> None:
    async def claim() -> None:
        queue, turn, pace = await parts()
        free = min([await seconds_of(pace.give_way, 50) for _ in range(3)])
        queue.add(pending(), batched=False)
        turn.schedule()
        waiting = await seconds_of(pace.give_way, 50)
        assert singles_are_decided(turn)  # it waited, and is at work by now
        at_work = await seconds_of(pace.give_way, 50)
        assert min(waiting, at_work) >= 50 * 0.002
        turn.done()
        assert not singles_are_decided(turn)
        assert free < min(waiting, at_work)

    asyncio.run(claim())


def test_threads_with_long_work_get_no_more_pieces_together_than_one_does() -> None:
    async def claim() -> None:
        queue, turn, pace = await parts()
        queue.add(pending(), batched=False)
        turn.schedule()
        await asyncio.sleep(0.01)
        assert singles_are_decided(turn)
        began = time.perf_counter()
        await asyncio.gather(*(seconds_of(pace.give_way, 25) for _ in range(4)))
        assert time.perf_counter() - began >= 4 * 25 * 0.002

    asyncio.run(claim())


def test_pieces_of_threads_that_do_not_ask_again_come_one_after_the_other() -> None:
    async def claim() -> None:
        _, _, pace = await parts()
        threads = [threading.Thread(target=pace.give_way) for _ in range(40)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert time.perf_counter() - began >= 39 * 0.000_5

    asyncio.run(claim())


def test_nobody_pauses_for_batches_and_the_event_loop_never() -> None:
    async def claim() -> None:
        queue, turn, pace = await parts()
        queue.add(pending(batched=True), batched=True)
        turn.schedule()
        await asyncio.sleep(0.01)
        assert not singles_are_decided(turn)
        queue.add(pending(), batched=False)
        assert singles_are_decided(turn)
        began = time.perf_counter()
        for _ in range(1_000):
            pace.give_way()
        assert time.perf_counter() - began < 1.0  # with pauses it would be 2 s

    asyncio.run(claim())


def test_a_job_rests_as_long_as_it_took_while_single_payments_come() -> None:
    async def claim() -> None:
        queue, turn, pace = await parts()
        assert pace.rest_seconds(0.004) == 0
        queue.add(pending(), batched=False)
        assert pace.rest_seconds(0.004) == 0.004
        ran: list[float] = []
        began = time.perf_counter()
        queue.take()
        turn.run_job_after(0.02, lambda: ran.append(time.perf_counter() - began))
        assert not is_idle(turn)  # whoever ends the process waits for the job
        await asyncio.sleep(0.05)
        assert is_idle(turn)
        assert ran[0] >= 0.02

    asyncio.run(claim())
