"""The synchronous heart of scoring on state that many scorers share.

The counterpart of `engine.Engine`: what is in memory there is in Redis here. State that cannot be
read does not stop a decision: its vector is null, it is flagged degraded, and what it would have
changed is marked for repair.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sentinel.domain import StateUnavailable, Transaction
from sentinel.features.plan.program import FLAG_EXPIRED, FLAG_LATE, Program
from sentinel.log.entries import FLAG_DEGRADED, FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT
from sentinel.scoring.engine import ModelHolder, Scored
from sentinel.scoring.serving_model import ServingModel
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis_features import RedisFeatures

log = logging.getLogger(__name__)


@dataclass
class SharedView:
    """What one scorer knows of the log and the shared state.

    Attributes:
        program: The compiled plan.
        sequence: The last log entry this scorer appended or has seen.
        known: Ids of transactions that the log may hold, as far as this scorer has heard.
        entities, used_bytes: Of this scorer's memory: none.
    """

    program: Program
    sequence: int = 0
    known: KnownIds = field(default_factory=KnownIds)
    entities: int = 0
    used_bytes: int = 0


class SharedEngine(ModelHolder):
    """A model beside shared state. Used by one thread at a time.

    Args:
        features: Reads and changes the shared records.
        model: The champion, or None while nothing has been promoted.
        view: What is known of the log.

    Attributes:
        blocked: Why the shared state must not be used although Redis answers, None: it may.
        trouble: Why the last decisions were degraded, None: they were not.
    """

    def __init__(
        self, features: RedisFeatures, model: ServingModel | None, view: SharedView
    ) -> None:
        super().__init__(features.program, model)
        self.features = features
        self.state = view
        self.blocked: str | None = None
        self.trouble: str | None = None

    def warm(self) -> None:
        """Compile or load every kernel of the path, without touching state."""
        probe = Transaction(
            transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
        )
        self.features.peek([probe])
        self.state.known.holds_id("warm-up")
        if self.model is not None:
            self.peek([probe])

    def note_ids(self, transactions: list[Transaction]) -> list[int]:
        """Remember the ids of transactions that are to be decided on.

        Returns:
            The places of those that were known before: the log may hold them.
        """
        return self.state.known.add(t.transaction_id for t in transactions)

    def decide(self, transactions: list[Transaction]) -> Scored:
        """Read features, score and add each transaction to the shared state, in order.

        Raises:
            NoModel: Nothing has been promoted yet; state is untouched.
        """
        model = self._require_model()
        token = secrets.token_bytes(16)
        if self.blocked is not None:
            return self._in_trouble(model, transactions, self.blocked, token)
        try:
            applied = self.features.add(transactions, token)
        except StateUnavailable as error:
            return self._in_trouble(model, transactions, str(error), token)
        self.trouble = None
        scored = self._score(model, applied.vectors)
        flags = np.bitwise_or.reduce(applied.flags, axis=1)
        scored.flags[(flags & FLAG_LATE) != 0] |= FLAG_LATE_EVENT
        scored.flags[(flags & FLAG_EXPIRED) != 0] |= FLAG_EXPIRED_EVENT
        return replace(
            scored,
            positions=applied.positions.astype("<i8").tobytes(),
            repeated=tuple(np.flatnonzero(applied.repeated).tolist()),
            token=token,
        )

    def peek(self, transactions: list[Transaction]) -> Scored:
        """Score as if each were the next transaction; state is untouched."""
        model = self._require_model()
        try:
            return self._score(model, self.features.peek(transactions))
        except StateUnavailable as error:
            return self._in_trouble(model, transactions, str(error))

    def decide_without_state(self, transactions: list[Transaction]) -> Scored:
        """Score null vectors, flagged degraded; the shared state is neither read nor changed.

        Raises:
            NoModel: Nothing has been promoted yet.
        """
        return self._degraded(self._require_model(), transactions, secrets.token_bytes(16))

    def read(self, keys: list[dict[str, str]], now_us: int) -> npt.NDArray[np.float32]:
        """Features of entities at a time, without a transaction.

        Args:
            keys: Entity column to key, by row.
            now_us: Time of the question, microseconds.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        return self.features.read(keys, now_us)

    def _in_trouble(
        self, model: ServingModel, transactions: list[Transaction], trouble: str, token: bytes = b""
    ) -> Scored:
        if self.trouble is None:
            log.warning("Decisions are degraded: %s", trouble)
        self.trouble = trouble
        return self._degraded(model, transactions, token)

    def _degraded(
        self, model: ServingModel, transactions: list[Transaction], token: bytes
    ) -> Scored:
        n = len(transactions)
        vectors = np.full((n, self.program.n_features), np.nan, dtype=np.float32)
        scored = self._score(model, vectors)
        scored.flags[:] |= FLAG_DEGRADED
        return replace(scored, token=token)
