"""Scoring beside other scorers: one of many writers of a shared state and a shared log.

What `ScoringService` knows by itself, this one learns from the log: whether another scorer has
decided on a payment already, and whether a label has come before it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from sentinel.domain import (
    AlreadyRecorded,
    SentinelError,
    StateUnavailable,
    Transaction,
    Unavailable,
    Verdict,
)
from sentinel.features.plan.program import KIND_FRAUD
from sentinel.ledger.base import Appended
from sentinel.log.entries import FLAG_DEGRADED, GroupKind
from sentinel.scoring.engine import Scored
from sentinel.scoring.service import Pending, ScoringService, payload_of
from sentinel.scoring.shared_engine import SharedEngine
from sentinel.scoring.upkeep import Upkeep

log = logging.getLogger(__name__)

_ELSEWHERE_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.02


class SharedService(ScoringService):
    """`ScoringService` for shared state.

    Args:
        upkeep_of: Gives what is told of all that leaves an engine's shared state in doubt.
        options: See `ScoringService`.
    """

    def __init__(
        self, *arguments: Any, upkeep_of: Callable[[SharedEngine], Upkeep], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self._upkeep_of = upkeep_of
        self._searches: set[asyncio.Task[None]] = set()

    @property
    def upkeep(self) -> Upkeep:
        """What looks after the state of the engine in charge."""
        assert isinstance(self.engine, SharedEngine)
        return self._upkeep_of(self.engine)

    def _commit_decisions(
        self,
        group: list[Pending],
        transactions: list[Transaction],
        scored: Scored,
        latencies: list[int],
    ) -> None:
        upkeep, token = self.upkeep, scored.token
        if scored.repeated:
            # Another scorer has them, or had them when it died; only the log can tell.
            for row in scored.repeated:
                self._look_elsewhere(group[row], recorded=False)
            kept = [row for row in range(len(group)) if row not in set(scored.repeated)]
            if not kept:
                upkeep.settled(token, ())
                return
            group = [group[row] for row in kept]
            transactions = [transactions[row] for row in kept]
            latencies = [latencies[row] for row in kept]
            scored = rows_of(scored, kept)
        bodies: list[bytes] = []

        def done(appended: Appended | None, error: SentinelError | None) -> None:
            if appended is not None:
                self._decided(group, scored, bodies, appended)
            elif isinstance(error, AlreadyRecorded):
                if self._commit_others(frozenset(error.ids), group, transactions, scored):
                    return
            else:
                assert error is not None
                upkeep.doubt(transactions)
                self._reject(group, error)
            upkeep.settled(token, transactions)

        self.commit(
            GroupKind.DECISIONS,
            len(group),
            transactions[-1].received_at_us,
            payload_of(transactions, scored, latencies),
            done,
            transaction_ids=[transaction.transaction_id for transaction in transactions],
            token=secrets.token_bytes(16),
        )
        bodies += self._render(transactions, scored, latencies)

    def _decided(
        self, group: list[Pending], scored: Scored, bodies: list[bytes], appended: Appended
    ) -> None:
        self._record(group, scored, bodies, appended.first_sequence)
        if scored.flags[0] & FLAG_DEGRADED:
            self.metrics.degraded += len(group)
            self.upkeep.doubt([pending.transaction for pending in group])
            return  # what is rebuilt from the log holds the labels, too
        for pending in group:
            before = appended.before.get(pending.transaction.transaction_id)
            if before is not None and before.verdict == Verdict.FRAUD:
                self.upkeep.count_label(pending.transaction, KIND_FRAUD, before.label_sequence)

    def _commit_others(
        self,
        recorded: frozenset[str],
        group: list[Pending],
        transactions: list[Transaction],
        scored: Scored,
    ) -> bool:
        """The log holds some of a group from elsewhere: commit the others, if there are any."""
        kept = []
        for row, pending in enumerate(group):
            if pending.transaction.transaction_id in recorded:
                self._look_elsewhere(pending, recorded=True)
            else:
                kept.append(row)
        self.upkeep.doubt([t for t in transactions if t.transaction_id in recorded])
        if kept:
            now = time.perf_counter_ns()
            rest = [group[row] for row in kept]
            latencies = [(now - pending.arrived_ns) // 1000 for pending in rest]
            left = [transactions[row] for row in kept]
            self._commit_decisions(rest, left, rows_of(scored, kept), latencies)
        return bool(kept)

    def _look_elsewhere(self, pending: Pending, *, recorded: bool) -> None:
        task = self._loop.create_task(self._find_elsewhere(pending, recorded))
        self._searches.add(task)
        task.add_done_callback(self._searches.discard)

    async def _find_elsewhere(self, pending: Pending, recorded: bool) -> None:
        """Answer a payment that another scorer decides or has decided on.

        If that scorer has died at it, the log will never hold it. Nobody is left waiting for that:
        the payment is decided here, without state, since the shared records hold it already. Should
        the other scorer live after all, the log takes one decision of the two, and both give it.

        Args:
            pending: The payment.
            recorded: The log is known to hold it.
        """
        deadline = self._loop.time() + _ELSEWHERE_SECONDS
        body: bytes | None = None
        while body is None and self._loop.time() < deadline and not self._closing:
            try:
                body = await asyncio.to_thread(self._find_recorded, pending.transaction)
            except Unavailable as trouble:
                log.warning("A repeated payment cannot be looked up: %s", trouble)
            except Exception as error:  # noqa: BLE001 -- whoever waits is told
                self._reject([pending], error)
                return
            if body is None:
                await asyncio.sleep(_POLL_SECONDS)
        if body is not None:
            self._recent.pop(pending.transaction.transaction_id, None)
            self.metrics.repeats += 1
            pending.answer(body)
        elif recorded or self._closing:
            name = pending.transaction.transaction_id
            self._reject(
                [pending],
                StateUnavailable(
                    f"Transaction {name!r} was begun elsewhere, and its record is not at hand "
                    "yet. Send it again in a moment."
                ),
            )
        else:
            self.run_job(lambda: self._decide_left_behind(pending))

    def _decide_left_behind(self, pending: Pending) -> None:
        transactions = [pending.transaction]
        log.warning(
            "Transaction %r was begun elsewhere and not recorded; it is decided without state.",
            pending.transaction.transaction_id,
        )
        engine = self.engine
        assert isinstance(engine, SharedEngine)
        try:
            if self.unavailable is not None:
                raise StateUnavailable(self.unavailable)
            scored = engine.decide_without_state(transactions)
        except Exception as error:  # noqa: BLE001 -- whoever waits is told
            self.upkeep.doubt(transactions)
            self._reject([pending], error)
            return
        waited_us = (time.perf_counter_ns() - pending.arrived_ns) // 1000
        self._commit_decisions([pending], transactions, scored, [waited_us])

    async def close(self) -> None:
        """See `ScoringService.close`."""
        self._closing = True
        if self._searches:
            await asyncio.wait(self._searches)
        await super().close()


def rows_of(scored: Scored, rows: Sequence[int]) -> Scored:
    """Some rows of a batch's figures."""
    n = len(scored.flags)
    taken = list(rows)
    positions = scored.positions
    if positions:
        positions = np.frombuffer(positions, "<i8").reshape(n, -1)[taken].tobytes()
    return replace(
        scored,
        vectors=scored.vectors[taken],
        scores=scored.scores[taken],
        probabilities=scored.probabilities[taken],
        flags=scored.flags[taken],
        reason_features=scored.reason_features[taken],
        reason_contributions=scored.reason_contributions[taken],
        positions=positions,
        repeated=(),
    )
