"""The synchronous heart of scoring: one state, one model, one batch at a time.

An engine is used by one thread at a time. It changes state before its results are durable; the
caller commits them and, if that fails, throws the engine away and recovers another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sentinel.domain import NoModel, Transaction
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.fold import fold
from sentinel.features.plan.program import (
    EVENT_VIEWS,
    FLAG_EXPIRED,
    FLAG_LATE,
    FLAG_SHIFT,
    KIND_ADD,
    KIND_FRAUD,
    KIND_PEEK,
    POSITION_MASK,
    Program,
)
from sentinel.log.entries import FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT
from sentinel.scoring.serving_model import ServingModel
from sentinel.state.embedded import EmbeddedState
from sentinel.state.known_ids import id_hash


@dataclass(frozen=True, slots=True)
class Scored:
    """What an engine says of a batch; row i is of its i-th transaction.

    Attributes:
        model: The model that scored.
        vectors: float32 (n, n_features), NaN = unknown.
        scores: float64 (n,), raw.
        probabilities: float64 (n,), calibrated.
        flags: uint8 (n,), outcome code and flags as the ledger keeps them.
        reason_features: int16 (n, N_REASONS).
        reason_contributions: float32 (n, N_REASONS).
        positions: int64 (n, views) of each transaction in the shared records, as bytes; empty
            where positions follow the sequence.
        repeated: Rows of transactions that the shared state held before: their vectors say nothing.
        token: Names the changes of shared state that this made.
    """

    model: ServingModel
    vectors: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    flags: npt.NDArray[np.uint8]
    reason_features: npt.NDArray[np.int16]
    reason_contributions: npt.NDArray[np.float32]
    positions: bytes = b""
    repeated: tuple[int, ...] = ()
    token: bytes = b""


class ScoringEngine(Protocol):
    """State and model together, as the service uses them; one thread at a time."""

    program: Program
    model: ServingModel | None

    @property
    def state(self) -> Any:
        """What is known of the log: ``sequence``, ``known``, ``entities``, ``bytes``."""
        ...

    def warm(self) -> None:
        """See `Engine.warm`."""
        ...

    def note_ids(self, transactions: list[Transaction]) -> list[int]:
        """See `Engine.note_ids`."""
        ...

    def decide(self, transactions: list[Transaction]) -> Scored:
        """See `Engine.decide`."""
        ...

    def peek(self, transactions: list[Transaction]) -> Scored:
        """See `Engine.peek`."""
        ...

    def read(self, keys: list[dict[str, str]], now_us: int) -> npt.NDArray[np.float32]:
        """See `Engine.read`."""
        ...


class ModelHolder:
    """A model that may be missing, and the program of the plan that state is kept for.

    Args:
        program: The compiled plan.
        model: The champion, or None while nothing has been promoted.
    """

    def __init__(self, program: Program, model: ServingModel | None) -> None:
        self.program = program
        self.model = model

    def _require_model(self) -> ServingModel:
        if self.model is None:
            raise NoModel(
                "No model has been promoted yet. Train one with `sentinel train`, then promote "
                "it with `sentinel promote`."
            )
        return self.model

    def _score(self, model: ServingModel, vectors: npt.NDArray[np.float32]) -> Scored:
        scores, probabilities, flags = model.score(vectors)
        features, contributions = model.explain(vectors)
        return Scored(model, vectors, scores, probabilities, flags, features, contributions)


class Engine(ModelHolder):
    """State and model together.

    Args:
        state: The recovered state; the engine owns it from now on.
        model: The champion, or None while nothing has been promoted.
    """

    def __init__(self, state: EmbeddedState, model: ServingModel | None) -> None:
        super().__init__(state.program, model)
        self.state = state
        self._encoder = EventEncoder(self.program, state.arena, 64)
        self._n_views = len(self.program.plan.views)

    def warm(self) -> None:
        """Compile or load every kernel of the path, without touching state."""
        probe = Transaction(
            transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
        )
        self._fold([probe], KIND_PEEK)
        self.read([{}], 0)
        self.state.known.holds(id_hash("warm-up"))
        if self.model is not None:
            self.peek([probe])

    def note_ids(self, transactions: list[Transaction]) -> list[int]:
        """Remember the ids of transactions that are to be decided on.

        Returns:
            The places of those that were known before: the log may hold them.
        """
        return self.state.known.add(t.transaction_id for t in transactions)

    def decide(self, transactions: list[Transaction]) -> Scored:
        """Read features, score and add each transaction to the state, in order.

        Raises:
            NoModel: Nothing has been promoted yet; state is untouched.
        """
        model = self._require_model()
        waiting = self.state.fraud
        if waiting and any(t.transaction_id in waiting for t in transactions):
            vectors, event_flags = self._add_with_waiting_labels(transactions)
        else:
            vectors = self._fold(transactions, KIND_ADD)
            event_flags = self._event_flags(len(transactions))
        scored = self._score(model, vectors)
        for row, flags in enumerate(event_flags):
            if flags & FLAG_LATE:
                scored.flags[row] |= FLAG_LATE_EVENT
            if flags & FLAG_EXPIRED:
                scored.flags[row] |= FLAG_EXPIRED_EVENT
        return scored

    def peek(self, transactions: list[Transaction]) -> Scored:
        """Score as if each were the next transaction; state is untouched."""
        return self._score(self._require_model(), self._fold(transactions, KIND_PEEK))

    def apply_label_change(self, transaction: Transaction, kind: int) -> None:
        """Count a fraud (KIND_FRAUD) or take one back (KIND_RETRACT) in the features."""
        self._fold([transaction], kind)

    def read(self, keys: list[dict[str, str]], now_us: int) -> npt.NDArray[np.float32]:
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
        return self._run(len(keys))

    def _grow(self, rows: int) -> None:
        if rows > self._encoder.capacity:
            self._encoder = EventEncoder(self.program, self.state.arena, 2 * rows)

    def _fold(self, transactions: list[Transaction], kind: int) -> npt.NDArray[np.float32]:
        self._grow(len(transactions))
        put = self._encoder.put
        for row, transaction in enumerate(transactions):
            put(row, transaction, kind)
        return self._run(len(transactions))

    def _run(self, rows: int) -> npt.NDArray[np.float32]:
        out = np.empty((rows, self.program.n_features), dtype=np.float32)
        encoder = self._encoder
        fold(self.state.arena.words, self.program.code, encoder.events, encoder.given, out, rows)
        return out

    def _event_flags(self, rows: int) -> list[int]:
        """FLAG_LATE and FLAG_EXPIRED of each event of the last fold; empty: nobody has any."""
        first = EVENT_VIEWS + self._n_views
        positions = self._encoder.events[:rows, first : first + self._n_views]
        if positions.max(initial=0) <= POSITION_MASK:
            return []
        flags: list[int] = np.bitwise_or.reduce(positions >> FLAG_SHIFT, axis=1).tolist()
        return flags

    def _add_with_waiting_labels(
        self, transactions: list[Transaction]
    ) -> tuple[npt.NDArray[np.float32], list[int]]:
        """One at a time: a label that came before its transaction takes effect right after it."""
        vectors = np.empty((len(transactions), self.program.n_features), dtype=np.float32)
        event_flags: list[int] = []
        for row, transaction in enumerate(transactions):
            vectors[row] = self._fold([transaction], KIND_ADD)[0]
            event_flags += self._event_flags(1) or [0]
            if transaction.transaction_id in self.state.fraud:
                self._fold([transaction], KIND_FRAUD)
        return vectors, event_flags
