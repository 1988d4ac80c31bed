"""How well anybody could do on the Handbook's data: Bayes' rule by someone who wrote it.

The oracle knows the simulator (the book, chapter 3) and its parameters, but not its dice, and of
the labels only those that have arrived, though each with its scenario:

1. an amount above 220 is fraud;
2. every day two of 10,000 terminals are compromised for 28 days, during which all their payments
   are fraud: known from the first label on, before that a small chance, the larger the longer
   ago the terminal was last seen to be clean;
3. every day three of 5,000 cards are compromised for 14 days, during which a third of their
   payments have five times the amount: the chance follows from a card's recent amounts.

It is generous where exactness would take effort (a customer's mean comes from all six months, and
the last day of a known compromise is known), so it bounds from above what features can reach on
average. On the frauds of a few weeks luck can still put a model a point above it: an interval says
how much.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from benchmarks.handbook_protocol import DELAY_DAYS, Floats, Ints, Transactions
from sentinel.features.plan.plan import DAY_US

LARGE_AMOUNT: Final = 220.0
TERMINALS: Final = 10_000
TERMINALS_PER_DAY: Final = 2
TERMINAL_DAYS: Final = 28
CUSTOMERS: Final = 5_000
CUSTOMERS_PER_DAY: Final = 3
CUSTOMER_DAYS: Final = 14
INFLATED_SHARE: Final = 1 / 3
INFLATION: Final = 5.0
KNOWN: Final = 0.9999


def oracle_scores(data: Transactions) -> Floats:
    """Probability of fraud as the oracle sees it: float64 (n_rows,)."""
    grown = inflated(data)
    hidden = _hidden_terminal(data)
    probability = 1.0 - (1.0 - grown) * (1.0 - hidden)
    probability[_known_terminal(data)] = KNOWN
    probability[data.amount > LARGE_AMOUNT] = 1.0
    return probability


def _known_terminal(data: Transactions) -> npt.NDArray[np.bool_]:
    """Scenario 2 payments after the first label of the same compromise has arrived."""
    rows = np.flatnonzero(data.scenario == 2)
    rows = rows[np.lexsort((data.time_us[rows], data.terminal[rows]))]
    terminal, time = data.terminal[rows], data.time_us[rows]
    begins = np.ones(len(rows), dtype=np.bool_)
    begins[1:] = (np.diff(terminal) != 0) | (np.diff(time) > TERMINAL_DAYS * DAY_US)
    first = time[begins][np.cumsum(begins) - 1]
    known = np.zeros(len(data.day), dtype=np.bool_)
    known[rows] = time >= first + DELAY_DAYS * DAY_US
    return known


def _hidden_terminal(data: Transactions) -> Floats:
    """Chance that a terminal is compromised and no label has told yet."""
    order = np.lexsort((data.time_us, data.terminal))
    span = int(np.ptp(data.time_us)) + 1
    key = data.terminal[order] * (2 * span) + (data.time_us[order] - data.time_us.min())
    seen = np.searchsorted(key, key - DELAY_DAYS * DAY_US, side="right") - 1
    same = (seen >= 0) & (data.terminal[order][seen] == data.terminal[order])
    age = np.where(same, data.time_us[order] - data.time_us[order][seen], TERMINAL_DAYS * DAY_US)
    days = np.minimum(age / DAY_US, TERMINAL_DAYS)
    chance = np.empty(len(key))
    chance[order] = 1.0 - (1.0 - TERMINALS_PER_DAY / TERMINALS) ** days
    return chance


def inflated(data: Transactions) -> Floats:
    """Chance that a payment is one whose amount scenario 3 multiplied."""
    genuine, multiplied = _likelihoods(data)
    either = (1.0 - INFLATED_SHARE) * genuine + INFLATED_SHARE * multiplied
    evidence = np.log(either / genuine)
    # Evidence by card and day, and what came earlier on the same day.
    days = int(data.day.max()) + 1
    daily = np.zeros((int(data.customer.max()) + 1, days))
    np.add.at(daily, (data.customer, data.day), evidence)
    until = np.concatenate([np.zeros((len(daily), 1)), np.cumsum(daily, axis=1)], axis=1)
    today = _earlier_today(data, evidence)
    prior = CUSTOMERS_PER_DAY / CUSTOMERS
    odds = np.zeros(len(evidence))
    for age in range(CUSTOMER_DAYS):
        start = np.maximum(data.day - age, 0)
        since = until[data.customer, data.day] - until[data.customer, start] + today
        odds += np.where(data.day >= age, prior * np.exp(np.clip(since, -500.0, 500.0)), 0.0)
    active = odds / (odds + 1.0 - CUSTOMER_DAYS * prior)
    fraud = active * INFLATED_SHARE * multiplied
    return fraud / (active * either + (1.0 - active) * genuine)


def _likelihoods(data: Transactions) -> tuple[Floats, Floats]:
    """Density of each amount as a genuine one, and as one multiplied by five.

    A customer's amounts are normal with a standard deviation of half their mean; a negative one
    is drawn anew, uniformly between nothing and twice the mean.
    """
    own = data.scenario != 3
    total = np.bincount(data.customer[own], data.amount[own])
    count = np.bincount(data.customer[own])
    # Drawing anew raises the mean of what is seen by E[max(-x, 0)] + P(x < 0) * mean.
    density_at_two = np.exp(-2.0) / np.sqrt(2.0 * np.pi)
    below = float(ndtr(-2.0))
    rise = 1.0 + (0.5 * density_at_two - below) + below
    mean = np.clip(total / np.maximum(count, 1) / rise, 5.0, 100.0)[data.customer]

    def density(amount: Floats) -> Floats:
        z = (amount - mean) / (0.5 * mean)
        normal = np.exp(-0.5 * z * z) / (np.sqrt(2.0 * np.pi) * 0.5 * mean)
        redrawn = below / (2.0 * mean) * (amount <= 2.0 * mean)
        return np.asarray(np.maximum(normal + redrawn, 1e-200))

    return density(data.amount), density(data.amount / INFLATION) / INFLATION


def _earlier_today(data: Transactions, evidence: Floats) -> Floats:
    """Sum of the evidence of the same card's earlier payments of the day."""
    order: Ints = np.lexsort((data.time_us, data.day, data.customer))
    running = np.cumsum(evidence[order])
    new = np.concatenate(
        [[True], (np.diff(data.customer[order]) != 0) | (np.diff(data.day[order]) != 0)]
    )
    first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
    earlier = np.empty(len(order))
    earlier[order] = (running - evidence[order]) - (running[first] - evidence[order][first])
    return earlier
