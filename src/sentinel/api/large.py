"""Large bodies are read, and large answers written, in a thread beside the event loop.

Ten thousand payments take a tenth of a second to read. On the event loop all others would wait for
that; in the thread they have the processor every half millisecond. A body of ordinary size is read
at once, because a thread would cost more than it saves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

LARGE_BYTES: Final = 131_072
"""A body from this size on is large: about 300 payments."""
LARGE_ROWS: Final = 500
"""So many answers make a large one."""


class LargeBodies:
    """One thread for large bodies, in the order in which they come."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large-bodies")

    async def read(self, body: bytes, read: Callable[[], T]) -> T:
        """What a reader makes of a body.

        Args:
            body: Decides where it is read.
            read: Reads it; its errors are raised here.
        """
        return await self.run(len(body) >= LARGE_BYTES, read)

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
