"""Feature state in Redis as one of many scorers uses it.

Scorers append to shared records and fold what comes back. What becomes of events that never reach
the log, what another scorer left behind and what the log says beside decisions is looked after in
threads of their own (`Reconciler`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, StateUnavailable, Transaction
from sentinel.features.online import entities_by_row
from sentinel.features.plan.program import FLAG_EXPIRED, FLAG_LATE, Program
from sentinel.ledger.base import Appended
from sentinel.log.entries import FLAG_DEGRADED, FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT
from sentinel.scoring.reconciler import Reconciler
from sentinel.state.base import Hands, Reading, Vectors
from sentinel.state.known_ids import KnownIds, id_hash
from sentinel.state.redis.adding import Added
from sentinel.state.redis.features import SharedFeatures, number_of
from sentinel.state.redis.records import NotInUse
from sentinel.state.redis.wire import NotSent
from sentinel.state.without_state import WithoutState

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.features.voids import RecordsAnew

log = logging.getLogger(__name__)

ENTITY_BYTES: Final = 350
"""What a record of a new entity takes in Redis, with its key; see decision 300."""


class SharedState:
    """A `FeatureState` over records in Redis.

    Args:
        features: Reads and changes the records.
        reconciler: Keeps them true to the log.
        known: Ids that this scorer has heard of.
        sequence: The last log entry that it has seen.
        watch: Called by `look_after`; it sets `blocked` and `unwatched`.
        parallel: See `FeatureState`.

    Attributes:
        held_bytes: Memory that Redis uses, as it was last seen.
        budget_bytes, waiting_labels: See `FeatureState`, as they were last seen.
        blocked: Reason not to use the records although Redis answers; None if they may be used.
        unwatched: Why nobody can look after them; None if somebody can.
    """

    waits = True

    def __init__(
        self,
        features: SharedFeatures,
        reconciler: Reconciler,
        known: KnownIds,
        sequence: int,
        watch: Callable[[SharedState], None] = lambda _: None,
        parallel: int = 1,
    ) -> None:
        self.features = features
        self.reconciler = reconciler
        self.known = known
        self.sequence = sequence
        self.parallel = parallel
        self._watch = watch
        self._without = WithoutState(features.program)
        self.held_bytes = 0
        self.budget_bytes = 0
        self.waiting_labels = 0
        self.blocked: str | None = None
        self.unwatched: str | None = None
        self._trouble: str | None = None
        self._in_doubt: set[bytes] = set()
        self._read_before = 0

    @property
    def program(self) -> Program:
        """The compiled plan."""
        return self.features.program

    @property
    def entities(self) -> int:
        """Records that this scorer keeps folded."""
        return self.features.entities

    @property
    def entities_by_view(self) -> Mapping[str, int]:
        """See `FeatureState`: records that this scorer keeps folded."""
        return self.features.entities_by_view

    @property
    def used_bytes(self) -> int:
        """Most that they take."""
        return self.features.cache_bytes

    @property
    def entity_bytes(self) -> int:
        """Of a record in Redis."""
        return ENTITY_BYTES

    def new_entities(self, transactions: Iterable[Transaction]) -> int:
        """Only Redis knows, and asking it costs as much as deciding."""
        return 0

    @property
    def problem(self) -> str | None:
        """Why decisions are degraded, or why records cannot be looked after."""
        return self.blocked or self.unwatched or self._trouble or self.reconciler.problem

    # See `FeatureState` for all of these.

    def warm(self) -> None:
        probe = Transaction(
            transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
        )
        self.features.warm()
        self.peek([probe])
        self._without.reading([probe], "warm-up")
        self.known.holds(id_hash("warm-up"))

    def add(self, transactions: Sequence[Transaction], known_only: Collection[int] = ()) -> Reading:
        ticket = self.features.next_ticket()
        if self.blocked is not None:
            return self._without_state(transactions, self.blocked, ticket)
        try:
            added = self.features.add(transactions, ticket, known_only)
        except StateUnavailable as error:
            return self._not_added(transactions, ticket, error)
        return self._reading_of(transactions, ticket, added)

    def begin_add(
        self,
        hands: Hands,
        transactions: Sequence[Transaction],
        known_only: Collection[int],
        done: Callable[[Reading | None, Exception | None], None],
    ) -> bool:
        if self.blocked is not None:
            return False
        ticket = self.features.next_ticket()

        def ended(added: Added | None, error: Exception | None) -> None:
            try:
                if added is not None:
                    reading = self._reading_of(transactions, ticket, added)
                elif isinstance(error, StateUnavailable):
                    reading = self._not_added(transactions, ticket, error)
                else:
                    done(None, error)
                    return
            except Exception as problem:  # noqa: BLE001 -- whoever waits gets the error
                done(None, problem)
                return
            done(reading, None)

        return self.features.begin(hands, transactions, ticket, known_only, ended)

    def _not_added(
        self, transactions: Sequence[Transaction], ticket: bytes, error: StateUnavailable
    ) -> Reading:
        if not isinstance(error, NotSent):
            # Each event may stand in its record or not: none is to.
            self._in_doubt.add(ticket)
            self.reconciler.doubt(ticket, transactions, in_log=False, last=False)
        if isinstance(error, NotInUse):
            self.blocked = str(error)  # until `look_after` has found it well
        return self._without_state(transactions, str(error), ticket)

    def _reading_of(
        self, transactions: Sequence[Transaction], ticket: bytes, added: Added
    ) -> Reading:
        self._trouble = None
        repeated = np.flatnonzero(added.repeated).tolist() if added.repeated.any() else []
        if repeated:
            # One record may have noticed what another has folded into its base.
            self._in_doubt.add(ticket)
            again = [transactions[row] for row in repeated]
            self.reconciler.doubt(ticket, again, in_log=False, last=False)
        flags = _flags_of(added.flags)
        untracked: Mapping[int, tuple[str, ...]] = {}
        if added.left_out:
            untracked = entities_by_row(self.program.plan, added.left_out)
            flags[list(untracked)] |= FLAG_DEGRADED
        return Reading(
            vectors=added.vectors,
            flags=flags,
            positions=added.positions.astype("<i8").tobytes(),
            repeated=tuple(repeated),
            ticket=ticket,
            new_records=added.new_records,
            untracked=untracked,
        )

    def add_without_state(self, transactions: Sequence[Transaction]) -> Reading:
        ticket = self.features.next_ticket()
        return self._without.reading(transactions, "State was left out on purpose.", ticket)

    def peek(self, transactions: Sequence[Transaction]) -> Reading:
        try:
            vectors = self.features.peek(transactions)
        except StateUnavailable as error:
            return self._without.reading(transactions, str(error))
        return Reading(vectors, np.zeros(len(transactions), dtype=np.uint8))

    def read(self, keys: Sequence[Mapping[str, str]], now_us: int) -> Vectors:
        return self.features.read(keys, now_us)

    def settle(
        self,
        ticket: bytes,
        transactions: Sequence[Transaction],
        appended: Appended | None,
        doubtful: Sequence[Transaction] = (),
    ) -> None:
        if not ticket:
            return
        if appended is not None:
            self.sequence = max(self.sequence, appended.first_sequence + len(transactions) - 1)
        doubt = self.reconciler.doubt
        if doubtful:
            doubt(ticket, doubtful, in_log=False, last=False)
        if appended is None and transactions:
            doubt(ticket, transactions, in_log=True, last=False)
        if transactions and number_of(ticket) <= self._read_before:
            self.reconciler.doubt_records(transactions)
        if doubtful or appended is None or ticket in self._in_doubt:
            self._in_doubt.discard(ticket)
            doubt(ticket, (), in_log=False, last=True)
        else:
            self.features.settled(ticket)

    def doubt_under_way(self) -> None:
        """Groups that are under way may have read, and changed, what Redis has lost since.

        Their events may be missing from the records by the time that the log holds them: so the
        records are put in place anew once it does.
        """
        self._read_before = number_of(self.features.next_ticket())

    def apply_labels(
        self,
        labels: Sequence[Label],
        appended: Appended,
        transactions: Mapping[str, Transaction],
    ) -> None:
        """The log's follower lets them take effect."""
        self.sequence = max(self.sequence, appended.first_sequence + len(labels) - 1)
        self.reconciler.look_now()

    def records_anew(self, payments: pa.RecordBatch, transaction_ids: Sequence[str]) -> None:
        """The log's follower puts them in place."""

    def apply_voids(
        self, transaction_ids: Sequence[str], appended: Appended, anew: RecordsAnew | None
    ) -> None:
        self.sequence = max(self.sequence, appended.first_sequence + len(transaction_ids) - 1)
        self.reconciler.look_now()

    def look_after(self) -> None:
        self._watch(self)

    def begin_snapshot(self, folder: Path, *, leisurely: bool = False) -> None:
        """Redis keeps the state."""

    def close(self) -> None:
        self.features.records.close()

    def _without_state(
        self, transactions: Sequence[Transaction], trouble: str, ticket: bytes
    ) -> Reading:
        if self._trouble is None:
            log.warning("Decisions are degraded: %s", trouble)
        self._trouble = trouble
        return self._without.reading(transactions, trouble, ticket)


def _flags_of(flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The log's flags, uint8 (n,), of what the kernel reports for each view, uint8 (n, views)."""
    of_events = np.zeros(len(flags), dtype=np.uint8)
    if not flags.any():
        return of_events
    found = np.bitwise_or.reduce(flags, axis=1)
    of_events[(found & FLAG_LATE) != 0] |= FLAG_LATE_EVENT
    of_events[(found & FLAG_EXPIRED) != 0] |= FLAG_EXPIRED_EVENT
    return of_events
