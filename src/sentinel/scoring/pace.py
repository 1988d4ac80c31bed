"""How long work gives way to single payments.

Threads share the interpreter with the event loop. One that runs Python for long costs a payment up
to half a millisecond each time the event loop wants the interpreter back, which is after every
kernel, every append and every wake-up: ten times a payment. So what takes long is done in pieces,
and asks here between two of them. Where several threads have long work, one of them goes on at a
time: the interpreter runs one anyway, and the event loop never waits for more than one of them.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from sentinel.scoring.queue import PaymentQueue
from sentinel.scoring.turn import Turn

_LONGEST_SECONDS: Final = 0.002
"""A piece waits for single payments so long at most, so that it gets on however many come."""
_LET_GO_SECONDS: Final = 0.000_05
_LOOK_SECONDS: Final = 0.000_3
_PIECE_SECONDS: Final = 0.000_5
"""A piece has the interpreter so long before another thread's begins. Most end earlier and ask
again; work that is over does not."""


class Pace:
    """Lets single payments go first.

    Made on the event loop.

    Args:
        queue: Payments that wait.
        turn: Payments at work.
    """

    def __init__(self, queue: PaymentQueue, turn: Turn) -> None:
        self._queue = queue
        self._turn = turn
        self._loop_thread = threading.get_ident()
        self._next = threading.Lock()
        self._at_work = 0
        self._piece_ends = 0.0

    def give_way(self) -> None:
        """Wait until no single payment and no other piece is under way.

        Whoever is next waits 2 ms at most, so that work gets on however many payments come; threads
        are next one after the other.

        Called between two pieces of work of about half a millisecond each. It always lets go of
        the interpreter once. On the event loop it does nothing: what is short enough to be done
        there need not wait.
        """
        thread = threading.get_ident()
        if thread == self._loop_thread:
            return
        if self._at_work == thread:
            self._piece_ends = 0.0
        time.sleep(_LET_GO_SECONDS)
        with self._next:
            until = time.perf_counter() + _LONGEST_SECONDS
            while self._is_busy() and time.perf_counter() < until:
                time.sleep(_LOOK_SECONDS)
            self._at_work = thread
            self._piece_ends = time.perf_counter() + _PIECE_SECONDS

    @property
    def singles_come(self) -> bool:
        """Whether single payments come in, so that pieces of jobs had better be small."""
        return self._queue.singles_come

    def rest_seconds(self, took_seconds: float) -> float:
        """How long the next piece of a job on the event loop is to wait.

        Args:
            took_seconds: What the piece before it took.

        Returns:
            The same again while single payments come in, so that at least half of the time is
            theirs; else 0.
        """
        return took_seconds if self._queue.singles_come else 0.0

    def _is_busy(self) -> bool:
        return self._turn.decides_singles or time.perf_counter() < self._piece_ends
