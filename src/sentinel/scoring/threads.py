"""Threads for what waits, so that the event loop never does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from sentinel.spare_time import wake_quickly

T = TypeVar("T")

Done = Callable[[T | None, Exception | None], None]
"""Called on the event loop with the result, or with the error."""


class Threads(Generic[T]):
    """A few threads that do pieces of work in the order they came in.

    Args:
        name: Of the threads.
        count: How many.
        call_soon: Runs a callable on the event loop; safe to call from any thread.
        set_up: Called first in each thread.
    """

    def __init__(
        self,
        name: str,
        count: int,
        call_soon: Callable[[Callable[[], None]], Any],
        set_up: Callable[[], None] = wake_quickly,
    ) -> None:
        self._queue: SimpleQueue[tuple[Callable[[], T], Done[T]] | None] = SimpleQueue()
        self._call_soon = call_soon
        self._set_up = set_up
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def do(self, work: Callable[[], T], done: Done[T]) -> None:
        """Queue a piece of work."""
        self._queue.put((work, done))

    def close(self) -> None:
        """Finish what is queued and end the threads. Waits for them."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        self._set_up()
        while (queued := self._queue.get()) is not None:
            work, done = queued
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 -- callers that wait get the error
                self._call_soon(partial(done, None, error))
            else:
                self._call_soon(partial(done, result, None))
            del queued, work, done
