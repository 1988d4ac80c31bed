"""Transactions in, vectors out, over shared records: one round trip a group."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from sentinel.domain import Transaction
from sentinel.features.plan.program import KIND_PEEK
from sentinel.state.base import Hands
from sentinel.state.redis.adding import Added, Adding
from sentinel.state.redis.cache import RecordCache
from sentinel.state.redis.group_fold import MOST_ROWS, GroupFold, Vectors
from sentinel.state.redis.layout import Record
from sentinel.state.redis.records import Loaded, Records
from sentinel.state.redis.settled import SettledTickets
from sentinel.state.redis.under_way import AddingDone, GroupsUnderWay

MOST_ON_LOOP: Final = 64
"""Rows that are encoded and folded on an event loop; what is more goes through a thread."""

AT_ONCE: Final = 2
"""Groups that are sent on an event loop before the first of them is answered, at most."""

CACHE_BYTES: Final = 128 << 20
"""Bytes of records that a scorer keeps folded."""


def number_of(ticket: bytes) -> int:
    """The number of a scorer's ticket, which rises from one to the next."""
    return int.from_bytes(ticket[8:], "little")


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
        self._cache = RecordCache(records.program, cache_bytes, MOST_ROWS)
        self._group, *others = (
            GroupFold(records, self._cache, self.full_tails) for _ in range(AT_ONCE)
        )
        self._free = [*others, self._group]
        self._under_way = GroupsUnderWay(records, self._release)
        self._session = int.from_bytes(secrets.token_bytes(8), "little") >> 1
        self._groups = itertools.count(1)
        self._settled = SettledTickets()
        self._lock = threading.Lock()
        self._wanted = 0
        self._counting = threading.Lock()

    @property
    def entities(self) -> int:
        """Records that are kept folded."""
        return self._cache.entities

    @property
    def entities_by_view(self) -> dict[str, int]:
        """Records that are kept folded, by name of the view."""
        views = self.program.plan.views
        counts = self._cache.entities_by_view
        return {view.name: count for view, count in zip(views, counts, strict=True)}

    @property
    def cache_bytes(self) -> int:
        """Most that they take."""
        return self._cache.words.nbytes

    def warm(self) -> None:
        """Compile or load what folds records; Redis is not asked. Forgets what is known of them."""
        if self.program.plan.views:
            with self._alone():
                self._group.warm()

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
        with self._alone():
            adding = self._adding(transactions, ticket, known_only, self._group)
            try:
                return adding.end(self.records.exchange_behind(adding.commands, adding.heads))
            except BaseException:
                adding.fail()
                raise

    def begin(
        self,
        hands: Hands,
        transactions: Sequence[Transaction],
        ticket: bytes,
        known_only: Collection[int],
        done: AddingDone,
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
        if len(transactions) > MOST_ON_LOOP or not self._may_begin():
            return False
        group = self._free.pop()

        def end(added: Added | None, error: Exception | None) -> None:
            self._free.append(group)
            done(added, error)

        try:
            adding = self._adding(transactions, ticket, known_only, group)
            self._under_way.begin(hands, adding, end)
        except BaseException:
            self._free.append(group)
            if not self._under_way:
                self._release()
            raise
        return True

    def _may_begin(self) -> bool:
        """Whether a group may be sent; the lock is held then, by all in line together."""
        if self._wanted:
            return False
        if self._under_way:
            return bool(self._free) and self._under_way.may_go_on and self.records.wire.is_ready()
        if not self._lock.acquire(blocking=False):
            return False
        if not self.records.wire.is_ready():
            self._lock.release()
            return False
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until nobody else uses this; groups on an event loop give way."""
        with self._counting:
            self._wanted += 1
        self._lock.acquire()
        with self._counting:
            self._wanted -= 1
        self._cache.kept_from = self._cache.calls + 1
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        self._lock.release()

    def peek(self, transactions: Sequence[Transaction]) -> Vectors:
        """Features as if each were the next transaction; nothing is added.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        parts = []
        for at in range(0, len(transactions), MOST_ROWS):
            part = transactions[at : at + MOST_ROWS]
            with self._alone():
                parts.append(self._group.read(len(part), self._group.put(part, KIND_PEEK)))
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
            with self._alone():
                rows_of = self._group.put_questions(part, now_us)
                parts.append(self._group.read(len(part), rows_of))
        return self._joined(parts)

    def settled(self, ticket: bytes) -> None:
        """The events of a ticket are durable or voided: said to Redis with the next group."""
        self._settled.add(ticket)

    def say_settled(self, records: Records) -> None:
        """Tell Redis now, over another connection, what `settled` was told.

        Raises:
            StateUnavailable: Redis did not answer; it is told later.
        """
        while self._settled:
            some = self._settled.take()
            try:
                records.settled(some)
            except BaseException:
                self._settled.put_back(some)
                raise

    def let_go(self) -> None:
        """Make sure that nothing sent without an answer is still under way.

        Raises:
            StateUnavailable: Redis does not answer yet.
        """
        with self._alone():
            self.records.wire.settle()

    def use(self, loaded: Loaded) -> None:
        """Append to this load of the records from now on, and use nothing known of another."""
        with self._alone():
            self._cache.forget()
            self.records.use(loaded)

    def forget(self) -> None:
        """Use nothing of what is known of the records."""
        with self._alone():
            self._cache.forget()

    def _joined(self, parts: list[Vectors]) -> Vectors:
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty((0, self.program.n_features), np.float32), *parts])

    def _adding(
        self,
        transactions: Sequence[Transaction],
        ticket: bytes,
        known_only: Collection[int],
        group: GroupFold,
    ) -> Adding:
        return Adding(group, self.records, self._settled, transactions, ticket, known_only)
