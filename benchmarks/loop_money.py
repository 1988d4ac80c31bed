"""What a deployment of the benchmark `loop` cost and let through, by its log and the truth."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.loop_book import Book
from sentinel.features.plan.plan import DAY_US
from sentinel.models.decided import APPROVE, DECLINE, REVIEW
from sentinel.models.evaluation import average_precision
from sentinel.policy.economics import Costs
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.world import World

MONTH_DAYS: Final = 30
FINAL_MONTHS: Final = 3

Floats = npt.NDArray[np.float64]


def figures_of(book: Book, start_us: int, days: int, costs: Costs) -> dict[str, Any]:
    """Average precision by month on all payments, money, and what was let through.

    Args:
        book: The log.
        start_us: Where decisions began.
        days: How long they lasted.
        costs: Of outcomes.
    """
    times = book.column("event_time_us")
    here = times >= start_us
    fraud, score = book.column("is_fraud")[here], book.column("score")[here]
    outcome, base = book.column("outcome")[here], book.column("base_outcome")[here]
    month = ((times[here] - start_us) // (MONTH_DAYS * DAY_US)).astype(np.int64)
    months = max(1, days // MONTH_DAYS)  # a rest of a month belongs to the last one
    month = np.minimum(month, months - 1)
    by_month = [
        average_precision(fraud[month == number], score[month == number])
        for number in range(months)
    ]
    explored = (outcome == APPROVE) & (base != APPROVE)
    stopped = book.column("stopped")[here].astype(np.bool_)
    cost = _costs(book, here, stopped, costs)
    otherwise = _costs(book, here, np.asarray(explored & (base == DECLINE)), costs)
    return {
        "ap_by_month": by_month,
        "final_ap": float(np.mean(by_month[-FINAL_MONTHS:])),
        "payments_by_month": np.bincount(month, minlength=months).tolist(),
        "frauds_by_month": np.bincount(month[fraud.astype(bool)], minlength=months).tolist(),
        "review_rate": float(np.mean(outcome == REVIEW)),
        "decline_rate": float(np.mean(outcome == DECLINE)),
        "fraud_rate": float(np.mean(fraud)),
        "cost_minor": float(cost.sum()),
        "exploring": {
            "explored": int(explored.sum()),
            "frauds": int((explored & fraud.astype(bool)).sum()),
            "cost_minor": float(cost[explored].sum()),
            "net_cost_minor": float((cost - otherwise)[explored].sum()),
        },
    }


def _costs(
    book: Book, here: npt.NDArray[np.bool_], stopped: npt.NDArray[np.bool_], costs: Costs
) -> Floats:
    """What each payment cost as it turned out: (n,), minor units."""
    amount = np.maximum(book.column("amount_minor")[here].astype(np.float64), 0.0)
    fraud = book.column("is_fraud")[here].astype(np.bool_)
    lost = amount - book.column("recovered_minor")[here] + costs.fee_minor
    refused = costs.false_decline_minor + costs.false_decline_share * amount
    cost = np.where(stopped, np.where(fraud, 0.0, refused), np.where(fraud, lost, 0.0))
    cost += np.where(book.column("outcome")[here] == REVIEW, costs.review_minor, 0.0)
    return np.asarray(cost)


def approving_all_minor(config: SimulatorConfig, days: int, costs: Costs) -> float:
    """What the planned frauds of the days after a world's history lose if all are approved."""
    world = World(config)
    lost = 0.0
    first = int(config.days)
    for day in range(first, first + days):
        events = world.day(day)
        amounts = np.maximum(events.amount_minor[events.scenario > 0], 0)
        lost += float((costs.lost_share * amounts + costs.fee_minor).sum())
    return lost
