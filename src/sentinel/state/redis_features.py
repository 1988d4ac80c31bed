"""Features from state in Redis: the records that come back, folded by the scorer's own kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.fold import fold
from sentinel.features.plan.program import EVENT_KIND, EVENT_VIEWS, KIND_ADD, KIND_PEEK, Program
from sentinel.state.known_ids import id_hash
from sentinel.state.redis_library import CHANGE_HEADER_WORDS
from sentinel.state.redis_marks import RedisMarks
from sentinel.state.redis_records import FLAG_REPEATED, Call, RedisState, Reply

Vectors = npt.NDArray[np.float32]


class Change(NamedTuple):
    """A transaction to add, or a label to count in the features of its transaction's entities.

    Attributes:
        transaction: The transaction, or the one that the label is about.
        kind: KIND_ADD, KIND_FRAUD or KIND_RETRACT.
        id_hash: What the change is known by: `id_hash` of the transaction's id (0: that), or
            `label_hash` of the label's.
    """

    transaction: Transaction
    kind: int = KIND_ADD
    id_hash: int = 0


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of changes; row i is of the i-th.

    Attributes:
        vectors: float32 (n, n_features), NaN = unknown: features before the change. Only of
            transactions, and only where nothing is repeated.
        positions: int64 (n, views), the change's own in each record; 0 where there is no key.
        flags: uint8 (n, views), FLAG_LATE, FLAG_EXPIRED, FLAG_REPEATED.
    """

    vectors: Vectors
    positions: npt.NDArray[np.int64]
    flags: npt.NDArray[np.uint8]

    @property
    def repeated(self) -> npt.NDArray[np.bool_]:
        """Whether, bool (n,), a change had been made before in some record."""
        found: npt.NDArray[np.bool_] = ((self.flags & FLAG_REPEATED) != 0).any(axis=1)
        return found


