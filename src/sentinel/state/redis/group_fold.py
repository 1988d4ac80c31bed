"""One group at a time: its rows are encoded, and the records they name are read and folded."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import StateUnavailable, Transaction
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.words import NO_RECORD
from sentinel.features.plan.program import EVENT_VIEWS, KIND_ADD
from sentinel.state.redis import fold
from sentinel.state.redis.asked import RowsByRecord
from sentinel.state.redis.cache import UNKNOWN, RecordCache
from sentinel.state.redis.layout import Record, epoch_start
from sentinel.state.redis.records import REPLY, Records

Vectors = npt.NDArray[np.float32]
Words = npt.NDArray[np.int64]

MOST_ROWS: Final = 512
"""Rows of one round trip; what is more is cut into several."""

COMPACT_FROM: Final = 32
"""Events in a tail, for every so many of which the record is named for compaction."""

MOST_FULL_TAILS: Final = 1 << 14
"""Records that wait for compaction by name."""

_NO_CALLS: Final = np.empty((0, fold.CALL_COLUMNS), dtype=np.int64)
_NO_ROWS: Final = np.empty(0, dtype=np.int64)


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


class GroupFold:
    """Encodes events, asks for the records that they name, and folds what Redis replies.

    For one group and one thread at a time: `put` or `put_questions` begins the next group.

    Args:
        records: The records.
        cache: The records that are kept folded; others may use it between the methods of this.
        full_tails: Gets records whose tail has grown long.

    Attributes:
        cache: See above.
    """

    def __init__(
        self, records: Records, cache: RecordCache, full_tails: dict[Record, None]
    ) -> None:
        self._records = records
        self._program = records.program
        self._layout = records.layout
        self._full_tails = full_tails
        self.cache = cache
        self._n_views = len(self._program.plan.views)
        self._asked = RowsByRecord(self._n_views)
        self._encoder = self._room_for(64)

    def no_features(self, n: int) -> Vectors:
        """Room for features of n events: float32 (n, n_features), all unknown."""
        return np.full((n, self._program.n_features), np.nan, dtype=np.float32)

    def warm(self) -> None:
        """Compile or load what folds records; Redis is not asked. Forgets what is known of them."""
        self.put_questions([{}], 0)
        calls = self.calls({(0, ""): [0]}, fold.BEHIND)
        self.arguments(calls, [1], 1, KIND_ADD)
        start = epoch_start(self._records.epoch)
        out = self.no_features(1)
        self.fold(calls, [REPLY.pack(start, start, 1, 0)], out)
        self.finish(1, out)
        self.cache.forget()

    def _begin(self, rows: int) -> dict[Record, list[int]]:
        """Make room for events; the rows that name each record, in order, once they are encoded."""
        if rows > self._encoder.capacity:
            self._encoder = self._room_for(2 * rows)
        rows_of: dict[Record, list[int]] = {}
        self._asked.rows_of = rows_of
        return rows_of

    def put(self, transactions: Sequence[Transaction], kind: int) -> dict[Record, list[int]]:
        """Encode transactions; the rows that name each record, in order."""
        rows_of = self._begin(len(transactions))
        asked, put = self._asked, self._encoder.put
        for row, transaction in enumerate(transactions):
            asked.row = row
            put(row, transaction, kind)
        return rows_of

    def put_questions(
        self, keys: Sequence[Mapping[str, str]], now_us: int
    ) -> dict[Record, list[int]]:
        """Encode questions for entities at a time; the rows that name each record, in order."""
        rows_of = self._begin(len(keys))
        for row, entity in enumerate(keys):
            self._asked.row = row
            self._encoder.put_query(row, dict(entity), now_us)
        return rows_of

    def _room_for(self, rows: int) -> EventEncoder:
        asked: Any = self._asked
        return EventEncoder(self._program, asked, rows)

    def read(self, n: int, rows_of: dict[Record, list[int]]) -> Vectors:
        """Features of encoded events, float32 (n, n_features); nothing is added."""
        out = self.no_features(n)
        calls = self.calls(rows_of, fold.NOT_ADDED)
        self._fold_asked(calls, out)
        self.finish(n, out)
        return out

    def _fold_asked(self, calls: Calls, out: Vectors) -> Words:
        """Ask for records and read them, until none is stale; the table of the first reading."""
        folded = self.fold(calls, self._ask(calls), out)
        assert folded is not None  # nothing is added, so nothing can be there already
        table, stale = folded
        if stale:
            self.fold_whole(calls, table, out)
        return table

    def calls(
        self,
        rows_of: Mapping[Record, list[int]],
        own_at: int,
        known_only: Collection[int] = (),
    ) -> Calls:
        """Calls for records and their rows; each record has a slot of the cache from now on."""
        self.cache.begin()
        slot_of = self.cache.slot
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

    def arguments(
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
            self.cache.known,
            np.array(ids, dtype=np.int64),
            session,
            number,
            epoch_start(self._records.epoch),
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
        arguments = self.arguments(calls)
        return self._records.exchange(
            self._records.append_commands(calls.records, arguments, only_ask=True)
        )

    def fold(
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
            self.cache.words,
            self._program.code,
            self._layout.columns,
            self.cache.places,
            self.cache.known,
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

    def put_right(
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
        return self.calls(left, fold.BEHIND), kept, left_out

    def fold_whole(self, calls: Calls, table: Words, out: Vectors) -> None:
        """Fetch anew what holds an event here that was taken back since.

        Raises:
            StateUnavailable: Redis did not answer, or an event that was added stands at another
                place by now, so that nobody can tell what was there before it.
        """
        stale = np.flatnonzero(table[:, fold.STALE]).tolist()
        again = self.calls({calls.records[p]: calls.rows_of(p) for p in stale}, fold.NOT_ADDED)
        of_calls = again.table.copy()
        for row, place in enumerate(stale):
            view, slot = of_calls[row, fold.CALL_VIEW], of_calls[row, fold.CALL_SLOT]
            self.cache.known[view, slot] = UNKNOWN
            if table[place, fold.OWN_FROM] >= 0:
                of_calls[row, fold.CALL_OWN_AT] = (
                    table[place, fold.FROM] + table[place, fold.OWN_FROM] + 1
                )
        again.table = of_calls
        first_own = self._fold_asked(again, out)[:, fold.OWN_FROM]
        if ((of_calls[:, fold.CALL_OWN_AT] >= 0) & (first_own < 0)).any():
            raise StateUnavailable("A record was put in place anew while it was read.")

    def finish(self, n: int, out: Vectors) -> None:
        """Write what needs no state, and ratios."""
        encoder = self._encoder
        fold.finish_vectors(self._program.code, encoder.events, encoder.given, out, n)

    def placed(self, n: int) -> Words:
        """Positions and flags of n events that were added: int64 (n, views), see POSITION_MASK."""
        first = EVENT_VIEWS + self._n_views
        return self._encoder.events[:n, first : first + self._n_views]

    def _name_full(self, record: Record) -> None:
        if len(self._full_tails) < MOST_FULL_TAILS:
            self._full_tails[record] = None
