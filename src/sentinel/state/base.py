"""What feature state is to the rest of Sentinel, wherever it is kept.

State answers one question again and again: what is known of the entities of a payment just before
it? Asking adds the payment. What it holds is a fold over the log, so that any state can be made
anew from the log. `tests/state/test_contract.py` runs the same claims against every implementation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, Transaction
from sentinel.features.plan.program import Program
from sentinel.state.known_ids import KnownIds

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.features.voids import RecordsAnew
    from sentinel.ledger.base import Appended

Vectors = npt.NDArray[np.float32]
Flags = npt.NDArray[np.uint8]

SnapshotWritten = Callable[[], Path]
"""Waits until a snapshot is on disk and gives its file. To be called in a thread. Raises OSError
if it could not be written."""


class Hands(NamedTuple):
    """Who works on what is begun on an event loop.

    Attributes:
        loop: The event loop.
        in_thread: Does what has to wait after all, and then calls another callable on the event
            loop with the result and the error, one of which is None.
    """

    loop: asyncio.AbstractEventLoop
    in_thread: Callable[[Callable[[], Any], Callable[[Any, Exception | None], None]], None]


class Reading(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What state says of transactions; row i is of the i-th.

    Attributes:
        vectors: float32 (n, n_features), NaN = unknown: features just before each transaction.
        flags: uint8 (n,): FLAG_LATE_EVENT, FLAG_EXPIRED_EVENT and FLAG_DEGRADED, as the log keeps
            them.
        positions: int64 (n, views), little-endian: each transaction's own place in the shared
            records, 0 where it has no key. Empty where positions follow the sequence.
        repeated: Rows whose transaction the shared records held before, with the same id. Their
            vectors say nothing, and nothing was added for them.
        ticket: Names the changes of state that this reading made, until `FeatureState.settle`.
            Empty where nothing has to be settled; else 16 bytes, and the token of their append.
        degraded: Why state could not be read. The vectors then hold what needs no state (amount,
            hour, attributes), and NaN for the rest; all rows are flagged FLAG_DEGRADED. None if
            state was read.
        new_records: The row of each record that was made; a row that made several stands there as
            often.
        untracked: Entities without a record in a row that makes none (`View.entity`), by row. The
            vector is null there, the row is flagged FLAG_DEGRADED, and the log has to say so,
            because their records do not hold the transaction: see `sentinel.domain.PartlyTracked`.
    """

    vectors: Vectors
    flags: Flags
    positions: bytes = b""
    repeated: tuple[int, ...] = ()
    ticket: bytes = b""
    degraded: str | None = None
    new_records: Sequence[int] = ()
    untracked: Mapping[int, tuple[str, ...]] = {}


