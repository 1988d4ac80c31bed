"""Transactions on their way into shared records: what is sent, and what the replies say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.features.plan.program import FLAG_SHIFT, KIND_ADD, POSITION_MASK
from sentinel.state.known_ids import id_hash
from sentinel.state.redis import fold
from sentinel.state.redis.group_fold import MOST_ROWS, GroupFold, Vectors, Words
from sentinel.state.redis.intents import intent_of
from sentinel.state.redis.layout import KIND_BITS
from sentinel.state.redis.records import Records
from sentinel.state.redis.settled import SettledTickets


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


class Adding:
    """A group that is being added. Whoever sends its commands ends it with the replies.

    Args:
        group: Encodes and folds; no other group may use it until this one has ended.
        records: The records.
        settled: Some of these tickets are told with the group.
        transactions, ticket, known_only: See `SharedFeatures.add`.

    Attributes:
        commands: What is sent.
        group: See above.
        heads: How many of the commands are no calls for records.
    """

    __slots__ = (
        "_calls", "_first_call", "_left_out", "_n", "_out", "_records", "_repeated", "_settled",
        "_table", "_told", "commands", "group", "heads",
    )  # fmt: skip

    _out: Vectors
    _repeated: npt.NDArray[np.bool_]
    _table: Words

    def __init__(
        self,
        group: GroupFold,
        records: Records,
        settled: SettledTickets,
        transactions: Sequence[Transaction],
        ticket: bytes,
        known_only: Collection[int],
    ) -> None:
        n = len(transactions)
        if n > MOST_ROWS:
            raise ValueError(f"A group holds at most {MOST_ROWS} transactions, not {n}.")
        self.group = group
        self._records = records
        self._settled = settled
        self._n = n
        self._left_out: list[tuple[int, int]] = []
        ids = [id_hash(transaction.transaction_id) for transaction in transactions]
        rows_of = group.put(transactions, KIND_ADD)
        commands = [records.intent_command(ticket, intent_of(rows_of, ids))]
        asked = records.loaded_command()
        if asked is not None:
            commands.insert(0, asked)
        self._first_call = group.cache.calls + 1
        self._calls = group.calls(rows_of, fold.BEHIND, known_only)
        session = int.from_bytes(ticket[:8], "little")
        number = (int.from_bytes(ticket[8:], "little") << KIND_BITS) | KIND_ADD
        events = group.arguments(self._calls, ids, session, number)
        self._told = settled.take()
        if self._told:
            commands.append(records.settled_command(self._told))
        self.heads = len(commands)
        commands += records.append_commands(self._calls.records, events)
        self.commands = commands

    def fail(self) -> None:
        """The group was not added: the tickets that were told with it are told again."""
        self._settled.put_back(self._told)

    def let_go(self, oldest: Adding | None) -> None:
        """The cache need not keep what this group asked for; ``oldest`` is still under way."""
        cache = self.group.cache
        cache.kept_from = cache.calls + 1 if oldest is None else oldest._first_call

    def end(self, replies: list[Any]) -> Added:
        """What was read. Waits where a record has to be fetched anew.

        Args:
            replies: To the commands.
        """
        if self.fold(replies):
            return self.read_stale()
        return self.added()

    def put_straight(self, replies: list[Any]) -> Added:
        """Go on where some replies are errors. Waits."""
        return self.end(self._records.settled_replies(self.commands, replies))

    def fold(self, replies: list[Any]) -> bool:
        """Bring records up to date and read them; whether some have to be fetched anew."""
        self._records.check_in_use(replies[0])
        group, n, told = self.group, self._n, replies[self.heads :]
        self._out = group.no_features(n)
        self._repeated = np.zeros(n, dtype=np.bool_)
        folded = group.fold(self._calls, told, self._out)
        if folded is None:
            self._calls, told, self._left_out = group.put_right(self._calls, told, self._repeated)
            folded = group.fold(self._calls, told, self._out)
        assert folded is not None  # nothing is left that is out of the ordinary
        self._table, stale = folded
        return stale > 0

    def read_stale(self) -> Added:
        """Fetch anew what has to be. Waits."""
        self.group.fold_whole(self._calls, self._table, self._out)
        return self.added()

    def added(self) -> Added:
        """What was read, once nothing is stale."""
        n, group = self._n, self.group
        new = np.flatnonzero(self._table[:, fold.NEW]).tolist()
        group.finish(n, self._out)
        placed = group.placed(n)
        return Added(
            self._out,
            placed & POSITION_MASK,
            (placed >> FLAG_SHIFT).astype(np.uint8),
            self._repeated,
            [self._calls.first_row(place) for place in new],
            sorted(self._left_out),
        )
