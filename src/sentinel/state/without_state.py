"""The part of a feature vector that needs no state: amount, hour, weekday, attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sentinel.domain import Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.fold import fold
from sentinel.features.kernel.words import NO_RECORD
from sentinel.features.plan.program import EVENT_VIEWS, KIND_PEEK, Program
from sentinel.log.entries import FLAG_DEGRADED
from sentinel.state.base import Reading


class WithoutState:
    """Readings for the time that state cannot be read. For any thread.

    Args:
        program: The compiled plan.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._arena = Arena(program, capacity_words=1)
        self._views = slice(EVENT_VIEWS, EVENT_VIEWS + len(program.plan.views))

    def reading(
        self, transactions: Sequence[Transaction], why: str, ticket: bytes = b""
    ) -> Reading:
        """Features of each transaction as if none of its entities were known.

        Args:
            transactions: What to read.
            why: Reason not to use the state.
            ticket: See `Reading`.
        """
        n, program = len(transactions), self._program
        encoder = EventEncoder(program, self._arena, max(n, 1))
        for row, transaction in enumerate(transactions):
            encoder.put(row, transaction, KIND_PEEK)
        encoder.events[:n, self._views] = NO_RECORD
        vectors = np.empty((n, program.n_features), dtype=np.float32)
        fold(self._arena.words, program.code, encoder.events, encoder.given, vectors, n)
        flags = np.full(n, FLAG_DEGRADED, dtype=np.uint8)
        return Reading(vectors, flags, ticket=ticket, degraded=why)
