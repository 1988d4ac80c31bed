"""Look-ups in an index beside everything else that happens: off the event loop, and bounded.

Each reader is a thread with a connection of its own, so that a look-up waits for no other and
holds up nobody. A look-up that takes too long is ended inside SQLite, and no more than a fixed
number wait for a reader.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from sentinel.domain import Overloaded
from sentinel.ledger.index_file import connect
from sentinel.ledger.index_queries import IndexQueries
from sentinel.ledger.sqlite_errors import cannot_open
from sentinel.spare_time import lower_thread_priority

T = TypeVar("T")

CACHE_KIB: Final = 8 << 10
"""Pages that each reader keeps in memory."""
_LOOK_EVERY: Final = 5_000
"""Steps of SQLite's machine between two looks at the clock, well below a millisecond."""


class IndexReader(IndexQueries):
    """Questions to an index, each of which may be given an end. One thread at a time.

    Args:
        path: The index; its tables are there.

    Raises:
        LedgerUnavailable: It cannot be opened right now.
    """

    def __init__(self, path: Path) -> None:
        connection = connect(path)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        except sqlite3.Error as error:
            connection.close()
            raise cannot_open(error, path, derived=True) from error
        super().__init__(path, connection)
        self._ends = float("inf")
        connection.set_progress_handler(self._late, _LOOK_EVERY)

    def ask(self, question: Callable[[IndexReader], T], seconds: float) -> T:
        """Ask, for so long at most.

        Raises:
            LookupTooSlow: The time is over.
        """
        self._ends = time.monotonic() + seconds
        try:
            return question(self)
        finally:
            self._ends = float("inf")

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def _late(self) -> bool:
        return time.monotonic() > self._ends


class IndexReaders:
    """A fixed number of readers of one index, for code on an event loop.

    Args:
        path: The index; its tables are there.
        readers: Look-ups at once.
        waiting: Most look-ups that wait for a reader.
        seconds: How long one may take.
    """

    def __init__(
        self, path: Path, *, readers: int = 4, waiting: int = 32, seconds: float = 2.0
    ) -> None:
        self._path = path
        self._seconds = seconds
        self._most = readers + waiting
        self._asked = 0
        self._own = threading.local()
        self._opened: list[IndexReader] = []
        self._threads = ThreadPoolExecutor(
            readers, thread_name_prefix="index-reader", initializer=lower_thread_priority
        )

    async def ask(self, question: Callable[[IndexReader], T]) -> T:
        """The answer to a question, asked in a reader's thread.

        Args:
            question: Given the reader.

        Raises:
            Overloaded: Too many look-ups wait already.
            LookupTooSlow: It took too long.
            LedgerUnavailable: The index cannot be read right now.
        """
        if self._asked >= self._most:
            raise Overloaded(
                f"{self._asked} look-ups are being answered or wait for it, as many as may. Ask "
                "again in a moment, and fewer at once.",
                retry_after_seconds=self._seconds,
            )
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, self._answer, question
            )
        finally:
            self._asked -= 1

    def close(self) -> None:
        """Wait for look-ups under way, and release the file."""
        self._threads.shutdown(cancel_futures=True)
        for reader in self._opened:
            reader.close()

    def _answer(self, question: Callable[[IndexReader], T]) -> T:
        reader: IndexReader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = IndexReader(self._path)
            self._opened.append(reader)
        return reader.ask(question, self._seconds)
