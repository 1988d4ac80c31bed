"""Is a candidate's average precision at most a tenth lower than that of a reference?

The hypothesis to reject is that it is lower by more: that the candidate's average precision is at
most ``1 - MARGIN`` times the reference's. Both score the same rows, so the estimate is paired, and
its standard error is that of the sums of influence by card: rows of one card rise and fall
together. As truth matures night by night the rows become more, and the hypothesis may be rejected
at any of these looks; together they err in 5 % at most (`sentinel.models.alpha_spending`).

The information of a look is one over the variance of the estimate, in units of the margin: at 4 a
candidate that is as good as the reference lies two standard errors above the margin. A wait is over
when there is as much as would show nearly every such candidate to be so, or after its last night.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.models.alpha_spending import SpendingBounds, spent_by
from sentinel.models.intervals import cluster_codes
from sentinel.models.precision_influence import average_precision_influence, ranked

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MARGIN: Final = 0.10
"""Share of the reference's average precision that a candidate may be lower."""
ALPHA: Final = 0.05
"""Share of waits in which a candidate that is lower by the margin may pass."""
SPENT: Final = 0.025
"""What of it the looks spend. The rest is for what a normal distribution gets wrong where the
frauds are few and a candidate is blind to some of them (`python -m benchmarks gate`)."""
NIGHTS: Final = 60
"""Nights that a candidate may wait for truth."""
ENOUGH: Final = (1.96 + 1.645) ** 2
"""Information that ends a wait: 95 % of the candidates that are as good as the reference pass."""
USUAL: Final = (2.15 + 0.85) ** 2
"""Information at which four of five such candidates have passed, after many looks."""
GROWTH: Final = 1.02
"""Another look needs information so many times that of the last one."""
BETTER: Final = 1.96
"""Standard errors above the reference at which a candidate becomes the reference itself."""
WORSE: Final = 2.5
"""Standard errors below the margin at which a candidate is refused before its wait is over."""
FEWEST_FRAUDS: Final = 30.0
"""With fewer effective frauds no candidate passes: the normal distribution is no guide yet."""
FEWEST_TO_REFUSE: Final = 10.0
"""With fewer effective frauds there is no look at all."""


_MOST_INFORMATION: Final = 1e3 * ENOUGH


@dataclass(frozen=True, kw_only=True)
class PairedPrecision:
    """What some rows say of a candidate and a reference.

    Attributes:
        candidate, reference: Average precision of either.
        difference_error: Standard error of ``candidate - reference``.
        shortfall_error: Standard error of ``candidate - (1 - margin) reference``.
        margin: Share of the reference's figure that the candidate may be lower.
        skewness: Of that estimate: below 0 where a few cards speak strongly against the candidate.
        frauds: Known frauds among the rows.
        effective_frauds: Equally weighted frauds of different cards that would say as much
            (Kish, 1965).
    """

    candidate: float
    reference: float
    difference_error: float
    shortfall_error: float
    skewness: float
    margin: float
    frauds: int
    effective_frauds: float

    @property
    def ratio(self) -> float:
        """The candidate's average precision as a multiple of the reference's."""
        return self.candidate / self.reference

    @property
    def better(self) -> bool:
        """Whether the candidate is shown to have an average precision above the reference's."""
        return self.candidate - self.reference > BETTER * self.difference_error

    @property
    def information(self) -> float:
        """One over the variance of the shortfall, in units of the margin."""
        if self.shortfall_error <= 0.0:
            return math.inf if self.reference > 0.0 else 0.0
        return (self.margin * self.reference / self.shortfall_error) ** 2

    @property
    def z(self) -> float:
        """Standard errors by which the candidate lies above the margin.

        Corrected for skewness (Hall, 1992), without which a candidate that is blind to a few
        cards passes too often: a draw that has few of them looks both better and surer.
        """
        above = self.candidate - (1.0 - self.margin) * self.reference
        if self.shortfall_error <= 0.0:
            return math.copysign(math.inf, above)
        z, skew = above / self.shortfall_error, self.skewness
        return z + skew * z * z / 3.0 + skew * skew * z**3 / 27.0 + skew / 6.0


