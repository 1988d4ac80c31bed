"""Feature state in Redis as one of many scorers uses it.

Records are changed on the server. What becomes of changes that never reach the log, what another
scorer left behind and what a label changes is looked after in threads of their own (`Upkeep`).
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, StateUnavailable, Transaction, Verdict
from sentinel.features.plan.program import FLAG_EXPIRED, FLAG_LATE, KIND_FRAUD, Program
from sentinel.ledger.base import Appended
from sentinel.log.entries import FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT
from sentinel.log.labels import changes_of
from sentinel.scoring.upkeep import Upkeep
from sentinel.state.base import Reading, Vectors
from sentinel.state.known_ids import KnownIds, id_hash
from sentinel.state.redis_features import RedisFeatures
from sentinel.state.without_state import WithoutState

log = logging.getLogger(__name__)

_TICKET_BYTES = 16


class SharedState:
    """A `FeatureState` over records in Redis.

    Args:
        features: Reads and changes the records.
        upkeep: Keeps them true to the log.
        known: Ids that this scorer has heard of.
        sequence: The last log entry that it has seen.
        watch: Called by `look_after`; it sets `blocked` and `unwatched`.
        parallel: See `FeatureState`.

    Attributes:
        blocked: Reason not to use the records although Redis answers; None if they may be used.
        unwatched: Why nobody can look after them; None if somebody can.
    """

    waits = True
    entities = 0
    used_bytes = 0

    def __init__(
        self,
        features: RedisFeatures,
        upkeep: Upkeep,
        known: KnownIds,
        sequence: int,
        watch: Callable[[SharedState], None] = lambda _: None,
        parallel: int = 1,
    ) -> None:
        self.features = features
        self.upkeep = upkeep
        self.known = known
        self.sequence = sequence
        self.parallel = parallel
        self._watch = watch
        self._without = WithoutState(features.program)
        self._talking = threading.Lock()
        self.blocked: str | None = None
        self.unwatched: str | None = None
        self._trouble: str | None = None
        self._degraded: set[bytes] = set()

    @property
    def program(self) -> Program:
        """The compiled plan."""
        return self.features.program

    @property
    def problem(self) -> str | None:
        """Why decisions are degraded, or why records cannot be looked after."""
        return self.blocked or self.unwatched or self._trouble or self.upkeep.problem

    # See `FeatureState` for all of these.

    def warm(self) -> None:
        probe = Transaction(
            transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
        )
        self.peek([probe])
        self._without.reading([probe], "warm-up")
        self.known.holds(id_hash("warm-up"))

    def add(self, transactions: Sequence[Transaction]) -> Reading:
        ticket = secrets.token_bytes(_TICKET_BYTES)
        if self.blocked is not None:
            return self._without_state(transactions, self.blocked, ticket)
        try:
            with self._talking:
                applied = self.features.add(transactions, ticket)
        except StateUnavailable as error:
            return self._without_state(transactions, str(error), ticket)
        self._trouble = None
        return Reading(
            vectors=applied.vectors,
            flags=_flags_of(applied.flags),
            positions=applied.positions.astype("<i8").tobytes(),
            repeated=tuple(np.flatnonzero(applied.repeated).tolist()),
            ticket=ticket,
        )

    def add_without_state(self, transactions: Sequence[Transaction]) -> Reading:
        ticket = secrets.token_bytes(_TICKET_BYTES)
        self._degraded.add(ticket)
        return self._without.reading(transactions, "State was left out on purpose.", ticket)

    def peek(self, transactions: Sequence[Transaction]) -> Reading:
        try:
            with self._talking:
                vectors = self.features.peek(transactions)
        except StateUnavailable as error:
            return self._without.reading(transactions, str(error))
        return Reading(vectors, np.zeros(len(transactions), dtype=np.uint8))

    def read(self, keys: Sequence[Mapping[str, str]], now_us: int) -> Vectors:
        with self._talking:
            return self.features.read([dict(key) for key in keys], now_us)

    def settle(
        self,
        ticket: bytes,
        transactions: Sequence[Transaction],
        appended: Appended | None,
        doubtful: Sequence[Transaction] = (),
    ) -> None:
        degraded = ticket in self._degraded
        self._degraded.discard(ticket)
        self.upkeep.doubt(doubtful)
        if appended is None:
            self.upkeep.doubt(transactions)
        else:
            self.sequence = max(self.sequence, appended.first_sequence + len(transactions) - 1)
            if degraded:
                self.upkeep.doubt(transactions)  # the log holds their labels, too
            else:
                self._count_waiting_labels(transactions, appended)
        self.upkeep.settled(ticket, transactions)

    def apply_labels(
        self,
        labels: Sequence[Label],
        appended: Appended,
        transactions: Mapping[str, Transaction],
    ) -> None:
        fraud = {i for i, before in appended.before.items() if before.verdict == Verdict.FRAUD}
        for change in changes_of(labels, appended.first_sequence, fraud):
            before = appended.before.get(change.transaction_id)
            transaction = transactions.get(change.transaction_id)
            # Whoever decides on a transaction that is not in the log yet sees the label.
            if before is not None and before.sequence and transaction is not None:
                self.upkeep.count_label(transaction, change.kind, change.label_sequence)
        self.sequence = max(self.sequence, appended.first_sequence + len(labels) - 1)

    def look_after(self) -> None:
        self._watch(self)

    def begin_snapshot(self, folder: Path) -> None:
        """Redis keeps the state."""

    def close(self) -> None:
        self.features.state.close()

    def _without_state(
        self, transactions: Sequence[Transaction], trouble: str, ticket: bytes
    ) -> Reading:
        if self._trouble is None:
            log.warning("Decisions are degraded: %s", trouble)
        self._trouble = trouble
        self._degraded.add(ticket)
        return self._without.reading(transactions, trouble, ticket)

    def _count_waiting_labels(
        self, transactions: Sequence[Transaction], appended: Appended
    ) -> None:
        if not appended.before:
            return
        for transaction in transactions:
            before = appended.before.get(transaction.transaction_id)
            if before is not None and before.verdict == Verdict.FRAUD:
                self.upkeep.count_label(transaction, KIND_FRAUD, before.label_sequence)


def _flags_of(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The log's flags, uint8 (n,), of what the server reports for each view, uint8 (n, views)."""
    found = np.bitwise_or.reduce(flags, axis=1)
    of_events = np.zeros(len(flags), dtype=np.uint8)
    of_events[(found & FLAG_LATE) != 0] |= FLAG_LATE_EVENT
    of_events[(found & FLAG_EXPIRED) != 0] |= FLAG_EXPIRED_EVENT
    return of_events
