"""Payments that the control group let through, and what became known of them since.

They are few by nature: the policy's budget and share see to that. They are kept until they are
mature and 30 days more, so that a month whose truth is known stands beside the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.imports import read_import
from sentinel.log.entries import (
    Group,
    GroupKind,
    decode_decisions,
    decode_labels,
    outcome_codes,
)
from sentinel.log.schema import KIND_LABEL
from sentinel.monitoring.control_group_metrics import ControlGroupFigures, MonthOfControlGroup
from sentinel.settings import Settings

log = logging.getLogger(__name__)

MOST_EXPLORED: Final = 100_000
"""Payments that are kept; a control group lets through a few in a day."""
MONTH_US: Final = 30 * DAY_US
UNKNOWN: Final = "unknown"


class _Explored(NamedTuple):
    """A payment that was let through.

    Attributes:
        at_us: When it arrived, microseconds UTC.
        amount_minor: Its amount.
        probability: That it is fraud, by the model that decided.
    """

    at_us: int
    amount_minor: int
    probability: float


class ExploredPayments:
    """Takes the log in, group by group, and knows what the control group costs.

    Args:
        maturity_us: When the truth of a payment is known.

    Attributes:
        budget_minor: What it may cost in 30 days; set by whoever knows the policy.
    """

    def __init__(self, maturity_us: int) -> None:
        self.budget_minor = 0.0
        self._maturity_us = maturity_us
        self._end_us = 0
        self._kept: dict[str, _Explored] = {}
        self._truth: dict[str, str] = {}
        self._left_out = 0

    def take(self, group: Group) -> None:
        """Take the next group of the log in."""
        self._end_us = max(self._end_us, group.received_at_us)
        if group.kind == GroupKind.DECISIONS:
            self._take_decisions(group)
        elif group.kind == GroupKind.LABELS and self._kept:
            labels = decode_labels(group.payload).labels
            self._take_labels((label.transaction_id, label.verdict) for label in labels)
        elif group.kind == GroupKind.IMPORT and self._kept:
            batch = read_import(group, ("kind", "transaction_id", "verdict"))
            few = batch.filter(pc.equal(batch.column("kind"), KIND_LABEL))
            ids, verdicts = (few.column(name).to_pylist() for name in ("transaction_id", "verdict"))
            self._take_labels(zip(ids, verdicts, strict=True))

    def figures(self) -> ControlGroupFigures | None:
        """What it costs; None before there is a log. Any thread may ask."""
        if not self._end_us:
            return None
        mature_us = self._end_us - self._maturity_us
        kept, truth = self._kept.copy(), self._truth.copy()
        return ControlGroupFigures(
            budget_minor=self.budget_minor,
            months={
                "last": _month(kept, truth, self._end_us),
                "mature": _month(kept, truth, mature_us),
            },
        )

    def _take_decisions(self, group: Group) -> None:
        decided = decode_decisions(group.payload)
        if not decided.columns.base_outcomes:
            return
        self._forget()
        flags = np.frombuffer(decided.flags, "<u4")
        before = np.frombuffer(decided.columns.base_outcomes, np.uint8)
        rows = np.flatnonzero(before != outcome_codes(flags))
        probabilities = decided.deciding_probabilities()
        for row in rows.tolist():
            transaction = decided.transactions[row]
            if len(self._kept) >= MOST_EXPLORED:
                self._leave_out()
                continue
            self._kept[transaction.transaction_id] = _Explored(
                max(transaction.received_at_us, group.floor_us),
                transaction.amount_minor,
                float(probabilities[row]),
            )

    def _take_labels(self, labels: Iterable[tuple[str, str]]) -> None:
        for transaction_id, verdict in labels:
            if transaction_id in self._kept:
                self._truth[transaction_id] = str(Verdict(verdict).value)

    def _forget(self) -> None:
        oldest_us = self._end_us - self._maturity_us - MONTH_US
        for name in [n for n, one in self._kept.items() if one.at_us < oldest_us]:
            del self._kept[name]
            self._truth.pop(name, None)

    def _leave_out(self) -> None:
        if not self._left_out:
            log.warning(
                "The control group let more than %d payments through; what it costs is told of "
                "these alone.",
                MOST_EXPLORED,
            )
        self._left_out += 1


def _month(kept: dict[str, _Explored], truth: dict[str, str], end_us: int) -> MonthOfControlGroup:
    """What was let through in the 30 days up to a moment."""
    expected, realised = 0.0, 0
    payments = dict.fromkeys((Verdict.FRAUD.value, Verdict.LEGITIMATE.value, UNKNOWN), 0)
    for name, one in kept.items():
        if end_us - MONTH_US < one.at_us <= end_us:
            said = truth.get(name, UNKNOWN)
            payments[said] += 1
            expected += one.amount_minor * one.probability
            realised += one.amount_minor if said == Verdict.FRAUD else 0
    return MonthOfControlGroup(
        expected_cost_minor=expected, realised_loss_minor=realised, payments=payments
    )


def control_group_budget(settings: Settings) -> float:
    """What the policy in force lets the control group cost in 30 days; 0 where it allows none.

    Raises:
        LedgerUnavailable, WorkspaceError, ConfigurationError: The policy cannot be read.
    """
    from sentinel.policy.store import open_policies

    store = open_policies(settings)
    try:
        version = store.read()
    finally:
        store.close()
    exploring = None if version is None else version.terms.exploring
    return 0.0 if exploring is None else exploring.budget_minor
