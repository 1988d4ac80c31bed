"""What was decided on each payment of the log, by whom, and how likely that was.

A decision changes what will be known: a declined payment brings no chargeback, and one that waits
for an analyst has no truth until the verdict. So each row carries its outcome, the outcome before
the control group, and the probability with which it got the one that it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int8]
Bools = npt.NDArray[np.bool_]

APPROVE: Final = 0
REVIEW: Final = 1
DECLINE: Final = 2
"""Codes of the outcomes, as `sentinel.log.entries.OUTCOMES` has them."""

UNSAID: Final = 0
"""Source of an imported payment that came without an outcome."""
BEFORE: Final = 1
"""Source of an outcome of the system before."""
SENTINEL: Final = 2
"""Source of an outcome that Sentinel gave."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Decided:
    """Outcomes of the transactions of the log, in log order. All arrays are (n_rows,).

    Attributes:
        outcome: int8, APPROVE, REVIEW or DECLINE; an import without an outcome counts as approved.
        base_outcome: int8, likewise, before the control group changed anything.
        eligible: bool, whether the control group could have changed the outcome.
        propensity: float32 in (0, 1], the probability with which the row got its outcome: 1 where
            nothing was random.
        source: int8, UNSAID, BEFORE or SENTINEL.
    """

    outcome: Codes
    base_outcome: Codes
    eligible: Bools
    propensity: npt.NDArray[np.float32]
    source: Codes

    def __len__(self) -> int:
        return len(self.outcome)

    @classmethod
    def plain(cls, outcome: npt.ArrayLike, source: int = BEFORE) -> Decided:
        """Outcomes without a control group.

        Args:
            outcome: (n_rows,), codes.
            source: Of all rows.

        >>> Decided.plain([0, 2]).withheld.tolist()
        [False, True]
        """
        codes = np.array(outcome, dtype=np.int8)
        n = len(codes)
        return cls(
            outcome=codes,
            base_outcome=codes.copy(),
            eligible=np.zeros(n, dtype=np.bool_),
            propensity=np.ones(n, dtype=np.float32),
            source=np.full(n, source, dtype=np.int8),
        )

    @property
    def withheld(self) -> Bools:
        """Whether the payment was declined or waited for an analyst: bool (n_rows,)."""
        return np.asarray(self.outcome != APPROVE)

    @property
    def explored(self) -> Bools:
        """Whether the control group let the payment through: bool (n_rows,)."""
        return np.asarray((self.outcome == APPROVE) & (self.base_outcome != APPROVE))
