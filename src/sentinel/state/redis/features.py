"""Transactions in, vectors out, over shared records: one round trip a group."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading
from array import array
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from sentinel.state.base import Hands
from sentinel.state.known_ids import id_hash
from sentinel.state.redis import fold
from sentinel.state.redis.asked import RowsByRecord
from sentinel.state.redis.cache import UNKNOWN, RecordCache
from sentinel.state.redis.layout import KIND_BITS, epoch_start
from sentinel.state.redis.records import REPLY, Record, Records

Vectors = npt.NDArray[np.float32]
Words = npt.NDArray[np.int64]

MOST_ROWS: Final = 512
"""Rows of one round trip; what is more is cut into several."""

MOST_ON_LOOP: Final = 64
"""Rows that are encoded and folded on an event loop; what is more goes through a thread."""

COMPACT_FROM: Final = 32
"""Events in a tail, for every so many of which the record is named for compaction."""

MOST_FULL_TAILS: Final = 1 << 14
"""Records that wait for compaction by name."""

CACHE_BYTES: Final = 128 << 20
"""Bytes of records that a scorer keeps folded."""

_SETTLED_AT_ONCE: Final = 64
_NO_CALLS: Final = np.empty((0, fold.CALL_COLUMNS), dtype=np.int64)
_NO_ROWS: Final = np.empty(0, dtype=np.int64)


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


class Calls:
    """What is asked of records, one after the other.

    Attributes:
        records: Which.
        table: int64 (n, CALL_COLUMNS), see `fold`.
        rows: int64, the rows of all calls.
    """

    __slots__ = ("records", "rows", "table")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.table: Words = _NO_CALLS
        self.rows: Words = _NO_ROWS

    def rows_of(self, place: int) -> list[int]:
        """The rows of a call."""
        start = self.table[place, fold.CALL_ROWS_AT]
        rows: list[int] = self.rows[start : start + self.table[place, fold.CALL_ROWS]].tolist()
        return rows

    def first_row(self, place: int) -> int:
        """The first row of a call."""
        return int(self.rows[self.table[place, fold.CALL_ROWS_AT]])


class _Adding:
    """Transactions that are being added.

    Attributes:
        n: How many.
        calls: The records that are left to be read.
        commands: What is sent.
        heads: How many of the commands are no calls for records.
        settled: Tickets that are told with them.
        out, repeated, left_out: See `Added`.
        table: See `SharedFeatures._fold`.
    """

    __slots__ = (
        "calls", "commands", "heads", "left_out", "n", "out", "repeated", "settled", "table"
    )  # fmt: skip

    out: Vectors
    repeated: npt.NDArray[np.bool_]
    table: Words

    def __init__(
        self,
        n: int,
        calls: Calls,
        commands: list[tuple[bytes, bytes]],
        heads: int,
        settled: list[bytes],
    ) -> None:
        self.n = n
        self.calls = calls
        self.commands = commands
        self.heads = heads
        self.settled = settled
        self.left_out: list[tuple[int, int]] = []


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
        self._asked = RowsByRecord(self._n_views)
        self._encoder = self._room_for(64)
        self._session = int.from_bytes(secrets.token_bytes(8), "little") >> 1
        self._groups = itertools.count(1)
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

    def warm(self) -> None:
        """Compile or load what folds records; Redis is not asked. Forgets what is known of them."""
        if not self._n_views:
            return
        with self._lock:
            self._begin(1)
            self._encoder.put_query(0, {}, 0)
            calls = self._calls({(0, ""): [0]}, fold.BEHIND)
            self._arguments(calls, [1], 1, KIND_ADD)
            start = epoch_start(self.records.epoch)
            out = np.full((1, self.program.n_features), np.nan, dtype=np.float32)
            self._fold(calls, [REPLY.pack(start, start, 1, 0)], out)
            self._finish(1, out)
            self._cache.forget()

    def next_ticket(self) -> bytes:
        """Names a group of changes, 16 bytes; never given before by any scorer."""
        number = next(self._groups)  # without the lock: nobody waits for it here
        return self._session.to_bytes(8, "little") + number.to_bytes(8, "little")

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
        with self._lock:
            adding = self._begin_adding(transactions, ticket, known_only)
            try:
                replies = self.records.exchange_behind(adding.commands, adding.heads)
                return self._end_adding(adding, replies)
            except BaseException:
                self._settled.extendleft(reversed(adding.settled))
                raise

    def begin(
        self,
        hands: Hands,
        transactions: Sequence[Transaction],
        ticket: bytes,
        known_only: Collection[int],
        done: Callable[[Added | None, Exception | None], None],
    ) -> bool:
        """`add` on an event loop, without waiting for Redis.

        Args:
            hands: Who does it.
            transactions, ticket, known_only: See `add`.
            done: Called on the event loop later, with what was read or what `add` would raise.

        Returns:
            Whether it was begun. If not, nothing was done, and `add` has to be called in a thread:
            there is no connection yet, there are several servers, or others use this object.
        """
        if len(transactions) > MOST_ON_LOOP or not self._lock.acquire(blocking=False):
            return False
        if not self.records.wire.is_ready():
            self._lock.release()
            return False
        try:
            adding = self._begin_adding(transactions, ticket, known_only)
        except BaseException:
            self._lock.release()
            raise

        def end(added: Added | None, error: Exception | None) -> None:
            if error is not None:
                self._settled.extendleft(reversed(adding.settled))
            self._lock.release()
            done(added, error)

        def told(replies: list[Any] | None, error: Exception | None) -> None:
            if replies is None:
                end(None, error)
            elif any(isinstance(reply, Exception) for reply in replies):
                hands.in_thread(partial(self._put_straight, adding, replies), end)
            else:
                try:
                    stale = self._fold_adding(adding, replies)
                    added = None if stale else self._added(adding)
                except Exception as problem:  # noqa: BLE001 -- whoever waits gets the error
                    end(None, problem)
                else:
                    if added is None:
                        hands.in_thread(partial(self._read_stale, adding), end)
                    else:
                        end(added, None)

        try:
            self.records.wire.begin(hands.loop, adding.commands, told)
        except BaseException:
            self._settled.extendleft(reversed(adding.settled))
            self._lock.release()
            raise
        return True

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
                rows_of = self._begin(len(part))
                for row, entity in enumerate(part):
                    self._asked.row = row
                    self._encoder.put_query(row, dict(entity), now_us)
                parts.append(self._read(len(part), rows_of))
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
            some = self._take_settled()
            try:
                records.settled(some)
            except BaseException:
                self._settled.extendleft(reversed(some))
                raise

    def _take_settled(self) -> list[bytes]:
        """Some of what `settled` was told; another thread may take at the same time."""
        taken: list[bytes] = []
        with contextlib.suppress(IndexError):
            while len(taken) < _SETTLED_AT_ONCE:
                taken.append(self._settled.popleft())
        return taken

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

    def _begin(self, rows: int) -> dict[Record, list[int]]:
        """Make room for events; the rows that name each record, in order, once they are encoded."""
        if rows > self._encoder.capacity:
            self._encoder = self._room_for(2 * rows)
        rows_of: dict[Record, list[int]] = {}
        self._asked.rows_of = rows_of
        return rows_of

    def _put(self, transactions: Sequence[Transaction], kind: int) -> dict[Record, list[int]]:
        rows_of = self._begin(len(transactions))
        asked, put = self._asked, self._encoder.put
        for row, transaction in enumerate(transactions):
            asked.row = row
            put(row, transaction, kind)
        return rows_of

    def _room_for(self, rows: int) -> EventEncoder:
        asked: Any = self._asked
        return EventEncoder(self.program, asked, rows)

    # Round trips.

    def _begin_adding(
        self, transactions: Sequence[Transaction], ticket: bytes, known_only: Collection[int]
    ) -> _Adding:
        """Encode transactions and make the commands that add them."""
        n = len(transactions)
        if n > MOST_ROWS:
            raise ValueError(f"A group holds at most {MOST_ROWS} transactions, not {n}.")
        ids = [id_hash(transaction.transaction_id) for transaction in transactions]
        rows_of = self._put(transactions, KIND_ADD)
        commands = [self.records.intent_command(ticket, _intent_of(rows_of, ids))]
        asked = self.records.loaded_command()
        if asked is not None:
            commands.insert(0, asked)
        calls = self._calls(rows_of, fold.BEHIND, known_only)
        session = int.from_bytes(ticket[:8], "little")
        number = (int.from_bytes(ticket[8:], "little") << KIND_BITS) | KIND_ADD
        events = self._arguments(calls, ids, session, number)
        settled = self._take_settled()
        if settled:
            commands.append(self.records.settled_command(settled))
        heads = len(commands)
        commands += self.records.append_commands(calls.records, events)
        return _Adding(n, calls, commands, heads, settled)

    def _put_straight(self, adding: _Adding, replies: list[Any]) -> Added:
        """Go on where replies are errors. Waits."""
        return self._end_adding(adding, self.records.settled_replies(adding.commands, replies))

    def _end_adding(self, adding: _Adding, replies: list[Any]) -> Added:
        """Read what the replies say. Waits where a record has to be fetched anew."""
        if self._fold_adding(adding, replies):
            return self._read_stale(adding)
        return self._added(adding)

    def _fold_adding(self, adding: _Adding, replies: list[Any]) -> bool:
        """Bring records up to date and read them; whether some have to be fetched anew."""
        self.records.check_in_use(replies[0])
        n, told = adding.n, replies[adding.heads :]
        adding.out = np.full((n, self.program.n_features), np.nan, dtype=np.float32)
        adding.repeated = np.zeros(n, dtype=np.bool_)
        folded = self._fold(adding.calls, told, adding.out)
        if folded is None:
            adding.calls, told, adding.left_out = self._put_right(
                adding.calls, told, adding.repeated
            )
            folded = self._fold(adding.calls, told, adding.out)
        assert folded is not None  # nothing is left that is out of the ordinary
        adding.table, stale = folded
        return stale > 0

    def _read_stale(self, adding: _Adding) -> Added:
        self._fold_whole(adding.calls, adding.table, adding.out)
        return self._added(adding)

    def _added(self, adding: _Adding) -> Added:
        n, out = adding.n, adding.out
        new = np.flatnonzero(adding.table[:, fold.NEW]).tolist()
        self._finish(n, out)
        placed = self._encoder.events[
            :n, EVENT_VIEWS + self._n_views : EVENT_VIEWS + 2 * self._n_views
        ]
        return Added(
            out,
            placed & POSITION_MASK,
            (placed >> FLAG_SHIFT).astype(np.uint8),
            adding.repeated,
            [adding.calls.first_row(place) for place in new],
            sorted(adding.left_out),
        )

    def _read(self, n: int, rows_of: dict[Record, list[int]]) -> Vectors:
        out = np.full((n, self.program.n_features), np.nan, dtype=np.float32)
        calls = self._calls(rows_of, fold.NOT_ADDED)
        self._fold_asked(calls, out)
        self._finish(n, out)
        return out

    def _fold_asked(self, calls: Calls, out: Vectors) -> None:
        """Ask for records and read them, until none is stale."""
        folded = self._fold(calls, self._ask(calls), out)
        assert folded is not None  # nothing is added, so nothing can be there already
        table, stale = folded
        if stale:
            self._fold_whole(calls, table, out)

    def _calls(
        self,
        rows_of: Mapping[Record, list[int]],
        own_at: int,
        known_only: Collection[int] = (),
    ) -> Calls:
        """Calls for records and their rows; each record has a slot of the cache from now on."""
        self._cache.begin()
        slot_of = self._cache.slot
        calls, table, rows = Calls(), array("q"), array("q")
        for record, mine in rows_of.items():
            makes = not known_only or any(row not in known_only for row in mine)
            view, key = record
            table.extend((view, slot_of(view, key), len(rows), len(mine), own_at, makes))
            rows.extend(mine)
            calls.records.append(record)
        if table:
            calls.table = np.frombuffer(table, dtype=np.int64).reshape(-1, fold.CALL_COLUMNS)
            calls.rows = np.frombuffer(rows, dtype=np.int64)
        return calls

    def _arguments(
        self, calls: Calls, ids: Sequence[int] = (), session: int = 0, number: int = 0
    ) -> list[bytes]:
        """What the server's function is called with, for each record; no number, no events."""
        layout, n = self._layout, len(calls.records)
        widest = layout.taken.shape[1] + fold.REPLY_WORDS
        written = np.empty(n * fold.REPLY_WORDS + len(calls.rows) * widest, dtype=np.int64)
        ends = np.empty(n, dtype=np.int64)
        fold.write_arguments(
            calls.table,
            calls.rows,
            self._encoder.events,
            layout.taken,
            self._cache.known,
            np.array(ids, dtype=np.int64),
            session,
            number,
            epoch_start(self.records.epoch),
            written,
            ends,
        )
        whole = written.tobytes()
        found, at = [], 0
        for end in (8 * ends).tolist():
            found.append(whole[at:end])
            at = end
        return found

    def _ask(self, calls: Calls) -> list[bytes]:
        """Replies about records, to which nothing is added."""
        arguments = self._arguments(calls)
        return self.records.exchange(
            self.records.append_commands(calls.records, arguments, only_ask=True)
        )

    def _fold(
        self, calls: Calls, replies: Sequence[bytes], out: Vectors
    ) -> tuple[Words, int] | None:
        """Bring the records of calls up to date and read for their rows.

        Args:
            calls: Which.
            replies: See `functions.lua`.
            out: Gets the features.

        Returns:
            See `fold.COLUMNS`, one row for each call, and how many are STALE, for which nothing was
            read; None if nothing was done because a record does not exist or holds some of the
            events already.
        """
        table = np.empty((len(replies), fold.COLUMNS), dtype=np.int64)
        if not replies:
            return table, 0
        odd, stale, full = fold.fold_replies(
            self._cache.words,
            self.program.code,
            self._layout.columns,
            self._cache.places,
            self._cache.known,
            calls.table,
            calls.rows,
            np.array([len(reply) >> 3 for reply in replies], dtype=np.int64).cumsum(),
            np.frombuffer(b"".join(replies), dtype=np.int64),
            self._encoder.events,
            out,
            table,
            COMPACT_FROM,
        )
        if odd:
            return None
        if full:
            for place in np.flatnonzero(table[:, fold.FULL]).tolist():
                self._name_full(calls.records[place])
        return table, stale

    def _put_right(
        self, calls: Calls, replies: Sequence[bytes], repeated: npt.NDArray[np.bool_]
    ) -> tuple[Calls, list[bytes], list[tuple[int, int]]]:
        """Take out of calls what a record holds already, and records that do not exist.

        Args:
            calls, replies: Of an append.
            repeated: Set where a record holds the row's transaction.

        Returns:
            Calls and replies that are left, and row and view of each record that does not exist.
        """
        left: dict[Record, list[int]] = {}
        kept: list[bytes] = []
        left_out: list[tuple[int, int]] = []
        for place, (record, reply) in enumerate(zip(calls.records, replies, strict=True)):
            rows = calls.rows_of(place)
            start, position, whole, found = REPLY.unpack_from(reply)
            if start == fold.NO_SUCH_RECORD:
                self._encoder.events[rows, EVENT_VIEWS + record[0]] = NO_RECORD
                left_out += [(row, record[0]) for row in rows]
                continue
            standing = reply
            if found:
                again = np.frombuffer(reply, "<i8", found, REPLY.size).tolist()
                for index in again:
                    repeated[rows[index]] = True
                rows = [row for index, row in enumerate(rows) if index not in again]
                head = REPLY.pack(start, position, whole, 0)
                standing = head + reply[REPLY.size + 8 * found :]
            left[record] = rows
            kept.append(standing)
        return self._calls(left, fold.BEHIND), kept, left_out

    def _fold_whole(self, calls: Calls, table: Words, out: Vectors) -> None:
        """Fetch anew what holds an event here that was taken back since."""
        stale = np.flatnonzero(table[:, fold.STALE]).tolist()
        again = self._calls({calls.records[p]: calls.rows_of(p) for p in stale}, fold.NOT_ADDED)
        of_calls = again.table.copy()
        for row, place in enumerate(stale):
            view, slot = of_calls[row, fold.CALL_VIEW], of_calls[row, fold.CALL_SLOT]
            self._cache.known[view, slot] = UNKNOWN
            if table[place, fold.OWN_FROM] >= 0:
                of_calls[row, fold.CALL_OWN_AT] = (
                    table[place, fold.FROM] + table[place, fold.OWN_FROM] + 1
                )
        again.table = of_calls
        self._fold_asked(again, out)

    def _finish(self, n: int, out: Vectors) -> None:
        encoder = self._encoder
        fold.finish_vectors(self.program.code, encoder.events, encoder.given, out, n)

    def _name_full(self, record: Record) -> None:
        if len(self.full_tails) < MOST_FULL_TAILS:
            self.full_tails[record] = None


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
