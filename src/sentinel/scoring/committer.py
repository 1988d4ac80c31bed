"""The thread that makes groups durable, so that the event loop never waits for a disk."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from queue import SimpleQueue

from sentinel.domain import LedgerUnavailable
from sentinel.ledger.base import Ledger
from sentinel.ledger.groups import GroupKind

Done = Callable[[int, LedgerUnavailable | None], None]
"""Called in the committing thread with the first sequence, or with what went wrong."""


class Committer:
    """Appends to the ledger in a thread of its own, in the order of the calls.

    Args:
        ledger: Opened for writing; used by this thread alone until `close`.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._queue: SimpleQueue[tuple[GroupKind, int, int, bytes, Done] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-commit", daemon=True)
        self._thread.start()

    def append(
        self, kind: GroupKind, entries: int, received_at_us: int, payload: bytes, done: Done
    ) -> None:
        """Queue a group; ``done`` is called once it is on disk or has failed."""
        self._queue.put((kind, entries, received_at_us, payload, done))

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            kind, entries, received_at_us, payload, done = work
            try:
                token = secrets.token_bytes(16)
                appended = self._ledger.append(kind, entries, received_at_us, payload, token=token)
            except LedgerUnavailable as error:
                done(0, error)
            except Exception as error:  # noqa: BLE001 -- a bug in a backend must not silence all answers
                done(0, LedgerUnavailable(f"The ledger failed unexpectedly: {error!r}."))
            else:
                done(appended.first_sequence, None)