class FeatureState(Protocol):
    """Feature state of one plan.

    `add`, `add_without_state`, `peek` and `read` belong to the event loop where `waits` is False,
    and to at most `parallel` threads where it is True. `settle`, `apply_labels`,
    `records_anew`, `apply_voids` and `begin_snapshot` belong to the event loop and never wait.
    """

    @property
    def program(self) -> Program:
        """The compiled plan."""
        ...

    @property
    def sequence(self) -> int:
        """The last log entry that the state contains, as far as this process knows."""
        ...

    @property
    def known(self) -> KnownIds:
        """Ids of the transactions that the log may hold, as far as this process knows."""
        ...

    @property
    def waits(self) -> bool:
        """Whether `add`, `peek` and `read` wait for a server."""
        ...

    @property
    def parallel(self) -> int:
        """How many groups may be between `add` and `settle` at once."""
        ...

    @property
    def entities(self) -> int:
        """Number of records in this process."""
        ...

    @property
    def entities_by_view(self) -> Mapping[str, int]:
        """Number of records in this process, by view of the plan."""
        ...

    @property
    def used_bytes(self) -> int:
        """Size of the records in this process."""
        ...

    @property
    def held_bytes(self) -> int:
        """Memory that all records take, keys included, wherever they are kept; about."""
        ...

    @property
    def budget_bytes(self) -> int:
        """How much they may take; 0 if nobody knows a bound."""
        ...

    @property
    def entity_bytes(self) -> int:
        """What a record of a new entity takes, about."""
        ...

    def new_entities(self, transactions: Iterable[Transaction]) -> int:
        """How many records the transactions would make; 0 where only a server knows.

        May be called in any thread.
        """
        ...

    @property
    def waiting_labels(self) -> int:
        """Transactions that are called fraud and have not come, about."""
        ...

    @property
    def problem(self) -> str | None:
        """What is wrong with the state right now; None if nothing is."""
        ...

    def warm(self) -> None:
        """Compile or load every kernel of the path. State is untouched."""
        ...

    def add(self, transactions: Sequence[Transaction], known_only: Collection[int] = ()) -> Reading:
        """Read the features of transactions and add them, in order.

        A label that came before its transaction takes effect right after that was added. A server
        that does not answer gives a degraded reading; only programming errors are raised.

        Args:
            transactions: In log order.
            known_only: Rows that make no records, see `Reading.untracked`.
        """
        ...

    def begin_add(
        self,
        hands: Hands,
        transactions: Sequence[Transaction],
        known_only: Collection[int],
        done: Callable[[Reading | None, Exception | None], None],
    ) -> bool:
        """`add` on the event loop where `waits` is True, without waiting.

        Args:
            hands: Who does it.
            transactions, known_only: See `add`.
            done: Called on the event loop later.

        Returns:
            Whether it was begun. If not, nothing was done: `add` has to be called in a thread.
        """
        ...

    def add_without_state(self, transactions: Sequence[Transaction]) -> Reading:
        """A degraded reading on purpose: state is neither read nor changed."""
        ...

    def peek(self, transactions: Sequence[Transaction]) -> Reading:
        """Features as if each were the next transaction. Nothing is added."""
        ...

    def read(self, keys: Sequence[Mapping[str, str]], now_us: int) -> Vectors:
        """Features of entities at a time, without a transaction.

        Args:
            keys: Entity column to key, by row.
            now_us: Time of the question, microseconds.

        Returns:
            float32 (len(keys), n_features); features of the request are NaN.

        Raises:
            StateUnavailable: The server did not answer.
        """
        ...

    def settle(
        self,
        ticket: bytes,
        transactions: Sequence[Transaction],
        appended: Appended | None,
        doubtful: Sequence[Transaction] = (),
    ) -> None:
        """Say what became of the changes of a reading. Called once for each ticket.

        Args:
            ticket: Of the reading.
            transactions: Those of the reading that are durable now, in log order; if ``appended``
                is None, those of which nobody knows what the records should hold.
            appended: Where they are in the log; None if they are not durable.
            doubtful: Others of the reading that the log holds from elsewhere.
        """
        ...

    def apply_labels(
        self,
        labels: Sequence[Label],
        appended: Appended,
        transactions: Mapping[str, Transaction],
    ) -> None:
        """Let labels that have become durable take effect.

        Args:
            labels: In log order, one entry of the log each.
            appended: Where they are in the log.
            transactions: By id, those of the labels' transactions that the log holds.
        """
        ...

    def records_anew(
        self, payments: pa.RecordBatch, transaction_ids: Sequence[str]
    ) -> RecordsAnew | None:
        """What folds the records anew that payments touched which are to be void.

        Args:
            payments: Log batch of the payments.
            transaction_ids: Theirs.

        Returns:
            Records that the log is to be folded into; None if the log's follower puts them in
            place.
        """
        ...

    def apply_voids(
        self, transaction_ids: Sequence[str], appended: Appended, anew: RecordsAnew | None
    ) -> None:
        """Let voids that have become durable take effect.

        Args:
            transaction_ids: In log order, one entry of the log each.
            appended: Where they are in the log.
            anew: Of `records_anew`, folded through the entry before them.
        """
        ...

    def look_after(self) -> None:
        """Look after what may have changed elsewhere, about twice a second, in a thread."""
        ...

    def begin_snapshot(self, folder: Path, *, leisurely: bool = False) -> SnapshotWritten | None:
        """Begin to write the state as it is now; what changes afterwards is not in it.

        Args:
            folder: Of all snapshots.
            leisurely: Others use the disk meanwhile; let it rest for half of the time.

        Returns:
            What to wait for, or None if the state is kept elsewhere.
        """
        ...

    def close(self) -> None:
        """Release connections and threads."""
        ...
