"""The thread that makes groups durable, so that the event loop never waits for a disk."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import NamedTuple

from sentinel.domain import AlreadyRecorded, LedgerUnavailable, SentinelError
from sentinel.ledger.base import Appended, Ledger
from sentinel.log.entries import GroupKind

Done = Callable[[Appended | None, SentinelError | None], None]
"""Called in the committing thread with what was appended, or with what went wrong."""


class Work(NamedTuple):
    """A group to append; see `Ledger.append`."""

    kind: GroupKind
    entries: int
    received_at_us: int
    payload: bytes
    transaction_ids: tuple[str, ...] = ()
    token: bytes | None = None


class Committer:
    """Appends to the ledger in a thread of its own, in the order of the calls.

    Args:
        ledger: Opened for writing; used by this thread alone until `close`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: SimpleQueue[tuple[Work, Done] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-commit", daemon=True)
        self._thread.start()

    def append(self, work: Work, done: Done) -> None:
        """Queue a group; ``done`` is called once it is on disk or has failed."""
        self._queue.put((work, done))

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (queued := self._queue.get()) is not None:
            work, done = queued
            try:
                appended = self._ledger.append(
                    work.kind,
                    work.entries,
                    work.received_at_us,
                    work.payload,
                    transaction_ids=work.transaction_ids,
                    token=work.token or secrets.token_bytes(16),
                )
            except (AlreadyRecorded, LedgerUnavailable) as error:
                done(None, error)
            except Exception as error:  # noqa: BLE001 -- a bug in a backend must not silence all answers
                done(None, LedgerUnavailable(f"The ledger failed unexpectedly: {error!r}."))
            else:
                done(appended, None)
