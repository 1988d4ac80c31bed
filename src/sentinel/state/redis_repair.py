"""Rebuilding a record of shared state from the ledger while scorers go on changing it.

1. A fence: from now on the server logs changes of the record beside making them.
2. All work that was under way at the fence is waited for: it is durable or undone then.
3. The record is rebuilt from the ledger.
4. Work that was under way at step 3 is waited for: a label is durable before its change is made.
5. The swap: if the fence still stands, the record becomes what was rebuilt, and the logged changes
   that the ledger did not hold yet are made again.

What was changed before the fence is in the rebuilt record if and only if it is durable; what was
changed after it is in there exactly once. If anything fails in between, the mark stays.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from sentinel.domain import Label, StateUnavailable, Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.sweep import fold_view
from sentinel.features.offline import LabelBook
from sentinel.features.plan.program import EVENT_KIND, KIND_ADD, KIND_FRAUD, Program
from sentinel.state.known_ids import id_hash
from sentinel.state.redis_library import FENCE_BYTES, TOKEN_BYTES
from sentinel.state.redis_marks import Mark, Record, RedisMarks
from sentinel.state.redis_records import RedisState, label_hash

_POLL_SECONDS: Final = 0.01
_READING_SECONDS: Final = 60.0


class Rebuilt(NamedTuple):
    """A record that was replaced.

    Attributes:
        view, key: Which record.
        position: Its position from then on; the next change has the one after it.
        through_sequence: The last log entry that the ledger was read through.
    """

    view: int
    key: str
    position: int
    through_sequence: int


@dataclass(frozen=True)
class History:
    """What the ledger says of one record.

    Attributes:
        words: The record's bytes, its position aside.
        ids: Hashes of the ids of the transactions and labels that it is made of.
        through_sequence: The last log entry that the ledger was read through.
    """

    words: bytes
    ids: Container[int]
    through_sequence: int


ReadHistory = Callable[[int, str], History]
"""Reads what the ledger holds of a record (number of the view, key), as it is now."""


def history_of(
    program: Program,
    view: int,
    key: str,
    entries: Sequence[Transaction | Label],
    through_sequence: int,
) -> History:
    """Fold a record's entries.

    Args:
        program: The compiled plan.
        view, key: Which record.
        entries: All transactions of the entity and all labels about them, in log order.
        through_sequence: Up to where the log was read for them.
    """
    arena = Arena(program)
    transactions = [entry for entry in entries if isinstance(entry, Transaction)]
    encoder = EventEncoder(program, arena, max(1, len(transactions)))
    rows: dict[str, int] = {}
    for row, transaction in enumerate(transactions):
        encoder.put(row, transaction)
        rows[transaction.transaction_id] = row
    book = LabelBook()
    passed: set[str] = set()
    ids: set[int] = set()
    order: list[tuple[int, int]] = []
    for entry in entries:
        identifier = entry.transaction_id
        if isinstance(entry, Transaction):
            ids.add(id_hash(identifier))
            passed.add(identifier)
            order.append((rows[identifier], KIND_ADD))
            kind = KIND_FRAUD if identifier in book.fraud else -1
        else:
            ids.add(label_hash(entry.label_id))
            kind = book.change(identifier, entry.verdict)
        if kind >= 0 and identifier in passed:
            order.append((rows[identifier], kind))
    events = encoder.events[[row for row, _ in order]].copy()
    if order:
        events[:, EVENT_KIND] = [kind for _, kind in order]
        nowhere = np.full(len(order), -1, dtype=np.int64)
        out = np.empty((0, program.n_features), dtype=np.float32)
        fold_view(arena.words, program.code, view, 0, 1, events, out, nowhere)
    return History(arena.record(view, key).tobytes(), frozenset(ids), through_sequence)


class Repairer:
    """Rebuilds marked records. Any scorer may run one; one record is rebuilt by one at a time.

    Args:
        state, marks: The shared state. For the repairer's thread alone.
        read: Reads the ledger.
        record: Writes a rebuild down durably, so that replays know of it.
        patience_seconds: Longest time to wait for work under way; then the record's turn comes
            again later.
        abandon_seconds: Work that was begun so long ago is taken for given up. Longer than any
            commit may take, retries included.
    """

    def __init__(
        self,
        state: RedisState,
        marks: RedisMarks,
        read: ReadHistory,
        record: Callable[[Rebuilt], None],
        *,
        patience_seconds: float = 5.0,
        abandon_seconds: float = 90.0,
    ) -> None:
        self.state = state
        self.marks = marks
        self._read = read
        self._record = record
        self._patience_seconds = patience_seconds
        self._abandon_seconds = abandon_seconds

    def run(self, limit: int = 100) -> list[Rebuilt]:
        """Mark what ended scorers left behind; rebuild the records marked first.

        Args:
            limit: Rebuild at most so many.

        Raises:
            StateUnavailable: Redis did not answer; what is not done stays marked.
        """
        self.marks.abandon(self._abandon_seconds)
        done = []
        for mark in self.marks.marks(limit):
            rebuilt = self.repair(mark)
            if rebuilt is not None:
                done.append(rebuilt)
        return done

    def repair(self, mark: Mark) -> Rebuilt | None:
        """Rebuild one record; None: it could not be done now, and stays marked.

        Raises:
            StateUnavailable: Redis did not answer; the record stays marked.
        """
        rebuilt = self.rebuild(mark.view, mark.key)
        if rebuilt is not None:
            self._record(rebuilt)
            self.marks.unmark(mark)
        return rebuilt

    def rebuild(self, view: int, key: str) -> Rebuilt | None:
        """The five steps; None: someone else is at it, or the fence fell.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        token = os.urandom(TOKEN_BYTES)
        stale_us = int(1e6 * (3 * self._patience_seconds + _READING_SECONDS))
        if self.state.function("fence", view, key, token, stale_us) < 0:
            return None
        try:
            if not self._wait_for_work((view, key)):
                self._take_down(view, key, token)
                return None
            history = self._read(view, key)
            if not self._wait_for_work((view, key)):
                self._take_down(view, key, token)
                return None
            held = [i for i in self._logged(view, key) if i in history.ids]
            packed = np.array(held, dtype="<i8").tobytes()
            position = self.state.function("swap", view, key, token, history.words, packed)
        except StateUnavailable:
            raise
        except Exception:
            self._take_down(view, key, token)
            raise
        return None if position < 0 else Rebuilt(view, key, position, history.through_sequence)

    def _wait_for_work(self, record: Record) -> bool:
        deadline = time.monotonic() + self._patience_seconds
        waiting = self.marks.intents_of(record)
        while waiting and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            waiting &= self.marks.intents_of(record)
        return not waiting

    def _logged(self, view: int, key: str) -> list[int]:
        """Hashes of the ids of the changes since the fence."""
        first = self.state.library.head_bytes[view] + FENCE_BYTES
        raw = self.state.get_range(view, key, first)
        size = self.state.library.change_bytes
        return [
            int.from_bytes(raw[at : at + 8], "little", signed=True)
            for at in range(0, len(raw), size)
        ]

    def _take_down(self, view: int, key: str, token: bytes) -> None:
        self.state.function("unfence", view, key, token)
