"""How many payments each known one stands for, where decisions hide the truth of others.

A payment that was approved is known once it is mature, and stands for itself. One that the control
group let through stands for all those like it that were withheld: it weighs 1 / propensity, at most
`MOST`. A reviewed payment with a verdict stands for itself where nearly every review of its time
got one: then reviews hide nothing, and a payment that the control group took out of them weighs 1,
too. Everything else is out. In particular a declined payment with a label (a complaint, a look by
an analyst) selected itself, so it says nothing of other declined ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US
from sentinel.models.decided import APPROVE, REVIEW, Decided

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

MOST: Final = 50.0
"""Weights are cut here, so that no single payment decides a figure."""
REVIEWED_SHARE: Final = 0.95
"""Reviews count where at least this share of those of the month before got a verdict."""
REVIEW_SPAN_US: Final = 30 * DAY_US


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """What rows stand for.

    Attributes:
        weight: float64 (n_rows,), at most `MOST`; 0 = out.
        unclipped: float64 (n_rows,), the same before it was cut.
    """

    weight: Floats
    unclipped: Floats

    @property
    def clipped_mass(self) -> float:
        """Share of the uncut weight that was cut off, 0 to 1."""
        return clipped_mass(self.weight, self.unclipped)

    @property
    def effective_size(self) -> float:
        """See `effective_size`."""
        return effective_size(self.weight)


def weights_of(decided: Decided | None, known: Bools, event_time_us: Ints) -> Weights:
    """What each row of the log stands for.

    Args:
        decided: Outcomes; None if all rows were approved and nothing was random.
        known: bool (n_rows,), whether the row's truth is known.
        event_time_us: int64 (n_rows,).
    """
    unclipped = np.zeros(len(known), dtype=np.float64)
    if decided is None:
        unclipped[known] = 1.0
        return Weights(weight=unclipped, unclipped=unclipped)
    approved = known & (decided.outcome == APPROVE)
    unclipped[approved] = 1.0 / decided.propensity[approved].astype(np.float64)
    concerned = np.flatnonzero((decided.outcome == REVIEW) | (decided.base_outcome == REVIEW))
    if len(concerned):
        looked_at = reviews_are_known(
            event_time_us[concerned],
            reviewed=decided.outcome[concerned] == REVIEW,
            known=known[concerned],
        )
        # Known whatever the control group did: each stands for itself.
        unclipped[concerned[looked_at & known[concerned]]] = 1.0
    return Weights(weight=np.minimum(unclipped, MOST), unclipped=unclipped)


def reviews_are_known(event_time_us: Ints, *, reviewed: Bools, known: Bools) -> Bools:
    """Whether nearly all reviews of the thirty days up to each row got a verdict.

    The span ends with the row itself, so that later payments never change what was learnt from
    earlier ones.

    Args:
        event_time_us: int64 (n,).
        reviewed: bool (n,), whether the row was reviewed.
        known: bool (n,), whether its truth is known.

    Returns:
        bool (n,); False where there was no review in that time.

    >>> day = 86_400_000_000
    >>> times, yes = np.array([0, day, 40 * day]), np.ones(3, dtype=bool)
    >>> reviews_are_known(times, reviewed=yes, known=np.array([True, False, True])).tolist()
    [True, False, True]
    """
    order = np.argsort(event_time_us, kind="stable")
    times = event_time_us[order]
    first = np.searchsorted(times, times - REVIEW_SPAN_US, side="right")
    until = np.searchsorted(times, times, side="right")
    reviews = _running(reviewed[order])
    verdicts = _running((reviewed & known)[order])
    total = reviews[until] - reviews[first]
    enough = verdicts[until] - verdicts[first] >= REVIEWED_SHARE * total
    out = np.empty(len(times), dtype=np.bool_)
    out[order] = enough & (total > 0)
    return out


def effective_size(weight: npt.ArrayLike) -> float:
    """How many equally weighted rows say as much as these (Kish, 1965): (sum w)^2 / sum w^2.

    >>> effective_size([1, 1, 1, 1]), effective_size([1, 1, 1, 50]), effective_size([])
    (4.0, 1.1222532960447462, 0.0)
    """
    w = np.asarray(weight, dtype=np.float64)
    squares = float((w * w).sum())
    return float(w.sum()) ** 2 / squares if squares > 0 else 0.0


def clipped_mass(weight: npt.ArrayLike, unclipped: npt.ArrayLike) -> float:
    """Share of the uncut weight that was cut off.

    >>> clipped_mass([1.0, 50.0], [1.0, 99.0])
    0.49
    """
    whole = float(np.asarray(unclipped, dtype=np.float64).sum())
    left = float(np.asarray(weight, dtype=np.float64).sum())
    return 1.0 - left / whole if whole > 0 else 0.0


def _running(flags: Bools) -> Ints:
    """Totals before each place and after the last: int64 (n + 1,)."""
    totals = np.zeros(len(flags) + 1, dtype=np.int64)
    np.cumsum(flags, out=totals[1:])
    return totals