class PairedScores:
    """Rows with the scores of a candidate and a reference.

    Args:
        fraud: bool (n_rows,), the truth.
        candidate, reference: float64 (n_rows,), scores; only their order counts.
        card: int (n_rows,), code of the card or customer, negative = unknown.
        weight: float64 (n_rows,), what each row stands for; None if each is one.
        margin: Share of the reference's figure that the candidate may be lower.
    """

    def __init__(
        self,
        fraud: npt.ArrayLike,
        candidate: npt.ArrayLike,
        reference: npt.ArrayLike,
        card: npt.ArrayLike,
        weight: npt.ArrayLike | None = None,
        *,
        margin: float = MARGIN,
    ) -> None:
        self.margin = margin
        self.fraud: Bools = np.ascontiguousarray(fraud, dtype=np.bool_)
        n = len(self.fraud)
        self.weight: Floats = (
            np.ones(n) if weight is None else np.ascontiguousarray(weight, dtype=np.float64)
        )
        self._card, self._cards = cluster_codes(card)
        self._pair = [ranked(np.asarray(s, dtype=np.float64)) for s in (candidate, reference)]

    def compare(self, counted: Bools | None = None) -> PairedPrecision:
        """Compare the two on some of the rows; by default on all.

        Args:
            counted: bool (n_rows,).

        Raises:
            ValueError: None of the rows is a fraud.
        """
        if counted is None:
            counted = np.ones(len(self.fraud), dtype=np.bool_)
        frauds = self.fraud & counted
        if not frauds.any():
            raise ValueError("Average precision needs a fraud. Wait for one to mature.")
        (new, new_influence), (old, old_influence) = (
            self._value(order, tie, counted) for order, tie in self._pair
        )
        new_by_card, old_by_card = self._by_card(new_influence), self._by_card(old_influence)
        shortfall = new_by_card - (1.0 - self.margin) * old_by_card
        effective = self._effective(frauds)
        # A sum of squares about a mean that was estimated from as many frauds is a little small.
        scale = effective / max(effective - 1.0, 0.5)
        squares = float(shortfall @ shortfall)
        difference = new_by_card - old_by_card
        return PairedPrecision(
            candidate=new,
            reference=old,
            difference_error=math.sqrt(float(difference @ difference) * scale),
            shortfall_error=math.sqrt(squares * scale),
            skewness=float((shortfall**3).sum()) / squares**1.5 if squares > 0.0 else 0.0,
            margin=self.margin,
            frauds=int(frauds.sum()),
            effective_frauds=effective,
        )

    def _by_card(self, influence: Floats) -> Floats:
        return np.asarray(
            np.bincount(self._card, weights=self.weight * influence, minlength=self._cards),
            dtype=np.float64,
        )

    def _value(
        self, order: npt.NDArray[np.int64], tie: npt.NDArray[np.int64], counted: Bools
    ) -> tuple[float, Floats]:
        influence = np.empty(len(self.fraud))
        value = average_precision_influence(order, tie, self.fraud, self.weight, counted, influence)
        return value, influence

    def _effective(self, frauds: Bools) -> float:
        of_card = np.bincount(self._card[frauds], weights=self.weight[frauds])
        return float(of_card.sum() ** 2 / (of_card @ of_card))


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a candidate.

    Attributes:
        night: Nights since the wait began; the first look is of night 0.
        information: See `PairedPrecision`.
        spent: Error that all looks up to this one may make together.
        z: Standard errors by which the candidate lay above the margin.
        bound: The z from which on it passes; None while there is too little to let any pass.
    """

    night: int
    information: float
    spent: float
    z: float
    bound: float | None

    @property
    def passes(self) -> bool:
        """Whether the candidate is shown to be no worse than the margin."""
        return self.bound is not None and self.z >= self.bound

    @property
    def fails(self) -> bool:
        """Whether the candidate is shown to be worse than the margin."""
        return self.z < -WORSE


State = Literal["passed", "waits", "refused"]


class SequentialTest:
    """The looks at a candidate so far, and the next one.

    Args:
        looks: Earlier ones, oldest first, none of which decided.
    """

    def __init__(self, looks: Sequence[Look] = ()) -> None:
        self.looks = list(looks)
        self._bounds = SpendingBounds()
        for look in self.looks:
            self._bounds.look(look.information, look.spent)

    def look(self, found: PairedPrecision, night: int) -> Look | None:
        """Look at what is known by a night.

        Args:
            found: On all rows that have matured by then.
            night: Nights since the wait began.

        Returns:
            The look; None where there is too little that is new.
        """
        last_night = night >= NIGHTS - 1
        before = self.looks[-1].information if self.looks else 0.0
        information = min(found.information, _MOST_INFORMATION)
        if found.effective_frauds < FEWEST_TO_REFUSE or self._bounds.spent >= SPENT:
            return None
        if not information > before * (1.0 if last_night else GROWTH):
            return None
        spent = SPENT if last_night else spent_by(information / ENOUGH, SPENT)
        if found.effective_frauds < FEWEST_FRAUDS:
            spent = self._bounds.spent
        bound = self._bounds.look(information, spent)
        look = Look(
            night=night,
            information=information,
            spent=spent,
            z=found.z,
            bound=None if math.isinf(bound) else bound,
        )
        self.looks.append(look)
        return look

    def state(self, night: int) -> State:
        """What has become of the candidate by a night."""
        if self.looks and self.looks[-1].passes:
            return "passed"
        decided = bool(self.looks) and self.looks[-1].fails
        if decided or night >= NIGHTS - 1 or self._bounds.spent >= SPENT:
            return "refused"
        return "waits"


def frauds_needed(found: PairedPrecision) -> float:
    """Effective frauds at which four of five candidates as good as the reference have passed.

    Args:
        found: What is known by now; the information of a fraud is taken from it.
    """
    by_information = found.effective_frauds * USUAL / max(found.information, 1e-9)
    return max(FEWEST_FRAUDS, by_information)
