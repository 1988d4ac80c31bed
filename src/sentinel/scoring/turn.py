"""Whose turn it is: jobs and groups of payments, one after the other or several at once.

Jobs run while no group is at work, so that what they see is durable and what they change is seen by
every later payment. All methods run on one event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from sentinel.scoring.pending import Pending
from sentinel.scoring.queue import MAX_GROUP, PaymentQueue

T = TypeVar("T")

log = logging.getLogger(__name__)

_LONGEST_WAIT_SECONDS: Final = 0.002
"""A group that is smaller than the one before waits for others so long at most, while that one is
at work: what a group costs is shared by all in it."""


MOST_ADDING: Final = 2
"""State is read for so many groups at once on the event loop: the second is encoded and sent while
the server works on the first. A group that a thread reads for counts as many, so that payments
gather meanwhile."""

_IN_HALVES: Final = range(16, 129)
"""Where so many single payments wait and nothing is at work, half of them go first, so that the
server and the event loop have a group each; fewer are decided together, which costs less."""


class Turn:
    """Takes payments out of the queue, and jobs in between.

    Args:
        queue: Payments that wait.
        begin: Begins to work on a group; it calls `begun` and `done` for what goes on afterwards.
        loop: The event loop.

    Attributes:
        most_at_work: How many groups may be at work at once.
        adding: Groups for which state is being read; see `MOST_ADDING`.
    """

    def __init__(
        self,
        queue: PaymentQueue,
        begin: Callable[[list[Pending]], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.most_at_work = 1
        self.adding = 0
        self._queue = queue
        self._begin = begin
        self._loop = loop
        self._jobs: deque[Callable[[], None]] = deque()
        self._resting = 0
        self._job_next = True
        self._held = False
        self._at_work = 0
        self._scheduled = False
        self._last_size = 0
        self._waits: asyncio.TimerHandle | None = None
        self._waited = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is at work."""
        waits = self._queue or self._queue.away or self._jobs or self._resting
        return not (waits or self._held or self._at_work)

    @property
    def decides_singles(self) -> bool:
        """Whether single payments wait or are at work, about; any thread may ask."""
        return self._queue.singles > 0 or (self._at_work > 0 and self._queue.took_singles)

    def begun(self) -> None:
        """A group is at work from now on."""
        self._at_work += 1

    def done(self) -> None:
        """A group is at work no more."""
        self._at_work -= 1
        self.schedule()

    def hold(self) -> None:
        """Begin nothing more until `release`. Only to be called in a job."""
        self._held = True

    def release(self) -> None:
        """Go on after `hold`."""
        self._held = False
        self.schedule()

    def run_job(self, job: Callable[[], None]) -> None:
        """Run a callable in its turn."""
        self._jobs.append(job)
        self.schedule()

    def run_job_after(self, seconds: float, job: Callable[[], None]) -> None:
        """Run a callable in its turn, once so many seconds have passed."""
        if seconds > 0:
            self._resting += 1
            self._loop.call_later(seconds, self._rested, job)
        else:
            self.run_job(job)

    def _rested(self, job: Callable[[], None]) -> None:
        self._resting -= 1
        self.run_job(job)

    async def in_order(self, call: Callable[[], T]) -> T:
        """The result of a callable that runs as a job."""
        future: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 -- callers that wait get the error
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.run_job(run)
        return await future

    async def holding(self, call: Callable[[], T], then: Callable[[T], None] | None = None) -> T:
        """The result of a callable that runs in a thread while no group is at work.

        Payments wait meanwhile, the event loop does not. A caller that is cancelled learns of it
        when the thread has ended, so that nobody begins beside it.

        Args:
            call: It.
            then: Told the result on the event loop, before anything else begins.
        """
        begun: asyncio.Future[None] = self._loop.create_future()

        def hold() -> None:
            if not begun.cancelled():
                self.hold()
                begun.set_result(None)

        self.run_job(hold)
        try:
            await begun
            context = contextvars.copy_context()
            result = await _to_its_end(self._loop.run_in_executor(None, context.run, call))
            if then is not None:
                then(result)
            return result
        finally:
            if not begun.cancelled():
                self.release()

    def schedule(self) -> None:
        """See soon whether something can begin."""
        if self._scheduled or self._held:
            return
        if (self._can_begin() and self._queue) or (self._jobs and not self._at_work):
            self._scheduled = True
            self._loop.call_soon(self._gather, 0)

    def _gather(self, before: int) -> None:
        """Let in what has arrived meanwhile: what a group costs is shared by all in it."""
        waiting = len(self._queue)
        if before < waiting < MAX_GROUP:
            self._loop.call_soon(self._gather, waiting)
        else:
            self._turn()

    def _can_begin(self) -> bool:
        if self._at_work >= self.most_at_work or self.adding >= MOST_ADDING:
            return False
        return not self._at_work or self._is_worth_it()

    def _most_singles(self) -> int:
        """How many single payments the next group holds at most."""
        waiting = self._queue.singles
        if self.most_at_work > 1 and not self._at_work and waiting in _IN_HALVES:
            return waiting // 2  # what is left is as large, and does not wait for more
        return MAX_GROUP

    def _is_worth_it(self) -> bool:
        """Whether a group begins beside those at work: it is as large, or has waited enough."""
        if self._waited or len(self._queue) >= self._last_size:
            return True
        if self._queue and self._waits is None:
            self._waits = self._loop.call_later(_LONGEST_WAIT_SECONDS, self._end_wait)
        return False

    def _end_wait(self) -> None:
        self._waits, self._waited = None, True
        self.schedule()

    def _turn(self) -> None:
        """One job or one group; whatever they wait for schedules the next."""
        self._scheduled = False
        if self._held:
            return
        if self._jobs and (self._job_next or not self._queue):
            if self._at_work:
                return
            self._job_next = False
            self._jobs.popleft()()
        elif self._queue and self._can_begin():
            self._job_next = True
            group = self._queue.take(self._most_singles())
            self._last_size, self._waited = len(group), False
            if self._waits is not None:
                self._waits.cancel()
                self._waits = None
            self._begin(group)
        self.schedule()


async def _to_its_end(work: asyncio.Future[T]) -> T:
    """The result of work that goes on when the caller is cancelled, who waits for its end."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not work.cancelled() and (failed := work.exception()) is not None:
            log.error("What was cancelled has failed, too.", exc_info=failed)
        raise cancelled
    return work.result()
