"""What is worked out of recent payments for the next day: the price of a review, the share of the
control group, and what it costs; or, where nobody allows one, what cannot be known without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.policy.economics import Costs, Economics, shadow_price
from sentinel.policy.exploration import MOST_SHARE
from sentinel.policy.figures import widest_half_width
from sentinel.policy.versions import EXPLORED_A_MONTH, Terms

Floats = npt.NDArray[np.float64]

WINDOW_DAYS: Final = 28.0
"""Days of decisions that the next day's figures are worked out of."""
MONTH_DAYS: Final = 30.0

_ROUND_MINOR: Final = 4
_WITHOUT_COSTS: Final = Economics(costs=Costs())
"""Where nobody said what a fraud costs, it costs its amount, and stopping anything costs nothing:
then a control group costs at most what is worked out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecentPayments:
    """Payments of the last days, as they were decided. All arrays are (n_rows,).

    Attributes:
        days: How long they took to come.
        probability: float64, calibrated.
        amount_minor: float64, minor units.
        segment: int64, see `Economics.segments_of`.
        outcome: int64, outcome code before the control group: of bands where there are no costs.
        degraded: bool; such payments are neither priced nor let through.
        count: float32, the feature that `Exploring.count_feature` names; NaN = unknown.
        weight: float64, payments that each row stands for.
    """

    days: float
    probability: Floats
    amount_minor: Floats
    segment: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int64]
    degraded: npt.NDArray[np.bool_]
    count: npt.NDArray[np.float32]
    weight: Floats


class Workings(msgspec.Struct, frozen=True, kw_only=True):
    """What was worked out. Months have 30 days, money is in minor units.

    Attributes:
        days, payments: What it was worked out of.
        payments_a_day: Payments.
        shadow_price_minor: Of a review.
        reviews_a_day, declines_a_day: As the policy rules on these payments.
        reviews_wanted_a_day: Reviews that would gain something if analysts had the time.
        stopped_a_month, stopped_amount_minor: Payments that are not approved, and their amounts.
        eligible_a_month: Those of them that the control group may let through.
        share: Of the control group; 0 where no budget allows one.
        explored_a_month, cost_minor: Payments that it lets through, and what that costs, as
            expected.
        half_width: The share of fraud among stopped payments is then known to within so much after
            a month whose truth has come, at 95 %.
        possible_share, possible_explored, possible_cost_minor, possible_half_width: The same if
            money were no bound.
    """

    days: float
    payments: float
    payments_a_day: float
    shadow_price_minor: float
    reviews_a_day: float
    declines_a_day: float
    reviews_wanted_a_day: float
    stopped_a_month: float
    stopped_amount_minor: float
    eligible_a_month: float
    share: float
    explored_a_month: float
    cost_minor: float
    half_width: float
    possible_share: float
    possible_explored: float
    possible_cost_minor: float
    possible_half_width: float


def work_out(terms: Terms, rows: RecentPayments) -> Workings:
    """The price of a review and the share of the control group for the next day.

    Args:
        terms: What people set.
        rows: The payments of `WINDOW_DAYS`, or of less where there are fewer.
    """
    sound, days = ~rows.degraded, max(rows.days, 1e-9)
    weight = np.where(sound, rows.weight, 0.0)
    money = (rows.probability, rows.amount_minor, rows.segment)
    price = wanted = 0.0
    if terms.costs is None:
        outcome, economics = rows.outcome, _WITHOUT_COSTS
        costs = economics.expected(rows.probability, rows.amount_minor, np.zeros_like(rows.segment))
    else:
        economics = terms.economics(0.0)
        gains = economics.review_gains(*money)
        wanted = float(weight[gains > 0].sum())
        if terms.reviews_per_day is not None:
            capacity = terms.reviews_per_day * days
            price = round(shadow_price(gains, capacity, weight=weight), _ROUND_MINOR)
        outcome = terms.economics(price).outcomes(*money)
        costs = economics.expected(*money)
    stopped = sound & (outcome > 0)
    month = MONTH_DAYS / days
    eligible = stopped & _within_limits(terms, rows)
    # Letting a payment through costs what approving it costs more than what it would have got.
    dearer = costs[:, 0] - costs[np.arange(len(outcome)), outcome]
    n = float(weight[eligible].sum()) * month
    all_of_it = max(0.0, float((weight * dearer)[eligible].sum()) * month)
    exploring = terms.exploring
    most = MOST_SHARE if exploring is None else exploring.most_share
    payments = EXPLORED_A_MONTH if exploring is None else exploring.payments
    possible = min(most, payments / n) if n > 0 else 0.0
    share = 0.0
    if exploring is not None:
        share = min(possible, exploring.budget_minor / all_of_it) if all_of_it > 0 else possible
        share = round(share, 6)
    return Workings(
        days=rows.days,
        payments=float(rows.weight.sum()),
        payments_a_day=float(rows.weight.sum()) / days,
        shadow_price_minor=price,
        reviews_a_day=float(weight[outcome == 1].sum()) / days,
        declines_a_day=float(weight[outcome == 2].sum()) / days,
        reviews_wanted_a_day=wanted / days,
        stopped_a_month=float(weight[stopped].sum()) * month,
        stopped_amount_minor=float((weight * rows.amount_minor)[stopped].sum()) * month,
        eligible_a_month=n,
        share=share,
        explored_a_month=share * n,
        cost_minor=share * all_of_it,
        half_width=widest_half_width(share * n),
        possible_share=possible,
        possible_explored=possible * n,
        possible_cost_minor=possible * all_of_it,
        possible_half_width=widest_half_width(possible * n),
    )


def _within_limits(terms: Terms, rows: RecentPayments) -> npt.NDArray[np.bool_]:
    exploring = terms.exploring
    within = np.ones(len(rows.probability), dtype=np.bool_)
    if exploring is None:
        return within
    if exploring.most_amount_minor is not None:
        within &= rows.amount_minor <= exploring.most_amount_minor
    if exploring.most_count is not None:
        within &= ~(rows.count > exploring.most_count)
    return within
