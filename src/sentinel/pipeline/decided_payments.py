"""Decisions of the last weeks as policies look at them: probabilities, outcomes, and the truth.

A probability is taken as it was given when the payment came. The model that gave it had seen
neither the payment nor its label, so that what is measured on these rows is not flattered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import xxhash

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.base import Ledger
from sentinel.ledger.imports import read_import
from sentinel.ledger.log import sequence_before
from sentinel.log.entries import (
    FLAG_DEGRADED,
    Group,
    GroupKind,
    decode_decisions,
    decode_labels,
    outcome_codes,
)
from sentinel.log.schema import KIND_LABEL
from sentinel.models.dataset import FRAUD, LEGITIMATE, UNKNOWN
from sentinel.models.decided import SENTINEL, Decided
from sentinel.models.weights import weights_of
from sentinel.pipeline.labelled_payments import maturity_us
from sentinel.pipeline.workspace import ledger_reader
from sentinel.policy.economics import Economics
from sentinel.policy.versions import Terms
from sentinel.policy.working_out import RecentPayments
from sentinel.settings import Settings

MOST_ROWS: Final = 3_000_000
"""Decisions that are looked at; where there are more, every k-th group of them counts k times."""

_LABEL_COLUMNS: Final = ("kind", "transaction_id", "verdict")
_TYPES: Final[dict[str, npt.DTypeLike]] = {
    "probability": np.float64,
    "amount_minor": np.float64,
    "propensity": np.float64,
    "rows": np.float64,
    "count": np.float32,
    "verdict": np.int8,
    "eligible": np.bool_,
    "degraded": np.bool_,
    "unseen": np.bool_,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class DecidedPayments:
    """Decisions in log order. All arrays are (n_rows,).

    Attributes:
        received_at_us: int64, when each came.
        probability: float64, calibrated, as it was ruled on.
        amount_minor: float64, minor units.
        segment: int64, see `Economics.segments_of`.
        card: int64 code of the card or customer; negative = unknown.
        draw: int64 code of the entity and day that the control group draws by.
        outcome: int64, outcome code that the payment got.
        base_outcome: int64, the same before the control group.
        eligible: bool, whether the control group could have changed it.
        propensity: float64, probability of the outcome that it got.
        degraded: bool.
        count: float32, the feature that counts for eligibility; NaN = unknown.
        verdict: int8: FRAUD, LEGITIMATE or UNKNOWN, as labels say.
        unseen: bool, whether the model that gave the probability learnt nothing from it.
        rows: float64, decisions that each stands for, where some were left out.
        start_us, end_us: The moments that they are of; the end is exclusive.
        maturity_us: After so long, an approved payment without a label is legitimate.
    """

    received_at_us: npt.NDArray[np.int64]
    probability: npt.NDArray[np.float64]
    amount_minor: npt.NDArray[np.float64]
    segment: npt.NDArray[np.int64]
    card: npt.NDArray[np.int64]
    draw: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int64]
    base_outcome: npt.NDArray[np.int64]
    eligible: npt.NDArray[np.bool_]
    propensity: npt.NDArray[np.float64]
    degraded: npt.NDArray[np.bool_]
    count: npt.NDArray[np.float32]
    verdict: npt.NDArray[np.int8]
    unseen: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.float64]
    start_us: int
    end_us: int
    maturity_us: int

    def __len__(self) -> int:
        return len(self.probability)

    @property
    def explored(self) -> npt.NDArray[np.bool_]:
        """Bool (n,): let through by the control group."""
        return np.asarray(self.eligible & (self.outcome != self.base_outcome))

    @property
    def mature(self) -> npt.NDArray[np.bool_]:
        """Bool (n,): old enough that silence says something, and unseen by its model."""
        return np.asarray(self.unseen & (self.received_at_us < self.end_us - self.maturity_us))

    def truth(self) -> npt.NDArray[np.int8]:
        """int8 (n,): what is known of each mature payment.

        A label says it; an approved payment without one is legitimate. What was declined, or
        reviewed without a verdict, is unknown: there was no way to find out.
        """
        known = np.where(self.mature, self.verdict, UNKNOWN)
        silent = self.mature & (self.verdict == UNKNOWN) & (self.outcome == 0)
        known[silent] = LEGITIMATE
        return np.asarray(known, dtype=np.int8)

    def weight(self) -> npt.NDArray[np.float64]:
        """float64 (n,): decisions that each mature payment of known truth stands for; 0 for others.

        See `sentinel.models.weights`.
        """
        decided = Decided(
            outcome=self.outcome.astype(np.int8),
            base_outcome=self.base_outcome.astype(np.int8),
            eligible=self.eligible,
            propensity=self.propensity.astype(np.float32),
            source=np.full(len(self), SENTINEL, dtype=np.int8),
        )
        known = weights_of(decided, self.truth() != UNKNOWN, self.received_at_us)
        return np.asarray(known.weight * self.rows)

    def recent(self, days: float) -> RecentPayments:
        """The payments of the last days."""
        start_us = max(self.start_us, self.end_us - round(days * DAY_US))
        here = self.received_at_us >= start_us
        if here.any():
            start_us = max(start_us, int(self.received_at_us[here][0]))
        return RecentPayments(
            days=max(self.end_us - start_us, 1) / DAY_US,
            probability=self.probability[here],
            amount_minor=self.amount_minor[here],
            segment=self.segment[here],
            outcome=self.base_outcome[here],
            degraded=self.degraded[here],
            count=self.count[here],
            weight=self.rows[here],
        )


def decided_payments(settings: Settings, terms: Terms, days: float) -> DecidedPayments:
    """The decisions of the last days, with what labels say of them.

    Args:
        settings: The deployment.
        terms: Say which segments there are, and what is counted.
        days: Before the end of the log.

    Raises:
        WorkspaceError, LedgerUnavailable: The log cannot be read.
    """
    with ledger_reader(settings) as ledger:
        last = ledger.last_sequence()
        end_us = ledger.last_received_at_us() + 1
        start_us = max(0, end_us - round(days * DAY_US))
        after = sequence_before(ledger, start_us, last)
        every = max(1, -(-(last - after) // MOST_ROWS))
        verdicts: dict[str, bool] = {}
        for group in ledger.groups(after):
            verdicts.update(verdicts_in(group))
        reading = _Reading(settings, terms, verdicts, start_us)
        for number, group in enumerate(_decisions(ledger, after, last)):
            if number % every == 0:
                reading.add(group, every)
    return reading.result(start_us, end_us)


def _decisions(ledger: Ledger, after: int, last: int) -> Iterator[Group]:
    for group in ledger.groups(after):
        if group.first_sequence > last:
            return
        if group.kind == GroupKind.DECISIONS:
            yield group


def verdicts_in(group: Group) -> Iterator[tuple[str, bool]]:
    """Transaction and whether it is fraud, of the labels in a group."""
    if group.kind == GroupKind.LABELS:
        said: list[Label] = decode_labels(group.payload).labels
        yield from ((label.transaction_id, label.verdict == Verdict.FRAUD) for label in said)
    elif group.kind == GroupKind.IMPORT:
        batch = read_import(group, _LABEL_COLUMNS)
        labels = batch.filter(pc.equal(batch.column("kind"), KIND_LABEL))
        ids, words = (labels.column(name).to_pylist() for name in _LABEL_COLUMNS[1:])
        yield from ((one, word == Verdict.FRAUD) for one, word in zip(ids, words, strict=True))


class _Reading:
    """Decisions on their way into arrays."""

    def __init__(
        self, settings: Settings, terms: Terms, verdicts: dict[str, bool], start_us: int
    ) -> None:
        self._settings = settings
        self._economics: Economics | None = None if terms.costs is None else terms.economics(0.0)
        feature = "" if terms.exploring is None else terms.exploring.count_feature
        self._counted = feature
        self._columns: dict[str, int | None] = {}
        self._verdicts = verdicts
        self._start_us = start_us
        self._parts: list[dict[str, npt.NDArray[np.generic]]] = []

    def add(self, group: Group, every: int) -> None:
        decided = decode_decisions(group.payload)
        transactions, flags = decided.transactions, decided.flag_array()
        n = len(transactions)
        floor = group.floor_us
        received = np.array([max(t.received_at_us, floor) for t in transactions], dtype=np.int64)
        cards = [_code(t.card_id or t.customer_id) for t in transactions]
        verdicts = [self._verdicts.get(t.transaction_id) for t in transactions]
        column = self._column(decided.plan_hash)
        part: dict[str, npt.NDArray[np.generic]] = {
            "received_at_us": received,
            "probability": decided.deciding_probabilities(),
            "amount_minor": np.array([t.amount_minor for t in transactions], dtype=np.float64),
            "segment": np.zeros(n, dtype=np.int64)
            if self._economics is None
            else self._economics.segments_of(transactions),
            "card": np.array(cards, dtype=np.int64),
            "draw": np.array([_draw(t) for t in transactions], dtype=np.int64),
            "outcome": outcome_codes(flags).astype(np.int64),
            "base_outcome": decided.base_outcome_codes().astype(np.int64),
            "eligible": decided.columns.eligible_array(n),
            "propensity": decided.columns.propensity_array(n).astype(np.float64),
            "degraded": (flags & FLAG_DEGRADED) > 0,
            "count": np.full(n, np.nan, dtype=np.float32)
            if column is None
            else decided.vector_array()[:, column],
            "verdict": np.array(
                [UNKNOWN if v is None else FRAUD if v else LEGITIMATE for v in verdicts],
                dtype=np.int8,
            ),
            "unseen": np.ones(n, dtype=np.bool_),
            "rows": np.full(n, float(every)),
        }
        here = received >= self._start_us
        self._parts.append({name: values[here] for name, values in part.items()})

    def result(self, start_us: int, end_us: int) -> DecidedPayments:
        names = [one.name for one in fields(DecidedPayments)][:-3]
        arrays: dict[str, Any] = {
            name: np.concatenate([part[name] for part in self._parts])
            if self._parts
            else np.empty(0, dtype=_TYPES.get(name, np.int64))
            for name in names
        }
        return DecidedPayments(
            **arrays, start_us=start_us, end_us=end_us, maturity_us=maturity_us(self._settings)
        )

    def _column(self, plan_hash: str) -> int | None:
        """Where vectors of a plan hold the count; None if they do not."""
        if not self._counted:
            return None
        if plan_hash not in self._columns:
            self._columns[plan_hash] = _find_column(self._settings, plan_hash, self._counted)
        return self._columns[plan_hash]


def _find_column(settings: Settings, plan_hash: str, feature: str) -> int | None:
    from sentinel.models.plans import find_plan

    plan = find_plan(settings, plan_hash)
    if plan is None or feature not in plan.feature_names:
        return None
    return plan.feature_names.index(feature)


def _code(entity: str | None) -> int:
    """A number for a card or customer; -1 if there is none."""
    return -1 if entity is None else xxhash.xxh3_64_intdigest(entity.encode()) >> 1


def _draw(transaction: Transaction) -> int:
    entity = transaction.card_id or transaction.customer_id or transaction.transaction_id
    return xxhash.xxh3_64_intdigest(f"{transaction.event_time_us // DAY_US}/{entity}".encode()) >> 1
