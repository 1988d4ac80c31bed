"""The online fold: transactions one after the other through the serving kernel, in one call.

Serving, proofs and readers of a workspace all go this way: events are encoded into a block of
memory that is kept, and one call of the kernel reads and changes the records of an arena.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.fold import fold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import (
    EVENT_VIEWS,
    FLAG_SHIFT,
    KIND_ADD,
    POSITION_MASK,
    Program,
)

Vectors = npt.NDArray[np.float32]


class OnlineFold:
    """A plan's online path over an arena. One thread at a time.

    Args:
        program: The compiled plan.
        arena: The records, read and changed in place.
        capacity: Events that there is room for at first; it grows.
    """

    def __init__(self, program: Program, arena: Arena, capacity: int = 64) -> None:
        self.program = program
        self.arena = arena
        self._encoder = self._room_for(max(capacity, 1))
        self._n_views = len(program.plan.views)

    def run(
        self,
        transactions: Sequence[Transaction],
        kind: int = KIND_ADD,
        known_only: Collection[int] = (),
    ) -> Vectors:
        """Give each transaction, in order, to the records.

        Args:
            transactions: In log order.
            kind: KIND_ADD reads, then adds; KIND_PEEK reads only; KIND_FRAUD and KIND_RETRACT
                change records and leave the vectors without meaning.
            known_only: Rows that make no records: a view whose record does not exist is null.

        Returns:
            float32 (n, n_features), NaN = unknown.
        """
        self._grow(len(transactions))
        encoder = self._encoder
        encoder.known_only = known_only
        encoder.new_records.clear()
        encoder.left_out.clear()
        put = encoder.put
        for row, transaction in enumerate(transactions):
            put(row, transaction, kind)
        return self._fold(len(transactions))

    @property
    def new_records(self) -> list[int]:
        """The row of each record that the last `run` made."""
        return [row for row, _ in self._encoder.new_records]

    @property
    def left_out(self) -> dict[int, tuple[str, ...]]:
        """Entities whose records the last `run` did not make, by row; see ``known_only``."""
        return entities_by_row(self.program.plan, self._encoder.left_out)

    def read(self, keys: Sequence[Mapping[str, str]], now_us: int) -> Vectors:
        """Features of entities at a time, without a transaction.

        Args:
            keys: Entity column to key, by row.
            now_us: Time of the question, microseconds.

        Returns:
            float32 (len(keys), n_features); request features are NaN.
        """
        self._grow(len(keys))
        for row, entity in enumerate(keys):
            self._encoder.put_query(row, entity, now_us)
        return self._fold(len(keys))

    def event_flags(self, rows: int) -> list[int]:
        """FLAG_LATE and FLAG_EXPIRED of each of the last ``rows`` events; empty if all have none.

        Args:
            rows: The number of transactions of the last `run`.
        """
        first = EVENT_VIEWS + self._n_views
        positions = self._encoder.events[:rows, first : first + self._n_views]
        if positions.max(initial=0) <= POSITION_MASK:
            return []
        flags: list[int] = np.bitwise_or.reduce(positions >> FLAG_SHIFT, axis=1).tolist()
        return flags

    def _grow(self, rows: int) -> None:
        if rows > self._encoder.capacity:
            self._encoder = self._room_for(2 * rows)

    def _room_for(self, rows: int) -> EventEncoder:
        encoder = EventEncoder(self.program, self.arena, rows)
        encoder.notes_new = True
        return encoder

    def _fold(self, rows: int) -> Vectors:
        out = np.empty((rows, self.program.n_features), dtype=np.float32)
        encoder = self._encoder
        fold(self.arena.words, self.program.code, encoder.events, encoder.given, out, rows)
        return out


def entities_by_row(plan: Plan, places: Iterable[tuple[int, int]]) -> dict[int, tuple[str, ...]]:
    """Entities of views by row (`View.entity`), of pairs of a row and a view's number."""
    found: dict[int, tuple[str, ...]] = {}
    for row, view in places:
        found[row] = (*found.get(row, ()), plan.views[view].entity)
    return found
