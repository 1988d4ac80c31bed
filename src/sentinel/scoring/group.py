"""A group of payments that share one commit, and how the log holds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sentinel.domain import Transaction
from sentinel.log.columns import called_by, with_control_group, with_untracked
from sentinel.log.entries import decisions_payload
from sentinel.scoring.pending import Pending
from sentinel.scoring.scorer import Scored


@dataclass(slots=True)
class Group:
    """Decisions on their way into the log.

    Attributes:
        pending: The payments, in log order.
        transactions: The same as the log holds them.
        scored: What was decided on them.
        latencies_us: From arrival to decision, of each.
        doubtful: Payments that were among them, and that the log holds from elsewhere.
        scored_ns: When they were decided on, by `time.perf_counter_ns`.
    """

    pending: list[Pending]
    transactions: list[Transaction]
    scored: Scored
    latencies_us: list[int]
    doubtful: list[Transaction] = field(default_factory=list)
    scored_ns: int = 0

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all but these rows."""
        self.pending = [self.pending[row] for row in rows]
        self.transactions = [self.transactions[row] for row in rows]
        self.latencies_us = [self.latencies_us[row] for row in rows]
        self.scored = self.scored.rows(rows)

    def payload(self) -> bytes:
        """The decisions as a group of the ledger holds them."""
        callers = [pending.called_by for pending in self.pending]
        return payload_of(self.transactions, self.scored, self.latencies_us, callers)


def payload_of(
    transactions: list[Transaction],
    scored: Scored,
    latencies_us: list[int],
    callers: Sequence[str] = (),
) -> bytes:
    """Decisions as a group of the ledger holds them.

    Args:
        transactions: The payments, in log order.
        scored: What was decided on them.
        latencies_us: From arrival to decision, of each.
        callers: Ids of who sent each; empty where nobody is known.
    """
    columns = called_by(callers)
    if scored.untracked:
        columns = with_untracked(columns, [t.untracked for t in transactions])
    control = scored.control
    if control is not None:
        columns = with_control_group(
            columns, control.base_outcomes, control.eligible, control.propensities
        )
    if scored.roles is not None:
        columns = scored.roles.put_into(columns)
    return decisions_payload(
        transactions,
        scored,
        latencies_us,
        plan_hash=scored.told_by.plan.hash,
        model_name=scored.model.name,
        model_version=scored.model.version,
        policy_hash=scored.policy_hash,
        columns=columns,
    )
