"""Appends to the log in threads, so that the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from sentinel.domain import AlreadyRecorded, LedgerUnavailable, SentinelError
from sentinel.ledger.base import Appended, Ledger
from sentinel.log.entries import GroupKind
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.threads import Threads

_TOKEN_BYTES: Final = 16

CommitDone = Callable[[Appended | None, SentinelError | None], None]
"""Called on the event loop with what was appended, or with what went wrong."""


class Commits:
    """The way into the log.

    Args:
        ledger: Opened for writing; closed by `close`.
        metrics: Counters.
        failed: Told of a group of which nobody knows whether it is durable, before its ``done``.
        loop: Where results are told.

    Attributes:
        last_sequence: The last entry of the log, as far as this process knows.
        seconds_each: What an entry of the last group took.
    """

    def __init__(
        self,
        ledger: Ledger,
        metrics: ScoringMetrics,
        failed: Callable[[LedgerUnavailable], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.last_sequence = ledger.last_sequence()
        self.seconds_each = 0.0
        self._ledger = ledger
        self._metrics = metrics
        self._failed = failed
        self._threads: Threads[Appended] = Threads(
            "ledger-commit", ledger.appends_at_once, loop.call_soon_threadsafe
        )

    def append(
        self,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        done: CommitDone,
        transaction_ids: Sequence[str] = (),
        token: bytes = b"",
    ) -> None:
        """Append a group; see `Ledger.append`."""
        append = partial(
            self._ledger.append,
            kind,
            entries,
            received_at_us,
            payload,
            transaction_ids=transaction_ids,
            token=token or secrets.token_bytes(_TOKEN_BYTES),
        )
        self._threads.do(append, partial(self._finish, entries, done, time.perf_counter_ns()))

    def close(self) -> None:
        """Finish what is queued, then release the ledger. Waits."""
        self._threads.close()
        self._ledger.close()

    def _finish(
        self,
        entries: int,
        done: CommitDone,
        started_ns: int,
        appended: Appended | None,
        error: Exception | None,
    ) -> None:
        took_ns = time.perf_counter_ns() - started_ns
        self._metrics.commit_latency.add(took_ns // 1000)
        self.seconds_each = took_ns / 1e9 / entries
        problem: SentinelError | None = None
        if appended is not None:
            self._metrics.commits += 1
            last = appended.first_sequence + entries - 1
            self.last_sequence = self._metrics.sequence = max(self.last_sequence, last)
        elif isinstance(error, AlreadyRecorded):
            problem = error
        else:
            unavailable = (
                error
                if isinstance(error, LedgerUnavailable)
                # A fault in a backend must not silence all answers.
                else LedgerUnavailable(f"The ledger failed unexpectedly: {error!r}.")
            )
            problem = unavailable
            self._failed(unavailable)
        done(appended, problem)
