"""Voids on their way into the log, and records put in place anew beside the payments.

What a void is: `sentinel.features.voids`. Where this process holds the state, the records that the
payments touched are folded anew in a thread up to the end of the log. Then no group begins for a
moment: what came meanwhile is folded, the voids are committed, and the records are put in place.
Where many scorers share state, the voids are committed, and the log's follower has the records
put in place a moment later, as it brings in labels (`sentinel.scoring.follower`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from sentinel.domain import (
    InvalidTransaction,
    LedgerUnavailable,
    Overloaded,
    SentinelError,
    Transaction,
    UnknownTransaction,
    Void,
)
from sentinel.features.voids import RecordsAnew
from sentinel.ledger.base import Appended, Ledger
from sentinel.ledger.columns import payments_batch
from sentinel.ledger.log import read_log
from sentinel.ledger.lookup import TransactionLookup
from sentinel.log.entries import VOID_FORMAT, GroupKind, VoidGroup, encode_group
from sentinel.scoring.writer import Writer
from sentinel.state.base import FeatureState

log = logging.getLogger(__name__)

MOST_VOIDS: Final = 100
"""Voids of one request; one request is worked on at a time."""
MOST_ROWS: Final = 2_000_000
"""Payments of the entities that the voids of a request touch, some 150 bytes each."""

_SMALL_GAP: Final = 256
_GAP_ROUNDS: Final = 20
_RETRY_SECONDS: Final = 10.0
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class VoidReceipt:
    """What became of a void.

    Attributes:
        transaction_id: Of the transaction.
        repeated: It was void already; nothing was added.
        sequence: The void's place in the log.
    """

    transaction_id: str
    repeated: bool
    sequence: int


class VoidRecorder:
    """Takes voids in the order of the log; lives on the writer's event loop.

    Args:
        writer: The writer.
        reader: The log.
        alone: Held by whoever puts state in place: a void, or a plan that takes over.
    """

    def __init__(self, writer: Writer, reader: Ledger, alone: asyncio.Lock) -> None:
        self._writer = writer
        self._reader = reader
        self._alone = alone
        self._under_way: set[asyncio.Task[list[VoidReceipt]]] = set()

    async def submit(
        self, transaction_ids: Sequence[str], reason: str, called_by: str = ""
    ) -> list[VoidReceipt]:
        """Declare transactions void; done once the records are in place, or will be in a moment
        where state is shared.

        Args:
            transaction_ids: Which, at most MOST_VOIDS.
            reason: Why.
            called_by: Id of who asks; empty if nobody is known.

        Returns:
            A receipt for each, in order.

        Raises:
            UnknownTransaction: The log does not hold one of them; nothing was recorded.
            InvalidTransaction: They touch records of too many payments; nothing was recorded.
            Overloaded: A void or a change of plan is under way.
            Unavailable: State or ledger cannot be used right now.
        """
        if self._alone.locked():
            raise Overloaded(
                "Other voids are being recorded, or a plan takes over. Nothing of this request "
                "was recorded; send it again in a moment.",
                retry_after_seconds=_RETRY_SECONDS,
            )
        # A client that goes away must not leave the writer in the middle of it.
        task = asyncio.create_task(self._submit(list(transaction_ids), reason, called_by))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _submit(
        self, transaction_ids: list[str], reason: str, called_by: str
    ) -> list[VoidReceipt]:
        async with self._alone:
            found, recorded = await self._look_up(transaction_ids)
            unknown = [one for one in transaction_ids if one not in found]
            if unknown:
                shown = ", ".join(repr(one) for one in unknown[:_SHOWN])
                raise UnknownTransaction(
                    f"The log does not hold {shown}; nothing was declared void. Only what was "
                    "decided or imported can be."
                )
            new = list(dict.fromkeys(one for one in transaction_ids if one not in recorded))
            places = dict(recorded)
            if new:
                voids = [
                    Void(transaction_id=one, received_at_us=self._now_us(), reason=reason)
                    for one in new
                ]
                first = await self._record(voids, [found[one] for one in new], called_by)
                places |= {one: first + place for place, one in enumerate(new)}
                await self._look_up(new)  # what is asked from now on sees them
            return [VoidReceipt(one, one in recorded, places[one]) for one in transaction_ids]

    def _now_us(self) -> int:
        return self._writer.receive_time_us()

    async def _look_up(
        self, transaction_ids: Sequence[str]
    ) -> tuple[dict[str, Transaction], Mapping[str, int]]:
        """Transactions of the log, and the places of their voids, by id."""
        future: asyncio.Future[tuple[dict[str, Transaction], Mapping[str, int]]]
        future = asyncio.get_running_loop().create_future()

        def search(
            lookup: TransactionLookup,
        ) -> tuple[dict[str, Transaction], Mapping[str, int]]:
            lookup.index.catch_up()
            return lookup.transactions(transaction_ids), lookup.index.voids_of(transaction_ids)

        def done(
            found: tuple[dict[str, Transaction], Mapping[str, int]] | None,
            error: Exception | None,
        ) -> None:
            if found is None:
                assert error is not None
                future.set_exception(error)
            else:
                future.set_result(found)

        self._writer.lookups.run(search, done)
        return await future

    async def _record(
        self, voids: list[Void], transactions: list[Transaction], called_by: str
    ) -> int:
        """Commit voids and put records in place; the sequence of the first."""
        state = self._writer.scorer.state
        ids = [void.transaction_id for void in voids]
        anew = state.records_anew(payments_batch(transactions), ids)
        through = 0 if anew is None else await self._fold_most(anew)
        await self._hold()
        try:
            if anew is not None:
                await asyncio.to_thread(self._fold, anew, through)
            self._check_usable(state)
        except BaseException:
            self._writer.turn.release()
            raise
        appended = await self._commit(state, voids, anew, called_by)
        log.info(
            "%d payments are void from entry %d on.",
            len(ids),
            appended.first_sequence,
            extra={"sequence": appended.first_sequence, "entries": len(ids)},
        )
        return appended.first_sequence

    async def _fold_most(self, anew: RecordsAnew) -> int:
        """Fold until little of the log is left; the last entry that was taken in."""
        through = 0
        for _ in range(_GAP_ROUNDS):
            before, through = through, await asyncio.to_thread(self._fold, anew, through)
            if through - before < _SMALL_GAP:
                break
        return through

    def _fold(self, anew: RecordsAnew, after: int) -> int:
        """Take in what the log holds behind an entry; the last entry that was taken in."""
        through = self._reader.last_sequence()
        for _, batch in read_log(self._reader, after, through):
            anew.take(batch)
            if anew.rows > MOST_ROWS:
                raise InvalidTransaction(
                    f"These payments share a card, a customer, a merchant or another entity with "
                    f"more than {MOST_ROWS:,} others, and the records of those would have to be "
                    "folded anew. Nothing was declared void; ask for fewer at once."
                )
        anew.fold()
        return through

    async def _hold(self) -> None:
        """Wait until no group is at work, and let none begin until `Turn.release`."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hold() -> None:
            self._writer.turn.hold()
            begun.set_result(None)

        self._writer.turn.run_job(hold)
        await begun

    def _check_usable(self, state: FeatureState) -> None:
        if self._writer.unavailable is not None:
            raise LedgerUnavailable(self._writer.unavailable)
        if self._writer.scorer.state is not state:
            raise LedgerUnavailable("State was rebuilt meanwhile; nothing was recorded. Try again.")

    async def _commit(
        self, state: FeatureState, voids: list[Void], anew: RecordsAnew | None, called_by: str
    ) -> Appended:
        """Append the voids and let them take effect. The turn is held, and released here."""
        future: asyncio.Future[Appended] = asyncio.get_running_loop().create_future()
        ids = [void.transaction_id for void in voids]
        received_at_us = self._writer.not_before(voids[-1].received_at_us)
        voids = [msgspec.structs.replace(one, received_at_us=received_at_us) for one in voids]
        payload = encode_group(VoidGroup(VOID_FORMAT, voids, called_by))

        def done(appended: Appended | None, error: SentinelError | None) -> None:
            if appended is None:
                assert error is not None
                future.set_exception(error)
                return
            state.apply_voids(ids, appended, anew)
            self._writer.recent.forget(ids)
            self._writer.metrics.voids += len(ids)
            future.set_result(appended)

        self._writer.commit(GroupKind.VOIDS, len(voids), received_at_us, payload, done)
        return await future
