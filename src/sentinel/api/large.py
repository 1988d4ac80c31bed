"""Large bodies are read, and large answers written, in a thread beside the event loop.

Ten thousand payments take a tenth of a second to read. On the event loop all others would wait for
that; in the thread they have the processor every half millisecond. A body of ordinary size is read
at once, because a thread would cost more than it saves. Readers and writers of large bodies call
`Pace.give_way` after `ROWS_AT_ONCE` rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from sentinel.domain import Overloaded
from sentinel.spare_time import lower_thread_priority

T = TypeVar("T")

LARGE_BYTES: Final = 131_072
"""A body from this size on is large: about 300 payments."""
LARGE_ROWS: Final = 500
"""So many answers make a large one."""
ROWS_AT_ONCE: Final = 64
"""Rows that are read or written before single payments have their turn."""
MOST_WAITING_BYTES: Final = 134_217_728
"""Bodies that wait for the thread together have at most so many bytes."""


class LargeBodies:
    """One thread for large bodies, in the order in which they come."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="large-bodies", initializer=lower_thread_priority
        )
        self._waiting_bytes = 0

    async def read(self, body: bytes, read: Callable[[], T]) -> T:
        """What a reader makes of a body.

        Args:
            body: Decides where it is read.
            read: Reads it; its errors are raised here.

        Raises:
            Overloaded: Too much waits to be read already.
        """
        size = len(body)
        if size < LARGE_BYTES:
            return read()
        if self._waiting_bytes and self._waiting_bytes + size > MOST_WAITING_BYTES:
            raise Overloaded(
                f"{self._waiting_bytes:,} bytes of large requests wait to be read, and "
                f"{MOST_WAITING_BYTES:,} may. Nothing was recorded; send it again in a moment, or "
                "in smaller parts."
            )
        self._waiting_bytes += size
        try:
            return await self.run(True, read)
        finally:
            self._waiting_bytes -= size

    async def write(self, rows: int, write: Callable[[], bytes]) -> bytes:
        """What a writer makes of so many rows."""
        return await self.run(rows >= LARGE_ROWS, write)

    async def run(self, large: bool, work: Callable[[], T]) -> T:
        """The result of some work, done in the thread if it is large."""
        if not large:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def soon(self, write: Callable[[], bytes], done: Callable[[bytes], None]) -> None:
        """Write in the thread, then give the result to ``done`` on the event loop."""
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._thread, write).add_done_callback(
            lambda written: done(written.result())
        )

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown()
