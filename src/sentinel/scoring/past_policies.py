"""The policy that ruled on a decision, found again by the hash that the log has of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec
import numpy as np

from sentinel.domain import Transaction
from sentinel.models.thresholds import Thresholds
from sentinel.policy.degraded import degraded_policy
from sentinel.policy.ruling import Policy
from sentinel.policy.store import open_policies
from sentinel.settings import Settings

MOST_SEARCHED: Final = 1_000
"""Latest versions of the policy among which the one that ruled is looked for."""
MOST_REMEMBERED: Final = 64
"""Policies that were found and are remembered."""


class PolicyLines(msgspec.Struct, kw_only=True):
    """What a probability was held against.

    Attributes:
        policy_hash: Names the policy; empty in records of before there was one.
        by: ``bands`` of probability, ``costs`` of outcomes, or the fixed outcome or bands of
            ``degraded`` decisions; null if the policy is not known any more.
        review, decline, fraud: Probabilities from which on this payment was reviewed, declined,
            and called fraud; null if they are not known. 1 is reached by none.
        expected_cost_minor: What each outcome was expected to cost; null where bands decided.
    """

    policy_hash: str
    by: str | None = None
    review: float | None = None
    decline: float | None = None
    fraud: float | None = None
    expected_cost_minor: dict[str, float] | None = None


class PastPolicies:
    """Finds policies by their hash. For one thread: it waits for the store.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._degraded = degraded_policy(settings.policy)
        self._known: OrderedDict[str, Policy] = OrderedDict()

    def find(self, policy_hash: str, bands: Iterable[Thresholds]) -> Policy | None:
        """The policy of a hash; None if it is not among those that can be put together now.

        Args:
            policy_hash: As the log has it.
            bands: Lines of the models that may have decided.

        Raises:
            LedgerUnavailable, WorkspaceError: The store cannot be read.
        """
        if not policy_hash:
            return None
        known = self._known.get(policy_hash)
        if known is not None:
            self._known.move_to_end(policy_hash)
            return known
        found = self._search(policy_hash, list(dict.fromkeys(bands)))
        if found is not None:
            self._known[policy_hash] = found
            while len(self._known) > MOST_REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _search(self, policy_hash: str, bands: list[Thresholds]) -> Policy | None:
        for lines in bands:
            policy = Policy(lines, self._degraded)
            if policy.hash == policy_hash:
                return policy
        store = open_policies(self._settings)
        try:
            versions = store.history(MOST_SEARCHED)
        finally:
            store.close()
        for version in versions:
            for lines in bands:
                policy = version.policy(lines, self._degraded)
                if policy.hash == policy_hash:
                    return policy
        return None


def lines_for(
    policy: Policy | None,
    policy_hash: str,
    transaction: Transaction,
    probability: float,
    *,
    degraded: bool,
) -> PolicyLines:
    """What a payment's probability was held against."""
    if policy is None:
        return PolicyLines(policy_hash=policy_hash)
    if degraded:
        review, decline, fraud = (min(max(x, 0.0), 1.0) for x in policy.degraded.limits().tolist())
        return PolicyLines(
            policy_hash=policy_hash, by="degraded", review=review, decline=decline, fraud=fraud
        )
    costs = policy.economics
    if costs is None:
        lines = policy.bands
        return PolicyLines(
            policy_hash=policy_hash,
            by="bands",
            review=lines.review,
            decline=lines.decline,
            fraud=lines.fraud,
        )
    segment = costs.segments_of([transaction])
    amount = float(transaction.amount_minor)
    expected = costs.expected(np.array([probability]), np.array([amount]), segment)[0]
    expected[1] += costs.shadow_price_minor
    return PolicyLines(
        policy_hash=policy_hash,
        by="costs",
        review=costs.line(1, amount, int(segment[0])),
        decline=costs.line(2, amount, int(segment[0])),
        fraud=policy.bands.fraud,
        expected_cost_minor=dict(
            zip(("approve", "review", "decline"), expected.tolist(), strict=True)
        ),
    )
