"""Labels on their way into the log and into the features that are derived from them.

What they are about is looked up in a thread, each group of the log once. Then they are recorded in
their turn, some at a time, so that payments go on between two portions of a large request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import msgspec

from sentinel.domain import (
    AlreadyRecorded,
    InvalidLabel,
    Label,
    LedgerUnavailable,
    Overloaded,
    SentinelError,
    Transaction,
    Unavailable,
    Verdict,
)
from sentinel.ledger.base import Appended
from sentinel.ledger.lookup import TransactionLookup
from sentinel.log.entries import LABEL_FORMAT, GroupKind, LabelGroup, encode_group
from sentinel.scoring.writer import Writer

log = logging.getLogger(__name__)

MOST_WAITING: Final = 50_000
"""Labels of all requests that may wait at once. One request alone may have more."""

MOST_UNKNOWN: Final = 1_000_000
"""Payments that are called fraud and that the log does not hold: each is remembered until it comes,
some 150 bytes."""

AT_ONCE: Final = 256
"""Most labels that share one commit."""
SHARED_AT_ONCE: Final = 32
"""The same while single payments come in: the next one waits for what is at work."""

_FORGOTTEN_AT_ONCE: Final = 512
_BUSY: Final = (
    "{waiting:,} labels wait to be recorded, and {most:,} may. Nothing of this request was "
    "recorded; send it again in a moment."
)


_TOO_MANY_UNKNOWN: Final = (
    "{new:,} of these labels call payments fraud that are not on record, and {waiting:,} such "
    "payments are waited for already; {most:,} may be. Nothing of this request was recorded. Send "
    "labels of payments that are on record; send these after their payments."
)
_UNKNOWN_RETRY_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class LabelReceipt:
    """What became of a label.

    Attributes:
        label: As recorded.
        repeated: It was in the log already; nothing was added.
        known_transaction: Whether the log holds the transaction; if not, the label waits for it.
        void: Whether the transaction was declared void, so that the label has no effect.
    """

    label: Label
    repeated: bool
    known_transaction: bool
    void: bool = False


@dataclass(slots=True)
class _Found:
    """What the queryable tables say of a request.

    Attributes:
        through: They held the log up to here, at least.
        labels: Recorded labels with the request's label ids.
        transactions: What the labels are about.
        void: Those of the request's transactions that are void.
    """

    through: int
    labels: dict[str, Label]
    transactions: dict[str, Transaction]
    void: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Request:
    """Labels that came together.

    Attributes:
        labels: In order.
        future: Of the receipts.
        called_by: Id of who sent them; empty if nobody is known.
        at_once: Most labels of the next portion.
        floor: Up to where entries were forgotten when the request came.
        receipts: So far.
        found: What was looked up.
        through: Up to where the tables held the log when the next portion was looked up.
        began: When the portion at work was begun, by `time.perf_counter`.
    """

    labels: list[Label]
    future: asyncio.Future[list[LabelReceipt]]
    called_by: str = ""
    at_once: int = AT_ONCE
    floor: int = 0
    receipts: list[LabelReceipt] = field(default_factory=list)
    found: _Found = field(default_factory=lambda: _Found(-1, {}, {}))
    through: int = -1
    began: float = 0.0

    @property
    def portion(self) -> list[Label]:
        """What is to be recorded next."""
        done = len(self.receipts)
        return self.labels[done : done + self.at_once]

    def fail(self, error: Exception) -> None:
        if self.receipts and isinstance(error, Unavailable):
            error = LedgerUnavailable(
                f"The first {len(self.receipts)} of {len(self.labels)} labels are recorded, the "
                f"others are not. Send those again. {error}"
            )
        if not self.future.done():
            self.future.set_exception(error)

    def finish(self) -> None:
        if not self.future.done():
            self.future.set_result(self.receipts)


class LabelRecorder:
    """Takes labels in the order of the log.

    Args:
        writer: The writer.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._recent: dict[str, tuple[int, Label]] = {}
        self._forgotten_through = 0
        self._waiting = 0
        self._under_way: dict[int, _Request] = {}

    def submit(
        self, labels: list[Label], called_by: str = ""
    ) -> asyncio.Future[list[LabelReceipt]]:
        """Record labels together.

        If one of them contradicts what is recorded under its id, none is recorded.

        Args:
            labels: With `received_at_us` from the writer's clock.
            called_by: Id of who sent them; empty if nobody is known.

        Returns:
            A future of one receipt per label, in order.

        Raises:
            Overloaded: Too many labels wait already.
        """
        if self._waiting and self._waiting + len(labels) > MOST_WAITING:
            raise Overloaded(_BUSY.format(waiting=self._waiting, most=MOST_WAITING))
        future: asyncio.Future[list[LabelReceipt]] = asyncio.get_running_loop().create_future()
        self._waiting += len(labels)
        floor = max(self._writer.recent.forgotten_through, self._forgotten_through)
        request = _Request(labels, future, called_by, self._portion_size(), floor)
        self._under_way[id(request)] = request
        future.add_done_callback(lambda _: self._left(request))
        self._search(request)
        return future

    def forget_indexed(self, through: int) -> int:
        """Drop some labels that the queryable tables hold by now; how many."""
        indexed: list[str] = []
        for label_id, (sequence, _) in self._recent.items():
            if sequence > through or len(indexed) >= _FORGOTTEN_AT_ONCE:
                break
            indexed.append(label_id)
            self._forgotten_through = max(self._forgotten_through, sequence)
        for label_id in indexed:
            del self._recent[label_id]
        return len(indexed)

    def may_forget(self, through: int) -> int:
        """Entries up to here may be forgotten, of those that the queryable tables hold.

        What is looked up for a request stays true until it is done: nothing leaves memory meanwhile
        that the look-up may have missed, so that no request has to be looked up again and again.

        Args:
            through: The tables hold all entries up to this one.
        """
        return min([through, *(max(one.through, one.floor) for one in self._under_way.values())])

    def _portion_size(self) -> int:
        return SHARED_AT_ONCE if self._writer.pace.singles_come else AT_ONCE

    def _left(self, request: _Request) -> None:
        self._waiting -= len(request.labels)
        del self._under_way[id(request)]

    # Looking up.

    def _search(self, request: _Request, *, refresh: bool = False) -> None:
        """Look up what a request is about, in a thread; then record its next portion.

        All of it at first, a portion if anything may have been recorded since.
        """
        known = self._writer.scorer.state.known
        first = request.through < 0
        labels = request.labels if first else request.portion

        def search(lookup: TransactionLookup) -> _Found:
            if refresh:
                lookup.index.catch_up()
            through = lookup.index.indexed_through
            between = self._writer.pace.give_way
            recorded = lookup.index.labels((label.label_id for label in labels), between)
            _check(labels, recorded)
            ids = {label.transaction_id for label in labels}
            return _Found(
                through,
                recorded,
                lookup.transactions(i for i in ids if known.holds_id(i)),
                set(lookup.index.voids_of(ids)),
            )

        def done(found: _Found | None, error: Exception | None) -> None:
            if found is None:
                assert error is not None
                request.fail(error)
                return
            if first:
                request.found = found
                try:
                    # Held against the tables already; some may be newer than these.
                    for label in labels:
                        if label.label_id in self._recent:
                            _check_one(label, self._recent[label.label_id][1])
                    self._check_unknown(request)
                except (InvalidLabel, Overloaded) as refusal:
                    request.fail(refusal)
                    return
            else:
                request.found.labels.update(found.labels)
                request.found.transactions.update(found.transactions)
                request.found.void |= found.void
            request.through = found.through
            self._writer.turn.run_job(partial(self._record, request))

        self._writer.lookups.run(search, done)

    def _check_unknown(self, request: _Request) -> None:
        """See whether so many more payments may be waited for.

        Raises:
            Overloaded: They may not.
        """
        waiting = self._writer.scorer.state.waiting_labels
        if waiting + len(request.labels) <= MOST_UNKNOWN:
            return
        unknown = {
            label.transaction_id
            for label in request.labels
            if label.verdict == Verdict.FRAUD
            and self._earlier(request, label.label_id) is None
            and self._transaction(request, label.transaction_id) is None
        }
        if unknown and waiting + len(unknown) > MOST_UNKNOWN:
            raise Overloaded(
                _TOO_MANY_UNKNOWN.format(new=len(unknown), waiting=waiting, most=MOST_UNKNOWN),
                retry_after_seconds=_UNKNOWN_RETRY_SECONDS,
            )

    def _transaction(self, request: _Request, transaction_id: str) -> Transaction | None:
        recorded = self._writer.recent.recorded(transaction_id)
        if recorded is not None:
            return recorded.transaction
        return request.found.transactions.get(transaction_id)

    def _earlier(self, request: _Request, label_id: str) -> Label | None:
        entry = self._recent.get(label_id)
        return entry[1] if entry is not None else request.found.labels.get(label_id)

    def _is_stale(self, request: _Request) -> bool:
        """Whether something may have left memory that was not in the tables at the look-up."""
        through = request.through
        return through < self._writer.recent.forgotten_through or through < self._forgotten_through

    # Recording.

    def _record(self, request: _Request) -> None:
        """A job: record the next portion."""
        if self._is_stale(request):
            self._search(request)
            return
        request.began = time.perf_counter()
        portion = request.portion
        try:
            receipts = self._examine(request, portion)
        except Exception as error:  # noqa: BLE001 -- callers that wait get the error
            request.fail(error)
            return
        new = [receipt.label for receipt in receipts if not receipt.repeated]
        if not new:
            self._recorded(request, receipts)
            return
        if self._writer.unavailable is not None:
            request.fail(LedgerUnavailable(self._writer.unavailable))
            return
        received_at_us = self._writer.not_before(new[-1].received_at_us)
        if received_at_us > new[-1].received_at_us:
            new = [msgspec.structs.replace(one, received_at_us=received_at_us) for one in new]
        payload = encode_group(
            LabelGroup(format=LABEL_FORMAT, labels=new, called_by=request.called_by)
        )

        def done(appended: Appended | None, error: SentinelError | None) -> None:
            if isinstance(error, AlreadyRecorded):
                # By another scorer, a moment ago: look again.
                self._search(request, refresh=True)
            elif appended is None:
                assert error is not None
                request.fail(error)
            else:
                self._durable(request, receipts, new, appended)

        self._writer.commit(GroupKind.LABELS, len(new), received_at_us, payload, done)

    def _examine(self, request: _Request, portion: Sequence[Label]) -> list[LabelReceipt]:
        receipts: list[LabelReceipt] = []
        here: dict[str, Label] = {}
        for label in portion:
            earlier = here.get(label.label_id) or self._earlier(request, label.label_id)
            _check_one(label, earlier)
            here[label.label_id] = label
            receipts.append(
                LabelReceipt(
                    label=earlier or label,
                    repeated=earlier is not None,
                    known_transaction=self._transaction(request, label.transaction_id) is not None,
                    void=label.transaction_id in request.found.void,
                )
            )
        return receipts

    def _durable(
        self,
        request: _Request,
        receipts: list[LabelReceipt],
        new: list[Label],
        appended: Appended,
    ) -> None:
        """Let durable labels take effect on features."""
        for place, label in enumerate(new):
            self._recent[label.label_id] = (appended.first_sequence + place, label)
            self._writer.metrics.labels[label.verdict] += 1
        ids = {label.transaction_id for label in new}
        found = {i: self._transaction(request, i) for i in ids}
        known = {i: transaction for i, transaction in found.items() if transaction is not None}
        missing = [i for i, before in appended.before.items() if before.sequence and i not in known]
        if not missing:
            self._apply(request, receipts, new, appended, known)
            return

        # Another scorer decided on them, and the tables here do not hold that yet.
        def search(lookup: TransactionLookup) -> dict[str, Transaction]:
            lookup.index.catch_up()
            return lookup.transactions(missing)

        def then(others: dict[str, Transaction] | None, error: Exception | None) -> None:
            if others is None:
                log.warning("Labels are recorded; what they are about is not at hand: %s", error)
            self._apply(request, receipts, new, appended, known | (others or {}), missing)

        self._writer.lookups.run(search, then)

    def _apply(
        self,
        request: _Request,
        receipts: list[LabelReceipt],
        new: list[Label],
        appended: Appended,
        transactions: dict[str, Transaction],
        elsewhere: Sequence[str] = (),
    ) -> None:
        for label in new:
            about = transactions.get(label.transaction_id)
            if about is not None:
                delay_us = label.received_at_us - about.received_at_us
                self._writer.metrics.label_delay[label.verdict].add(delay_us)
        held = transactions.keys() | set(elsewhere)
        self._writer.scorer.state.apply_labels(new, appended, transactions)
        self._recorded(
            request,
            [
                replace(receipt, known_transaction=True)
                if receipt.label.transaction_id in held
                else receipt
                for receipt in receipts
            ],
        )

    def _recorded(self, request: _Request, receipts: list[LabelReceipt]) -> None:
        request.receipts += receipts
        request.through = request.found.through
        if len(request.receipts) == len(request.labels):
            request.finish()
            return
        rest = self._writer.pace.rest_seconds(time.perf_counter() - request.began)
        request.at_once = self._portion_size()
        self._writer.turn.run_job_after(rest, partial(self._record, request))


def _check(labels: Sequence[Label], recorded: dict[str, Label]) -> None:
    here: dict[str, Label] = {}
    for label in labels:
        _check_one(label, here.get(label.label_id) or recorded.get(label.label_id))
        here[label.label_id] = label


def _check_one(label: Label, earlier: Label | None) -> None:
    """Hold a label against the one that is recorded under its id.

    Raises:
        InvalidLabel: They say different things.
    """
    if earlier is not None and (
        earlier.transaction_id != label.transaction_id or earlier.verdict != label.verdict
    ):
        raise InvalidLabel(
            f"Label {label.label_id!r} is already recorded with another verdict or "
            "transaction. Send a correction under a new label_id.",
            fields={"label_id": "already recorded with other content"},
        )
