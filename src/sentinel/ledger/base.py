"""What a ledger backend does. SQLite and PostgreSQL keep the same contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, Self

from sentinel.domain import SentinelError, Verdict
from sentinel.log.entries import Group, GroupKind


class Standing(NamedTuple):
    """What the log says of a transaction.

    Attributes:
        sequence: Of the transaction; 0: the log does not hold it (yet).
        verdict: Of the newest label about it; None: there is none.
        label_sequence: Of that label; 0: there is none.
    """

    sequence: int
    verdict: Verdict | None
    label_sequence: int


class Appended(NamedTuple):
    """What an append did.

    Attributes:
        first_sequence: Sequence of the first entry.
        received_at_us: Of the last entry as the log has it. A ledger that many write raises it to
            that of the entry before, since clocks differ.
        before: What the log said just before this append, by transaction id, where many write to
            it. For decisions: the transactions that have a label already. For labels: every
            transaction they are about. So whichever of a transaction and its label comes second
            sees the first. Empty where only one process writes: it knows by itself.
        group: The group as the log has it.
    """

    first_sequence: int
    received_at_us: int
    before: Mapping[str, Standing] = {}
    group: Group | None = None


AppendDone = Callable[[Appended | None, SentinelError | None], None]
"""Called with what was appended, or with what `Ledger.append` would raise. Where both are None, the
connection was lost in the middle: `Ledger.append` is to be called with the same token."""


class StateRebuild(NamedTuple):
    """A record of shared state that was replaced by one rebuilt from the log, or mended.

    Attributes:
        plan_hash, view, entity_key: Which record.
        position: Of the record after it was replaced or mended.
        through_sequence: The log was read up to here. Negative: the change at the position of
            this size never reached the log, and was taken back.
    """

    plan_hash: str
    view: str
    entity_key: str
    position: int
    through_sequence: int


class LabelEffect(NamedTuple):
    """Where a label's change stands in the shared records of its transaction.

    Attributes:
        plan_hash, transaction_id: Whose records.
        label_sequence: The label's place in the log.
        kind: KIND_FRAUD or KIND_RETRACT of `sentinel.features.plan.program`.
        positions: The change's own in each view's record; 0 where there is none.
    """

    plan_hash: str
    transaction_id: str
    label_sequence: int
    kind: int
    positions: tuple[int, ...]


class PieceEffect(NamedTuple):
    """Where consecutive imported transactions stand in the shared records.

    Attributes:
        plan_hash: Whose records.
        first_sequence: The first one's place in the log.
        positions: By entry, then by view, flat: the position of its own event; 0 where it is a
            label, or has none.
    """

    plan_hash: str
    first_sequence: int
    positions: Sequence[int]


class Ledger(Protocol):
    """An append-only sequence of groups.

    Appends may come from `appends_at_once` threads; reads may come from any process meanwhile.
    """

    @property
    def appends_at_once(self) -> int:
        """How many threads may append at once."""
        ...

    @property
    def appends_on_loop(self) -> bool:
        """Whether `begin_append` may ever begin one."""
        ...

    def append(
        self,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        *,
        transaction_ids: Sequence[str] = (),
        token: bytes | None = None,
    ) -> Appended:
        """Append a group; when this returns, it is on disk.

        Args:
            kind: What the payload is.
            entries: Number of log entries in it, at least 1.
            received_at_us: Of the last entry. Where only one process writes, it must not be below
                that of the group before; where many do, it is raised.
            payload: See `Group`.
            transaction_ids: Of a group of decisions, in its order, to save the ledger from reading
                them in the payload. Where many write, they are unique in the log.
            token: 16 bytes of the caller's choice. Where many write, a second append with the same
                token appends nothing and returns what the first did.

        Raises:
            AlreadyRecorded: The log holds some of the transactions or labels; nothing was appended.
            LedgerUnavailable: The record could not be made durable. Nothing was appended, unless a
                connection was lost in the middle (see `SharedLedger.settle`).
        """
        ...

    def begin_append(
        self,
        loop: asyncio.AbstractEventLoop,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        *,
        transaction_ids: Sequence[str],
        token: bytes,
        done: AppendDone,
    ) -> bool:
        """`append` on an event loop, without waiting.

        Args:
            loop: The event loop that this is called on.
            kind, entries, received_at_us, payload, transaction_ids, token: See `append`.
            done: Called on the event loop once, later.

        Returns:
            Whether it was begun. If not, nothing was done: `append` has to be called in a thread.
        """
        ...

    def last_sequence(self) -> int:
        """Sequence of the last entry, 0 if there is none."""
        ...

    def last_received_at_us(self) -> int:
        """`received_at_us` of the last entry, 0 if there is none."""
        ...

    def groups(self, after: int = 0) -> Iterator[Group]:
        """Groups that hold entries with a sequence above ``after``, in order."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class SharedLedger(Ledger, Protocol):
    """A ledger that many processes append to at once. See `sentinel.ledger.open.open_shared`."""

    def verdicts(
        self, transaction_ids: Sequence[str], *, before: int | None = None
    ) -> Mapping[str, Standing]:
        """What the log says of transactions; those it knows nothing of are left out.

        Args:
            transaction_ids: Which.
            before: As of just before this entry of the log; None: now.

        Raises:
            LedgerUnavailable: The ledger cannot be read right now.
        """
        ...

    def settle(self, token: bytes) -> int:
        """Find out for good what became of an append whose answer was lost.

        An append with this token that has not reached the log by now never will.

        Returns:
            The sequence of its first entry, 0 if it is not in the log.

        Raises:
            LedgerUnavailable: The ledger cannot be reached right now.
        """
        ...

    def record_rebuild(self, rebuild: StateRebuild) -> None:
        """Remember that a record was replaced; durable when this returns.

        Raises:
            LedgerUnavailable: It could not be made durable.
        """
        ...

    def rebuilds(self, plan_hash: str, *, after: int = 0) -> Iterator[StateRebuild]:
        """The rebuilt records of a plan, in the order they were recorded in.

        Args:
            plan_hash: The plan.
            after: Only those behind this number of `last_rebuild`.

        Raises:
            LedgerUnavailable: The ledger cannot be read right now.
        """
        ...

    def last_rebuild(self, plan_hash: str) -> int:
        """The number of the last rebuilt record of a plan, 0 if there is none; numbers rise.

        Raises:
            LedgerUnavailable: The ledger cannot be read right now.
        """
        ...

    def rebuilt_position(self, plan_hash: str, view: str, entity_key: str) -> int:
        """The highest position at which a record was ever put in place anew, 0 if it never was.

        Raises:
            LedgerUnavailable: The ledger cannot be read right now.
        """
        ...

    def record_label_effects(self, effects: Sequence[LabelEffect]) -> None:
        """Remember where entries of the log took effect; durable when this returns.

        Raises:
            LedgerUnavailable: It could not be made durable.
        """
        ...

    def label_effects(self, plan_hash: str) -> Iterator[LabelEffect]:
        """Where labels took effect in the records of a plan, in the order of the labels.

        Raises:
            LedgerUnavailable: The ledger cannot be read right now.
        """
        ...

    def record_piece_effect(self, effect: PieceEffect) -> None:
        """Remember where imported transactions took effect; durable when this returns.

        Raises:
            LedgerUnavailable: It could not be made durable.
        """
        ...

    def piece_effects(self, plan_hash: str) -> Iterator[PieceEffect]:
        """Where imported transactions took effect in the records of a plan, in log order.

        A transaction may be named twice, in pieces that begin at different entries.

        Raises:
            LedgerUnavailable: The ledger cannot be read right now.
        """
        ...
