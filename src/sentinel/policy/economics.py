"""What each outcome of a payment is expected to cost, by its probability, amount and segment.

With ``p`` the probability of fraud, ``L`` what an approved fraud loses, ``F`` what a good payment
that was stopped costs, ``R`` the price of a review, and analysts that pass a share ``e_m`` of the
frauds and stop a share ``e_f`` of the good payments:

    approve   p L
    decline   (1 - p) F
    review    R + v + p e_m L + (1 - p) e_f F

``v`` is the shadow price of a review: what the least useful review that analysts still have time
for gains. The cheapest outcome is ruled. All money is in minor units of the base currency.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ENTITY_COLUMNS, ConfigurationError, Transaction
from sentinel.features.jit import kernel

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

NO_REVIEWS: Final = 1e15
"""A shadow price that no review is worth."""

ATTRIBUTE_FIELD: Final = "attributes."
_SHARES: Final = ("lost_share", "false_decline_share", "missed_share", "stopped_share")


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What outcomes cost.

    Attributes:
        lost_share: Of the amount of an approved fraud; below 1 where some of it comes back.
        fee_minor: What a chargeback costs beside the amount.
        false_decline_minor: What it costs to decline a good payment, whatever its amount.
        false_decline_share: The same as a share of its amount, such as the margin.
        review_minor: What an analyst's look costs.
        missed_share: Share of the frauds that analysts pass.
        stopped_share: Share of the good payments that they stop.
    """

    lost_share: float = 1.0
    fee_minor: float = 0.0
    false_decline_minor: float = 0.0
    false_decline_share: float = 0.0
    review_minor: float = 0.0
    missed_share: float = 0.0
    stopped_share: float = 0.0

    def check(self, where: str) -> None:
        """Raise ConfigurationError if a cost is negative, or a share lies outside 0 to 1.

        Args:
            where: What the costs are of, for the error.
        """
        for name in self.__struct_fields__:
            value = getattr(self, name)
            most = 1.0 if name in _SHARES else NO_REVIEWS
            if not 0.0 <= value <= most:
                allowed = "a share from 0 to 1" if name in _SHARES else "0 or more minor units"
                raise ConfigurationError(f"{where}: {name} is {value:g}; it takes {allowed}.")
        if self.lost_share + self.fee_minor <= 0:
            raise ConfigurationError(
                f"{where}: an approved fraud costs nothing, so nothing would ever be declined. Set "
                "lost_share or fee_minor."
            )
        if self.false_decline_minor + self.false_decline_share <= 0:
            raise ConfigurationError(
                f"{where}: declining a good payment costs nothing, so everything would be "
                "declined. Set false_decline_minor or false_decline_share."
            )


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Payments that have costs of their own.

    Attributes:
        name: For people.
        field: ``attributes.NAME`` or an entity column.
        values: The payments whose field has one of these.
        costs: Theirs.
    """

    name: str
    field: str
    values: tuple[str, ...]
    costs: Costs


class Economics(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The costs of a deployment.

    Attributes:
        costs: Of payments of no segment.
        segments: The first one that a payment belongs to holds.
        shadow_price_minor: ``v``; `NO_REVIEWS` if nobody reviews.
    """

    costs: Costs
    segments: tuple[Segment, ...] = ()
    shadow_price_minor: float = 0.0

    def check(self) -> None:
        """Raise ConfigurationError if something of it cannot be."""
        self.costs.check("costs")
        names = [segment.name for segment in self.segments]
        for segment in self.segments:
            segment.costs.check(f"segment {segment.name!r}")
            if segment.field not in ENTITY_COLUMNS and not (
                segment.field.startswith(ATTRIBUTE_FIELD) and len(segment.field) > 11
            ):
                raise ConfigurationError(
                    f"Segment {segment.name!r} is of field {segment.field!r}; allowed are "
                    f"{ATTRIBUTE_FIELD}NAME and {', '.join(ENTITY_COLUMNS)}."
                )
            if not segment.values or names.count(segment.name) > 1 or not segment.name:
                raise ConfigurationError(
                    f"Segment {segment.name!r} needs a name that no other has, and values."
                )
        if not 0 <= self.shadow_price_minor <= NO_REVIEWS:
            raise ConfigurationError(
                f"The shadow price of a review is {self.shadow_price_minor:g}; it is 0 or more."
            )

    @cached_property
    def table(self) -> Floats:
        """float64 (1 + n_segments, 7): costs in the order of `Costs`, those of no segment first."""
        rows = [self.costs, *(segment.costs for segment in self.segments)]
        return np.array([msgspec.structs.astuple(costs) for costs in rows], dtype=np.float64)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the segments by their codes; that of no segment is empty."""
        return ("", *(segment.name for segment in self.segments))

    @cached_property
    def _fields(self) -> list[tuple[Callable[[Transaction], object], dict[str, int]]]:
        """By field: how to read it, and the segment of each value."""
        by_field: dict[str, dict[str, int]] = {}
        for code, segment in enumerate(self.segments, 1):
            codes = by_field.setdefault(segment.field, {})
            for value in segment.values:
                codes.setdefault(value, code)
        return [(_reader(field), codes) for field, codes in by_field.items()]

    def segments_of(self, transactions: Sequence[Transaction]) -> Codes:
        """int64 (n,): code of the segment of each, 0 if it is of none."""
        codes = np.zeros(len(transactions), dtype=np.int64)
        if not self.segments:
            return codes
        for row, transaction in enumerate(transactions):
            found = [
                code
                for read, by_value in self._fields
                if (code := by_value.get(str(read(transaction)), 0))
            ]
            if found:
                codes[row] = min(found)
        return codes

    def expected(self, probability: Floats, amount_minor: Floats, segment: Codes) -> Floats:
        """Expected cost of each outcome, the shadow price left out.

        Args:
            probability: (n,), calibrated.
            amount_minor: (n,), minor units; a refund loses no amount.
            segment: (n,), see `segments_of`.

        Returns:
            float64 (n, 3): approve, review, decline; minor units.
        """
        lost, fee, fixed, share, review, missed, stopped = self.table[segment].T
        amount = np.maximum(amount_minor, 0.0)
        loss = probability * (lost * amount + fee)
        good = (1.0 - probability) * (fixed + share * amount)
        return np.stack([loss, review + missed * loss + stopped * good, good], axis=1)

    def review_gains(self, probability: Floats, amount_minor: Floats, segment: Codes) -> Floats:
        """What a review of each payment gains against the better of the other two: (n,)."""
        costs = self.expected(probability, amount_minor, segment)
        return np.asarray(np.minimum(costs[:, 0], costs[:, 2]) - costs[:, 1])

    def outcomes(self, probability: Floats, amount_minor: Floats, segment: Codes) -> Codes:
        """int64 (n,): the cheapest outcome; the batch twin of `rule_costs`."""
        costs = self.expected(probability, amount_minor, segment)
        costs[:, 1] += self.shadow_price_minor
        # Of equal ones the mildest: approve, then review.
        return np.asarray(np.argmin(costs, axis=1))

    def line(self, outcome: int, amount_minor: float, segment: int = 0) -> float:
        """The probability from which a payment of an amount gets an outcome, or a harsher one.

        Args:
            outcome: 1 for review, 2 for decline.
            amount_minor: Its amount.
            segment: Its segment.

        Returns:
            1.0 if there is none. All three costs are straight lines of the probability, so the
            outcomes of rising probabilities never go back.
        """
        at = self.expected(
            np.array([0.0, 1.0]), np.full(2, float(amount_minor)), np.full(2, segment)
        )
        at[:, 1] += self.shadow_price_minor
        crossing = [
            _crossing(at[:, milder], at[:, harsher])
            for harsher in range(outcome, 3)
            for milder in range(outcome)
        ]
        if outcome == 2:  # the harsher one has to beat both of the milder ones
            return max(crossing)
        return min(crossing)


def shadow_price(gains: Floats, capacity: float, *, weight: Floats | None = None) -> float:
    """The price of a review at which as many are asked for as analysts can do.

    Args:
        gains: (n,), `Economics.review_gains` of all payments of a time.
        capacity: Reviews that are possible in that time.
        weight: (n,), payments that each row stands for; default: 1.

    Returns:
        The (1 - capacity / volume) quantile of the gains, or 0 where analysts have time for every
        review that gains something; minor units.

    >>> shadow_price(np.array([-5.0, 1.0, 2.0, 3.0]), 2)
    1.0
    >>> shadow_price(np.array([-5.0, 1.0, 2.0, 3.0]), 3)
    0.0
    """
    if capacity <= 0:
        return NO_REVIEWS
    order = np.argsort(-gains, kind="stable")
    mass = np.ones(len(gains)) if weight is None else np.asarray(weight, dtype=np.float64)
    useful = order[gains[order] > 0]
    above = np.cumsum(mass[useful])
    full = np.flatnonzero(above > capacity)
    return float(gains[useful[full[0]]]) if len(full) else 0.0


@kernel
def rule_costs(
    probabilities: npt.NDArray[np.float64],
    given: npt.NDArray[np.uint32],
    amounts: npt.NDArray[np.int64],
    segments: npt.NDArray[np.int64],
    table: npt.NDArray[np.float64],
    shadow_price_minor: float,
    limits: npt.NDArray[np.float64],
    degraded_bit: int,
    fraud_bit: int,
    flags: npt.NDArray[np.uint32],
) -> int:
    """Give each payment its cheapest outcome; degraded ones are held against their bands.

    Args:
        probabilities: float64 (n,), calibrated.
        given: uint32 (n,), flags of the events.
        amounts: int64 (n,), minor units.
        segments: int64 (n,), rows of ``table``; empty: the first one for all.
        table: float64 (n_segments, 7); see `Economics.table`.
        shadow_price_minor: Of a review.
        limits: float64 (2, 3); see `sentinel.policy.bands.rule_bands`. Of the first bands only the
            fraud line is looked at.
        degraded_bit, fraud_bit: Which bits these are.
        flags: uint32 (n,), written, as `rule_bands` does.

    Returns:
        How many payments that are not degraded are not approved.
    """
    stopped = 0
    for row in range(len(probabilities)):
        p = probabilities[row]
        word = np.int64(given[row])
        if word & degraded_bit:
            word |= np.int64(p >= limits[1, 0]) + np.int64(p >= limits[1, 1])
            if p >= limits[1, 2]:
                word |= fraud_bit
            flags[row] = word
            continue
        costs = table[segments[row]] if len(segments) else table[0]
        amount = float(max(amounts[row], 0))
        approve = p * (costs[0] * amount + costs[1])
        decline = (1.0 - p) * (costs[2] + costs[3] * amount)
        review = costs[4] + costs[5] * approve + costs[6] * decline + shadow_price_minor
        if approve > review or approve > decline:
            stopped += 1
            word |= 1 if review <= decline else 2
        if p >= limits[0, 2]:
            word |= fraud_bit
        flags[row] = word
    return stopped


def _crossing(milder: Floats, harsher: Floats) -> float:
    """The probability from which the harsher one is cheaper: (2,) each, costs at 0 and at 1."""
    at_none, at_sure = milder - harsher
    if at_none > 0:
        return 0.0
    if at_sure <= 0:
        return 1.0
    return float(-at_none / (at_sure - at_none))


def _reader(field: str) -> Callable[[Transaction], object]:
    if field.startswith(ATTRIBUTE_FIELD):
        name = field.removeprefix(ATTRIBUTE_FIELD)
        return lambda transaction: transaction.attributes.get(name, "")
    return lambda transaction: getattr(transaction, field) or ""
