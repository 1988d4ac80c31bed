"""Keeps shared records true to the log: what is in doubt is marked, and marked records are rebuilt.

Two threads with connections of their own, so that decisions never wait for them: one strikes out
what is durable, marks what is in doubt and counts labels, at once; the other rebuilds, which waits
for work under way, and so for the first.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from sentinel.domain import SentinelError, StateUnavailable, Transaction
from sentinel.ledger.base import LabelEffect, SharedLedger, StateRebuild
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.replica import Replica, label_change_id
from sentinel.state.redis_features import Change, RedisFeatures
from sentinel.state.redis_marks import RedisMarks
from sentinel.state.redis_records import RedisState
from sentinel.state.redis_repair import History, Rebuilt, Repairer

log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 0.5
_TROUBLE_SECONDS: Final = 0.25
_AT_ONCE: Final = 64
ABANDONED_SECONDS: Final = 90.0
"""Work that was begun so long ago and not finished was left behind: an append is tried for less."""

Label = tuple[Transaction, int, int]


class Upkeep:
    """What a scorer owes the shared state. Its methods may be called from any thread, never wait.

    Args:
        open_state: Connects to the state of the plan, once for each thread.
        ledger: To write rebuilds and effects of labels down.
        replica: What records should hold.
        metrics: Counters.
    """

    def __init__(
        self,
        open_state: Callable[[], RedisState],
        ledger: SharedLedger,
        replica: Replica,
        metrics: ScoringMetrics,
    ) -> None:
        self._doubts: deque[Sequence[Transaction]] = deque()
        self._settled: deque[tuple[bytes, Sequence[Transaction]]] = deque()
        self._labels: deque[Label] = deque()
        self._stop = threading.Event()
        self._ledger = ledger
        self._features = RedisFeatures(open_state())
        self._repairs = _Repairs(open_state(), ledger, replica, metrics, self._stop)
        self._threads = [
            _Loop("state-upkeep", self._settle, _PAUSE_SECONDS, self._stop),
            _Loop("state-repairs", self._repairs.work, _LOOK_SECONDS, self._stop),
        ]

    def doubt(self, transactions: Sequence[Transaction]) -> None:
        """Nobody knows what the records of these transactions hold: have them rebuilt."""
        if transactions:
            self._doubts.append(transactions)

    def settled(self, token: bytes, transactions: Sequence[Transaction]) -> None:
        """What was begun under a token is durable, or its records are in `doubt` already."""
        self._settled.append((token, transactions))

    def count_label(self, transaction: Transaction, kind: int, label_sequence: int) -> None:
        """Count a fraud in the shared records, or take it back, and note where."""
        self._labels.append((transaction, kind, label_sequence))

    @property
    def problem(self) -> str | None:
        """Why it cannot do its work right now; None: it can."""
        return next((thread.problem for thread in self._threads if thread.problem), None)

    @property
    def behind(self) -> int:
        """Pieces of work that wait, and records that were marked when it last looked."""
        waiting = len(self._doubts) + len(self._settled) + len(self._labels)
        return waiting + len(self._features.marks.pending) + self._repairs.marked

    def close(self) -> None:
        """Do what can be done at once, then end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._features.state.close()
        self._repairs.close()

    def _settle(self) -> None:
        marks = self._features.marks
        while self._doubts:
            records = self._features.records_of(self._doubts[0])
            marks.pending.update(dict.fromkeys(records))
            self._doubts.popleft()
        if marks.pending and not marks.flush():
            raise StateUnavailable("Redis does not answer: records to be rebuilt wait for it.")
        self._finish()
        self._apply_labels()

    def _finish(self) -> None:
        work = [self._settled.popleft() for _ in range(min(len(self._settled), _AT_ONCE))]
        if not work:
            return
        try:
            found = self._features.marks.finish([token for token, _ in work])
        except StateUnavailable:
            self._settled.extendleft(reversed(work))
            raise
        for present, (_, transactions) in zip(found, work, strict=True):
            if not present:
                # Taken for left behind, or lost with a Redis that restarted.
                self.doubt(transactions)

    def _apply_labels(self) -> None:
        while self._labels:
            transaction, kind, sequence = self._labels[0]
            change = Change(transaction, kind, label_change_id(sequence))
            try:
                applied = self._features.apply([change])
            except StateUnavailable:
                # Made or not: what is rebuilt from the log holds the label.
                self._labels.popleft()
                self.doubt([transaction])
                raise
            effect = LabelEffect(
                self._features.program.plan.hash,
                transaction.transaction_id,
                sequence,
                kind,
                tuple(applied.positions[0].tolist()),
            )
            self._ledger.record_label_effect(effect)
            self._labels.popleft()


class _Repairs:
    """Finds what others left behind, and rebuilds what is marked."""

    def __init__(
        self,
        state: RedisState,
        ledger: SharedLedger,
        replica: Replica,
        metrics: ScoringMetrics,
        stop: threading.Event,
    ) -> None:
        self._state = state
        self._marks = RedisMarks(state)
        self._ledger = ledger
        self._replica = replica
        self._metrics = metrics
        self._stop = stop
        self._repairer = Repairer(state, self._marks, self._history, self._note)
        self.marked = 0

    def work(self) -> None:
        """One look."""
        self._marks.abandon(ABANDONED_SECONDS)
        while marks := self._marks.marks(_AT_ONCE):
            self.marked = len(marks)
            done = 0
            for mark in marks:
                if self._stop.is_set():
                    return
                done += self._repairer.repair(mark) is not None
            if not done:  # other scorers are at it
                return
        self.marked = 0
        self._replica.release()

    def close(self) -> None:
        self._state.close()

    def _history(self, view: int, key: str) -> History:
        through, (words,), holds = self._replica.records([(view, key)])
        return History(words.tobytes(), _Ids(holds), through)

    def _note(self, rebuilt: Rebuilt) -> None:
        plan = self._state.program.plan
        self._ledger.record_rebuild(
            StateRebuild(
                plan.hash,
                plan.views[rebuilt.view].name,
                rebuilt.key,
                rebuilt.position,
                rebuilt.through_sequence,
            )
        )
        self._metrics.rebuilds += 1


class _Loop(threading.Thread):
    """Does a piece of work again and again, and keeps on when it fails."""

    def __init__(
        self, name: str, work: Callable[[], None], pause_seconds: float, stop: threading.Event
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._pause_seconds = pause_seconds
        self._stop_asked = stop
        self.problem: str | None = None
        self.start()

    def run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop_asked.wait(
                self._pause_seconds if self.problem is None else _TROUBLE_SECONDS
            )
            try:
                self._work()
            except SentinelError as error:
                if self.problem is None:
                    log.warning("Shared state is not looked after: %s", error)
                self.problem = str(error)
            except Exception as error:
                log.exception("Upkeep of shared state failed; it is tried again.")
                self.problem = repr(error)
            else:
                self.problem = None


class _Ids:
    """Ids of changes, by a question instead of a list."""

    def __init__(self, holds: Callable[[int], bool]) -> None:
        self._holds = holds

    def __contains__(self, change_id: object) -> bool:
        return isinstance(change_id, int) and self._holds(change_id)
