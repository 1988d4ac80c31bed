"""Transactions in, vectors out, over shared records: one round trip a group."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.words import NO_RECORD
from sentinel.features.plan.program import (
    EVENT_VIEWS,
    FLAG_SHIFT,
    KIND_ADD,
    KIND_PEEK,
    POSITION_MASK,
)
from sentinel.state.known_ids import id_hash
from sentinel.state.redis import fold
from sentinel.state.redis.cache import UNKNOWN, RecordCache
from sentinel.state.redis.layout import KIND_BITS
from sentinel.state.redis.records import NO_SUCH_RECORD, REPLY, Record, Records

Vectors = npt.NDArray[np.float32]
Words = npt.NDArray[np.int64]

MOST_ROWS: Final = 512
"""Rows of one round trip; what is more is cut into several."""

COMPACT_FROM: Final = 32
"""Events in a tail, for every so many of which the record is named for compaction."""

MOST_FULL_TAILS: Final = 1 << 14
"""Records that wait for compaction by name."""

CACHE_BYTES: Final = 128 << 20
"""Bytes of records that a scorer keeps folded."""

_SETTLED_AT_ONCE: Final = 64


class Touched(NamedTuple):
    """A record that a group changes, and by which transactions.

    Attributes:
        view, key: The record.
        ids: Hashes of the transactions' ids.
    """

    view: int
    key: str
    ids: list[int]


@dataclass(frozen=True, slots=True)
class Added:
    """What adding transactions read; row i is of the i-th.

    Attributes:
        vectors: float32 (n, n_features), NaN = unknown: features before the transaction. They say
            nothing where it is repeated.
        positions: int64 (n, views), the transaction's own in each record; 0 where it has no key.
        flags: uint8 (n, views), FLAG_LATE and FLAG_EXPIRED.
        repeated: bool (n,), whether a record held the transaction before.
        new_records: The row of each record that was made.
        left_out: Row and view of each record that does not exist, of a row that makes none.
    """

    vectors: Vectors
    positions: Words
    flags: npt.NDArray[np.uint8]
    repeated: npt.NDArray[np.bool_]
    new_records: list[int]
    left_out: list[tuple[int, int]]


class AskedRecords:
    """Stands in for an arena: notes the records that events are about, in their order."""

    def __init__(self, views: int) -> None:
        self.keys: tuple[dict[str, int], ...] = tuple({} for _ in range(views))
        self.records: list[Record] = []

    def locate(self, view: int, key: str) -> int:
        """The place in ``records`` of a record that is named next."""
        self.records.append((view, key))
        return len(self.records) - 1

    find = locate


class SharedFeatures:
    """Reads and changes shared records for one scorer. Safe to share between threads.

    Attributes:
        records: The records.
        full_tails: Records whose tail has grown long.

    Args:
        records: Of a connection that is this object's own.
        cache_bytes: Of records that are kept folded.
    """

    def __init__(self, records: Records, *, cache_bytes: int = CACHE_BYTES) -> None:
        self.records = records
        self.program = records.program
        self.full_tails: dict[Record, None] = {}
        self._layout = records.layout
        self._cache = RecordCache(self.program, cache_bytes, MOST_ROWS)
        self._n_views = len(self.program.plan.views)
        self._asked = AskedRecords(self._n_views)
        asked: Any = self._asked
        self._encoder = EventEncoder(self.program, asked, 64)
        self._skipped = np.zeros(1024, dtype=np.int64)
        self._session = int.from_bytes(secrets.token_bytes(8), "little") >> 1
        self._group = 0
        self._settled: deque[bytes] = deque()
        self._lock = threading.Lock()

    @property
    def entities(self) -> int:
        """Records that are kept folded."""
        return self._cache.entities

    @property
    def cache_bytes(self) -> int:
        """Most that they take."""
        return self._cache.words.nbytes

    def next_ticket(self) -> bytes:
        """Names a group of changes, 16 bytes; never given before by any scorer."""
        with self._lock:
            self._group += 1
            return self._session.to_bytes(8, "little") + self._group.to_bytes(8, "little")

    def add(
        self,
        transactions: Sequence[Transaction],
        ticket: bytes,
        known_only: Collection[int] = (),
    ) -> Added:
        """Read features of transactions and add them, in order.

        Args:
            transactions: In order, at most MOST_ROWS; their ids differ.
            ticket: Of `next_ticket`. Pass it to `settled` when its events are durable or voided.
            known_only: Rows that make no records: a view whose record does not exist is null.

        Raises:
            StateUnavailable: Redis did not answer. Each event may stand in its record or not.
            NotInUse: It has lost the state, or holds another load of it. The same goes for events.
        """
        n = len(transactions)
        if n > MOST_ROWS:
            raise ValueError(f"A group holds at most {MOST_ROWS} transactions, not {n}.")
        with self._lock:
            ids = [id_hash(transaction.transaction_id) for transaction in transactions]
            rows_of = self._put(transactions, KIND_ADD)
            intent = _intent_of(rows_of, ids)
            settled = [
                self._settled.popleft() for _ in range(min(len(self._settled), _SETTLED_AT_ONCE))
            ]
            first = [self.records.intent_command(ticket, intent)]
            asked = self.records.loaded_command()
            if asked is not None:
                first.insert(0, asked)
            if settled:
                first.append(self.records.settled_command(settled))
            try:
                return self._added(n, rows_of, self._events(n, ids, ticket), first, known_only)
            except BaseException:
                self._settled.extendleft(reversed(settled))
                raise

    def peek(self, transactions: Sequence[Transaction]) -> Vectors:
        """Features as if each were the next transaction; nothing is added.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        parts = []
        for at in range(0, len(transactions), MOST_ROWS):
            part = transactions[at : at + MOST_ROWS]
            with self._lock:
                parts.append(self._read(len(part), self._put(part, KIND_PEEK)))
        return self._joined(parts)

    def read(self, keys: Sequence[Mapping[str, str]], now_us: int) -> Vectors:
        """Features of entities at a time, without a transaction.

        Args:
            keys: Entity column to key, by row.
            now_us: Time of the question, microseconds.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        parts = []
        for at in range(0, len(keys), MOST_ROWS):
            part = keys[at : at + MOST_ROWS]
            with self._lock:
                self._begin(len(part))
                for row, entity in enumerate(part):
                    self._encoder.put_query(row, dict(entity), now_us)
                parts.append(self._read(len(part), self._rows_of(len(part))))
        return self._joined(parts)

    def settled(self, ticket: bytes) -> None:
        """The events of a ticket are durable or voided: said to Redis with the next group."""
        self._settled.append(ticket)

    def say_settled(self, records: Records) -> None:
        """Tell Redis now, over another connection, what `settled` was told.

        Raises:
            StateUnavailable: Redis did not answer; it is told later.
        """
        while self._settled:
            some = [
                self._settled.popleft() for _ in range(min(len(self._settled), _SETTLED_AT_ONCE))
            ]
            try:
                records.settled(some)
            except BaseException:
                self._settled.extendleft(reversed(some))
                raise

    def let_go(self) -> None:
        """Make sure that nothing sent without an answer is still under way.

        Raises:
            StateUnavailable: Redis does not answer yet.
        """
        with self._lock:
            self.records.wire.settle()

    def forget(self) -> None:
        """Use nothing of what is known of the records."""
        with self._lock:
            self._cache.forget()

    def _joined(self, parts: list[Vectors]) -> Vectors:
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, self.program.n_features), np.float32), *parts])

    # Encoding.

    def _begin(self, rows: int) -> None:
        if rows > self._encoder.capacity:
            asked: Any = self._asked
            self._encoder = EventEncoder(self.program, asked, 2 * rows)
        self._asked.records.clear()

    def _put(self, transactions: Sequence[Transaction], kind: int) -> dict[Record, list[int]]:
        self._begin(len(transactions))
        put = self._encoder.put
        for row, transaction in enumerate(transactions):
            put(row, transaction, kind)
        return self._rows_of(len(transactions))

    def _rows_of(self, rows: int) -> dict[Record, list[int]]:
        """The rows that name each record, in order."""
        places = self._encoder.events[:rows, EVENT_VIEWS : EVENT_VIEWS + self._n_views]
        found: dict[Record, list[int]] = {}
        for record, row in zip(
            self._asked.records, np.nonzero(places >= 0)[0].tolist(), strict=True
        ):
            if record in found:
                found[record].append(row)
            else:
                found[record] = [row]
        return found

    def _events(self, rows: int, ids: list[int], ticket: bytes) -> list[bytes]:
        """The events of each view, one for each row."""
        session = int.from_bytes(ticket[:8], "little")
        number = (int.from_bytes(ticket[8:], "little") << KIND_BITS) | KIND_ADD
        hashes, numbers = np.array(ids, dtype=np.int64), np.full(rows, number, dtype=np.int64)
        return [
            self._layout.events(self._encoder.events[:rows], view, hashes, session, numbers)
            for view in range(self._n_views)
        ]

    # Round trips.

    def _added(
        self,
        n: int,
        rows_of: dict[Record, list[int]],
        events: list[bytes],
        first: list[tuple[bytes, bytes]],
        known_only: Collection[int],
    ) -> Added:
        widths, command = self._layout.widths, self.records.append_command
        calls, own, commands = [], [], first
        self._cache.begin()
        for (view, key), rows in rows_of.items():
            slot = self._cache.slot(view, key)
            width, encoded = widths[view], events[view]
            if len(rows) == 1:
                mine = encoded[rows[0] * width : (rows[0] + 1) * width]
            else:
                mine = b"".join([encoded[row * width : (row + 1) * width] for row in rows])
            calls.append((view, key, slot, rows))
            own.append(mine)
            known = int(self._cache.known[view][slot])
            makes = not known_only or any(row not in known_only for row in rows)
            commands.append(command(view, key, known, mine, make=makes))
        heads = len(commands) - len(calls)
        replies = self.records.exchange_behind(commands, heads)
        self.records.check_in_use(replies[0])
        replies = replies[heads:]
        repeated = np.zeros(n, dtype=np.bool_)
        new_records: list[int] = []
        missing: list[int] = []
        for place, ((view, _, _, rows), reply) in enumerate(zip(calls, replies, strict=True)):
            start, _, whole, again_count = REPLY.unpack_from(reply)
            if start == NO_SUCH_RECORD:
                missing.append(place)
            elif whole and len(reply) == REPLY.size:
                new_records.append(rows[0])
            if again_count:
                width, mine = widths[view], own[place]
                again = _repeats(reply)
                for index in again:
                    repeated[rows[index]] = True
                kept = [index for index in range(len(rows)) if index not in again]
                calls[place] = (*calls[place][:3], [rows[index] for index in kept])
                own[place] = b"".join([mine[i * width : (i + 1) * width] for i in kept])
        left_out: list[tuple[int, int]] = []
        for place in reversed(missing):
            view, _, _, rows = calls.pop(place)
            del own[place], replies[place]
            self._encoder.events[rows, EVENT_VIEWS + view] = NO_RECORD
            left_out += [(row, view) for row in rows]
        out = np.full((n, self.program.n_features), np.nan, dtype=np.float32)
        self._fold(calls, own, replies, out, adding=True)
        self._finish(n, out)
        placed = self._encoder.events[
            :n, EVENT_VIEWS + self._n_views : EVENT_VIEWS + 2 * self._n_views
        ]
        return Added(
            out,
            placed & POSITION_MASK,
            (placed >> FLAG_SHIFT).astype(np.uint8),
            repeated,
            new_records,
            sorted(left_out),
        )

    def _read(self, n: int, rows_of: dict[Record, list[int]]) -> Vectors:
        calls, commands = [], []
        self._cache.begin()
        for (view, key), rows in rows_of.items():
            slot = self._cache.slot(view, key)
            calls.append((view, key, slot, rows))
            known = int(self._cache.known[view][slot])
            commands.append(self.records.append_command(view, key, known, b""))
        replies = self.records.exchange(commands)
        out = np.full((n, self.program.n_features), np.nan, dtype=np.float32)
        self._fold(calls, [b""] * len(calls), replies, out, adding=False)
        self._finish(n, out)
        return out

    def _fold(
        self,
        calls: list[tuple[int, str, int, list[int]]],
        own: list[bytes],
        replies: Sequence[bytes],
        out: Vectors,
        *,
        adding: bool,
        own_at: list[int] | None = None,
    ) -> None:
        """Bring the records of calls up to date and read for their rows.

        Args:
            calls: View, key, slot of the cache and rows of each record.
            own: Events behind those of the reply.
            replies: See `functions.lua`.
            out: Gets the features.
            adding: The rows' events are added; they are the last ones, unless ``own_at`` says so.
            own_at: The position of each record's first own event.
        """
        if not calls:
            return
        cache, widths = self._cache, self._layout.widths
        table: list[tuple[int, ...]] = []
        parts: list[bytes] = []
        rows: list[int] = []
        at = longest = 0
        for place, ((view, key, slot, mine), behind, reply) in enumerate(
            zip(calls, own, replies, strict=True)
        ):
            start, _, whole, found = REPLY.unpack_from(reply)
            data = reply[REPLY.size + 8 * found :]
            base_words = (whole - 1) // 8 if whole else 0
            words = len(data) // 8
            in_reply = 8 * (words - base_words) // widths[view]
            count = in_reply + len(behind) // widths[view]
            if not adding:
                own_from = -1
            elif own_at is None:
                own_from = in_reply
            else:
                own_from = own_at[place] - start - 1
            table.append(
                (
                    view, cache.offset(view, slot), 1 if whole else 0, at, base_words,
                    at + base_words, count, start, own_from, len(mine), len(rows), 0,
                )
            )  # fmt: skip
            rows += mine
            parts += (data, behind)
            at += words + len(behind) // 8
            cache.known[view][slot] = start + count
            longest = max(longest, count)
            before, after = start + in_reply, start + count
            if before // COMPACT_FROM != after // COMPACT_FROM or in_reply > 4 * COMPACT_FROM:
                self._name_full(view, key)
        if longest > len(self._skipped):
            self._skipped = np.zeros(2 * longest, dtype=np.int64)
        packed = np.array(table, dtype=np.int64)
        stale = fold.fold_records(
            cache.words,
            self.program.code,
            self._layout.columns,
            packed,
            np.frombuffer(b"".join(parts), dtype=np.int64),
            np.array(rows, dtype=np.int64),
            self._encoder.events,
            out,
            self._skipped,
        )
        if stale:
            self._fold_whole(calls, packed, out, adding=adding)

    def _fold_whole(
        self,
        calls: list[tuple[int, str, int, list[int]]],
        table: Words,
        out: Vectors,
        *,
        adding: bool,
    ) -> None:
        """Fetch anew what holds an event here that was taken back since."""
        stale = np.flatnonzero(table[:, fold.STALE]).tolist()
        again = [calls[place] for place in stale]
        for view, _, slot, _ in again:
            self._cache.known[view][slot] = UNKNOWN
        replies = self.records.exchange(
            [self.records.append_command(view, key, UNKNOWN, b"") for view, key, _, _ in again]
        )
        own_at = [int(table[place, fold.FROM] + table[place, fold.OWN_FROM]) + 1 for place in stale]
        self._fold(again, [b""] * len(again), replies, out, adding=adding, own_at=own_at)

    def _finish(self, n: int, out: Vectors) -> None:
        encoder = self._encoder
        fold.finish_vectors(self.program.code, encoder.events, encoder.given, out, n)

    def _name_full(self, view: int, key: str) -> None:
        if len(self.full_tails) < MOST_FULL_TAILS:
            self.full_tails[view, key] = None


def _repeats(reply: bytes) -> list[int]:
    found = REPLY.unpack_from(reply)[3]
    indices: list[int] = np.frombuffer(reply, "<i8", found, REPLY.size).tolist()
    return indices


def _intent_of(rows_of: Mapping[Record, list[int]], ids: list[int]) -> bytes:
    return msgspec.msgpack.encode(
        [(view, key, [ids[row] for row in rows]) for (view, key), rows in rows_of.items()]
    )


def touched_by(intent: bytes) -> list[Touched]:
    """The records of an intent, as `Records.intents` gives it."""
    return [
        Touched(*item)
        for item in msgspec.msgpack.decode(intent, type=list[tuple[int, str, list[int]]])
    ]