class ScratchArena(Arena):
    """Room for the records of one group: each event gets its own copy of each record.

    Attributes:
        asked: (view, key, offset) of every record, in the order in which they were asked for.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self._first = self.used
        self.asked: list[tuple[int, str, int]] = []

    def begin(self) -> None:
        """Forget the last group."""
        self.used = self._first
        self.asked = []

    def locate(self, view: int, key: str) -> int:
        """Where the next record goes. It stays zero until it is filled in."""
        offset = self.used
        self.used = offset + self.program.record_words[view]
        self.asked.append((view, key, offset))
        return offset

    def find(self, view: int, key: str) -> int:
        """`locate`."""
        return self.locate(view, key)

    def fill(self, records: Sequence[bytes]) -> None:
        """Put the bytes of all that was asked for in their places; no bytes are no history."""
        if self.used > len(self.words):
            self.words = np.zeros(2 * self.used, dtype=np.int64)
        raw = self.words.data.cast("B")
        sizes = self.program.record_words
        for (view, _, offset), record in zip(self.asked, records, strict=True):
            size = 8 * sizes[view]
            if record:
                raw[8 * offset : 8 * offset + size] = memoryview(record)[:size]
            else:
                self.words[offset : offset + sizes[view]] = 0


class RedisFeatures:
    """Transactions in, vectors out. For one thread.

    Args:
        state: The records.
        capacity: Changes to make room for at first.
    """

    def __init__(self, state: RedisState, capacity: int = 64) -> None:
        self.state = state
        self.marks = RedisMarks(state)
        self.program = state.program
        self.scratch = ScratchArena(self.program)
        self._n_views = len(self.program.plan.views)
        self._encoder = EventEncoder(self.program, self.scratch, capacity)

    def add(self, transactions: Sequence[Transaction], token: bytes | None = None) -> Applied:
        """Read features of transactions and add them, in order, in one round trip."""
        return self.apply([Change(transaction) for transaction in transactions], token)

    def apply(self, changes: Sequence[Change], token: bytes | None = None) -> Applied:
        """Make changes in order, in one round trip.

        Args:
            changes: What to change.
            token: Names this piece of work, 16 bytes. The records it touches are written down
                until `RedisMarks.finish`, so that others find them should this scorer end.

        Raises:
            StateUnavailable: Redis did not answer. Each change may have been made or not, in
                each of the records that `records_of` names.
        """
        n = len(changes)
        self._put([change.transaction for change in changes])
        events = self._encoder.events[:n]
        events[:, EVENT_KIND] = [change.kind for change in changes]
        ids = [c.id_hash or id_hash(c.transaction.transaction_id) for c in changes]
        encoded = self._encode(events, ids)
        offsets = events[:, EVENT_VIEWS : EVENT_VIEWS + self._n_views]
        rows, columns = np.nonzero(offsets >= 0)
        calls = [
            Call(view, key, encoded[row])
            for (view, key, _), row in zip(self.scratch.asked, rows.tolist(), strict=True)
        ]
        intent = None
        if token is not None:
            intent = self.marks.intent(token, dict.fromkeys((c.view, c.key) for c in calls))
        replies = self.state.change(calls, intent) if calls else []
        positions = np.zeros((n, self._n_views), dtype=np.int64)
        flags = np.zeros((n, self._n_views), dtype=np.uint8)
        positions[rows, columns] = [reply.position for reply in replies]
        flags[rows, columns] = [reply.flags for reply in replies]
        return Applied(self._vectors(n, replies), positions, flags)

    def peek(self, transactions: Sequence[Transaction]) -> Vectors:
        """Features as if each were the next transaction; nothing is added.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        self._put(transactions)
        return self._read(len(transactions), KIND_PEEK)

    def read(self, keys: Sequence[dict[str, str]], now_us: int) -> Vectors:
        """Features of entities at a time, without a transaction.

        Args:
            keys: Entity column to key, by row.
            now_us: Time of the question, microseconds.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        self._begin(len(keys))
        for row, entity in enumerate(keys):
            self._encoder.put_query(row, entity, now_us)
        return self._read(len(keys), None)

    def records_of(self, transactions: Sequence[Transaction]) -> list[tuple[int, str]]:
        """(view, key) of every record that transactions are about, each once."""
        self._put(transactions)
        return list(dict.fromkeys((view, key) for view, key, _ in self.scratch.asked))

    def _begin(self, rows: int) -> None:
        if rows > self._encoder.capacity:
            self._encoder = EventEncoder(self.program, self.scratch, 2 * rows)
        self.scratch.begin()

    def _put(self, transactions: Sequence[Transaction]) -> None:
        self._begin(len(transactions))
        put = self._encoder.put
        for row, transaction in enumerate(transactions):
            put(row, transaction)

    def _encode(self, events: npt.NDArray[np.int64], ids: list[int]) -> list[bytes]:
        """Each event as a change: its id and what the server needs of it."""
        words = np.empty((len(events), self.state.library.change_bytes // 8), dtype="<i8")
        words[:, 0] = ids
        words[:, 1:CHANGE_HEADER_WORDS] = events[:, :EVENT_VIEWS]
        words[:, CHANGE_HEADER_WORDS:] = events[:, EVENT_VIEWS + 2 * self._n_views :]
        raw, size = words.tobytes(), self.state.library.change_bytes
        return [raw[at : at + size] for at in range(0, len(raw), size)]

    def _read(self, rows: int, kind: int | None) -> Vectors:
        asked = [(view, key) for view, key, _ in self.scratch.asked]
        records = self.state.read(asked) if asked else []
        if kind is not None:
            self._encoder.events[:rows, EVENT_KIND] = kind
        return self._fold(rows, records)

    def _vectors(self, rows: int, replies: Sequence[Reply]) -> Vectors:
        self._encoder.events[:rows, EVENT_KIND] = KIND_PEEK
        return self._fold(rows, [reply.record for reply in replies])

    def _fold(self, rows: int, records: Sequence[bytes]) -> Vectors:
        self.scratch.fill(records)
        encoder = self._encoder
        out = np.empty((rows, self.program.n_features), dtype=np.float32)
        fold(self.scratch.words, self.program.code, encoder.events, encoder.given, out, rows)
        return out
