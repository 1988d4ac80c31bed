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
from sentinel.features.plan.program import Program
from sentinel.scoring.serving_model import ServingModel
from sentinel.state.embedded import EmbeddedState


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
        """What is known of the log: ``sequence``, ``known``, ``entities``, ``used_bytes``."""
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

    def warm(self) -> None:
        """Compile or load every kernel of the path, without touching state."""
        self.state.warm()
        if self.model is not None:
            probe = Transaction(
                transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
            )
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
        reading = self.state.add(transactions)
        scored = self._score(model, reading.vectors)
        scored.flags[:] |= reading.flags
        return scored

    def peek(self, transactions: list[Transaction]) -> Scored:
        """Score as if each were the next transaction; state is untouched."""
        return self._score(self._require_model(), self.state.peek(transactions).vectors)

    def read(self, keys: list[dict[str, str]], now_us: int) -> npt.NDArray[np.float32]:
        """Features of entities at a time, without a transaction.

        Args:
            keys: Entity column to key, by row.
            now_us: Time of the question, microseconds.

        Returns:
            float32 (len(keys), n_features); request features are NaN.
        """
        return self.state.read(keys, now_us)
