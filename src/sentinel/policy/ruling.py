"""From probabilities to outcomes: the policy, and what it ruled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.log.entries import FLAG_DEGRADED, FLAG_IS_FRAUD, OUTCOME_BITS, outcome_codes
from sentinel.models.thresholds import Thresholds
from sentinel.policy.bands import limits_of, rule_bands
from sentinel.policy.degraded import DegradedPolicy
from sentinel.policy.economics import Economics, rule_costs
from sentinel.policy.exploration import Control, ControlGroup, ExplorationKey

Flags = npt.NDArray[np.uint32]

_ONE_SEGMENT: Final = np.empty(0, dtype=np.int64)


class Ruling(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a policy ruled on a batch; row i is of its i-th transaction.

    Attributes:
        flags: uint32 (n,): outcome code, FLAG_IS_FRAUD and the flags of the events, as the log
            keeps them. `sentinel.log.entries.outcome_of` reads the outcome.
        policy_hash: Names the policy.
        control: What the control group did; None if no row was eligible.
    """

    flags: Flags
    policy_hash: str
    control: Control | None = None


class Policy(msgspec.Struct, frozen=True, dict=True):
    """Everything that turns probabilities into outcomes. Immutable; another policy is another one.

    Attributes:
        bands: Thresholds on the calibrated probability. Where there are costs, only the fraud line
            is used.
        degraded: What is done where state could not be read.
        economics: Costs that the outcome is the cheapest by; None if the bands decide.
        control: What of the stopped payments is let through; None if nothing is.

    >>> policy = Policy(Thresholds(fraud=0.5, review=0.3, decline=0.9))
    >>> policy.rule(np.array([0.1, 0.3, 0.95, 0.95]), np.array([0, 0, 16, 8])).flags.tolist()
    [0, 1, 22, 8]
    """

    bands: Thresholds
    degraded: DegradedPolicy = DegradedPolicy()
    economics: Economics | None = None
    control: ControlGroup | None = None

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits that name this policy: SHA-256 of its canonical JSON.

        What is None is left out, so that a policy of bands has the hash that it had before there
        were costs.
        """
        fields = {name: getattr(self, name) for name in self.__struct_fields__}
        given = {name: value for name, value in fields.items() if value is not None}
        return hashlib.sha256(msgspec.json.encode(given, order="sorted")).hexdigest()[:16]

    @cached_property
    def _limits(self) -> npt.NDArray[np.float64]:
        return np.stack([limits_of(self.bands), self.degraded.limits()])

    def rule(
        self,
        probabilities: npt.NDArray[np.float64],
        flags: npt.NDArray[np.integer],
        transactions: Sequence[Transaction] = (),
        *,
        key: ExplorationKey | None = None,
        counts: npt.NDArray[np.float32] | None = None,
    ) -> Ruling:
        """Rule on a batch.

        Args:
            probabilities: float64 (n,), calibrated.
            flags: Unsigned (n,), of the events: FLAG_DEGRADED, FLAG_LATE_EVENT and
                FLAG_EXPIRED_EVENT.
            transactions: (n,), needed where there are costs or a control group.
            key: Of the control group; nothing is let through without one.
            counts: float32 (n,), the feature that `ControlGroup.count_feature` names, NaN = nothing
                is known of the entity.
        """
        ruled = np.empty(len(probabilities), dtype=np.uint32)
        given = flags.astype(np.uint32, copy=False)
        costs = self.economics
        if costs is None:
            stopped = rule_bands(
                probabilities, given, self._limits, FLAG_DEGRADED, FLAG_IS_FRAUD, ruled
            )
        else:
            stopped = rule_costs(
                probabilities,
                given,
                np.array([t.amount_minor for t in transactions], dtype=np.int64),
                costs.segments_of(transactions) if costs.segments else _ONE_SEGMENT,
                costs.table,
                costs.shadow_price_minor,
                self._limits,
                FLAG_DEGRADED,
                FLAG_IS_FRAUD,
                ruled,
            )
        control = None
        if stopped and key is not None and self.control is not None and self.control.share > 0:
            control = _let_through(self.control, key, ruled, transactions, counts)
        return Ruling(ruled, self.hash, control)


def _let_through(
    group: ControlGroup,
    key: ExplorationKey,
    flags: Flags,
    transactions: Sequence[Transaction],
    counts: npt.NDArray[np.float32] | None,
) -> Control | None:
    """Approve what the control group draws; None if nothing was eligible.

    Args:
        group: Its share and its limits.
        key: Draws.
        flags: (n,), as ruled; changed where a payment is let through.
        transactions: (n,).
        counts: See `Policy.rule`.
    """
    base = outcome_codes(flags).astype(np.uint8)
    eligible = np.zeros(len(flags), dtype=np.bool_)
    propensities = np.ones(len(flags), dtype=np.float32)
    most, most_count = group.most_amount_minor, group.most_count
    for row in np.flatnonzero(base).tolist():
        transaction = transactions[row]
        if flags[row] & FLAG_DEGRADED or (most is not None and transaction.amount_minor > most):
            continue
        if counts is not None and most_count is not None and counts[row] > most_count:
            continue
        eligible[row] = True
        if key.draw(transaction) < group.share:
            propensities[row] = group.share
            flags[row] &= ~np.uint32(OUTCOME_BITS)
        else:
            propensities[row] = 1.0 - group.share
    return Control(base, eligible, propensities) if eligible.any() else None
