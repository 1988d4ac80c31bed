"""Appends to the log, by a socket or in threads: the event loop never waits for a disk."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from sentinel.domain import AlreadyRecorded, LedgerUnavailable, SentinelError
from sentinel.ledger.base import Appended, Ledger
from sentinel.log.entries import GroupKind
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.threads import Threads
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

_TOKEN_BYTES: Final = 16

CommitDone = Callable[[Appended | None, SentinelError | None], None]
"""Called on the event loop with what was appended, or with what went wrong."""


class _Commit(NamedTuple):
    """A group on its way; see `Ledger.append`."""

    kind: GroupKind
    entries: int
    received_at_us: int
    payload: bytes
    transaction_ids: Sequence[str]
    token: bytes
    done: CommitDone
    started_ns: int


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
        self._loop = loop
        self._waiting: deque[_Commit] = deque()
        self._under_way = 0
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
        token = token or secrets.token_bytes(_TOKEN_BYTES)
        started_ns = time.perf_counter_ns()
        commit = _Commit(
            kind, entries, received_at_us, payload, transaction_ids, token, done, started_ns
        )
        if self._ledger.appends_on_loop:
            self._waiting.append(commit)
            self._begin_next()
        else:
            self._append_in_thread(commit, self._finish)

    def close(self) -> None:
        """Finish what is queued, then release the ledger. Waits."""
        self._threads.close()
        self._ledger.close()

    def _begin_next(self) -> None:
        """Append what waits, without a thread where the ledger can."""
        while self._waiting and self._under_way < self._ledger.appends_at_once:
            commit = self._waiting.popleft()
            self._under_way += 1  # in whatever way: threads and the loop share the connections
            try:
                begun = self._ledger.begin_append(
                    self._loop,
                    commit.kind,
                    commit.entries,
                    commit.received_at_us,
                    commit.payload,
                    transaction_ids=commit.transaction_ids,
                    token=commit.token,
                    done=partial(self._ended, commit),
                )
            except Exception:
                log.exception("An append could not be begun; a thread tries it.")
                begun = False
            if not begun:
                self._append_in_thread(commit, self._ended_for_good)

    def _ended(
        self, commit: _Commit, appended: Appended | None, error: SentinelError | None
    ) -> None:
        if appended is None and error is None:
            self._append_in_thread(commit, self._ended_for_good)
        else:
            self._ended_for_good(commit, appended, error)

    def _ended_for_good(
        self, commit: _Commit, appended: Appended | None, error: Exception | None
    ) -> None:
        self._under_way -= 1
        try:
            self._finish(commit, appended, error)
        finally:
            self._begin_next()

    def _append_in_thread(
        self,
        commit: _Commit,
        ended: Callable[[_Commit, Appended | None, Exception | None], None],
    ) -> None:
        append = partial(
            self._ledger.append,
            commit.kind,
            commit.entries,
            commit.received_at_us,
            commit.payload,
            transaction_ids=commit.transaction_ids,
            token=commit.token,
        )
        self._threads.do(append, partial(ended, commit))

    def _finish(self, commit: _Commit, appended: Appended | None, error: Exception | None) -> None:
        entries, done = commit.entries, commit.done
        took_ns = time.perf_counter_ns() - commit.started_ns
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
            assert error is not None
            unavailable = (
                error
                if isinstance(error, LedgerUnavailable)
                # A fault in a backend must not silence all answers.
                else LedgerUnavailable(f"The ledger failed unexpectedly: {shown(error)}.")
            )
            problem = unavailable
            self._failed(unavailable)
        done(appended, problem)
