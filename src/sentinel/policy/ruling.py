"""From probabilities to outcomes: the policy, and what it ruled."""

from __future__ import annotations

import hashlib
from functools import cached_property

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.log.entries import FLAG_DEGRADED, FLAG_IS_FRAUD
from sentinel.models.thresholds import Thresholds
from sentinel.policy.bands import limits_of, rule_bands
from sentinel.policy.degraded import DegradedPolicy

Flags = npt.NDArray[np.uint32]


class Ruling(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a policy ruled on a batch; row i is of its i-th transaction.

    Attributes:
        flags: uint32 (n,): outcome code, FLAG_IS_FRAUD and the flags of the events, as the log
            keeps them. `sentinel.log.entries.outcome_of` reads the outcome.
        policy_hash: Names the policy.
    """

    flags: Flags
    policy_hash: str


class Policy(msgspec.Struct, frozen=True, dict=True):
    """Everything that turns probabilities into outcomes. Immutable; another policy is another one.

    Attributes:
        bands: Thresholds on the calibrated probability.
        degraded: What is done where state could not be read.

    >>> policy = Policy(Thresholds(fraud=0.5, review=0.3, decline=0.9))
    >>> policy.rule(np.array([0.1, 0.3, 0.95, 0.95]), np.array([0, 0, 16, 8])).flags.tolist()
    [0, 1, 22, 8]
    """

    bands: Thresholds
    degraded: DegradedPolicy = DegradedPolicy()

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits that name this policy: SHA-256 of its canonical JSON."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]

    @cached_property
    def _limits(self) -> npt.NDArray[np.float64]:
        return np.stack([limits_of(self.bands), self.degraded.limits()])

    def rule(
        self, probabilities: npt.NDArray[np.float64], flags: npt.NDArray[np.integer]
    ) -> Ruling:
        """Rule on a batch.

        Args:
            probabilities: float64 (n,), calibrated.
            flags: Unsigned (n,), of the events: FLAG_DEGRADED, FLAG_LATE_EVENT and
                FLAG_EXPIRED_EVENT.
        """
        ruled = np.empty(len(probabilities), dtype=np.uint32)
        given = flags.astype(np.uint32, copy=False)
        rule_bands(probabilities, given, self._limits, FLAG_DEGRADED, FLAG_IS_FRAUD, ruled)
        return Ruling(ruled, self.hash)
