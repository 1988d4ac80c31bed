"""How well anybody could do who reads labels as they arrive, without the scenario that made them.

The oracle of `benchmarks.handbook_oracle` is told with each label which scenario it is of, and when
a compromise of a terminal ends. No system is told that. This one knows the simulator just as well,
and applies Bayes' rule to the days on which a compromise of a terminal may have begun: all payments
of its 28 days are fraud, and a fraud elsewhere is as likely as the customer's own amounts say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from benchmarks.handbook_oracle import (
    LARGE_AMOUNT,
    TERMINAL_DAYS,
    TERMINALS,
    TERMINALS_PER_DAY,
    inflated,
)
from benchmarks.handbook_protocol import DELAY_DAYS, Floats, Ints, Transactions
from sentinel.features.plan.plan import DAY_US

MOST_DAYS: Final = 62
"""Beginnings of a compromise that are thought of, in days back."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    return cast(Callable[_P, _R], numba.njit(nogil=True)(function))


def fair_oracle_scores(data: Transactions) -> Floats:
    """Probability of fraud, as far as labels have told: float64 (n_rows,)."""
    grown = inflated(data)
    otherwise = np.where(data.amount > LARGE_AMOUNT, 0.999, np.clip(grown, 2e-6, 0.999))
    compromised = np.empty(len(data.day))
    _compromised(
        np.lexsort((data.time_us, data.terminal)),
        data.terminal,
        data.time_us,
        data.day,
        data.fraud,
        -np.log(otherwise),
        DELAY_DAYS * DAY_US,
        TERMINALS_PER_DAY / TERMINALS,
        compromised,
    )
    probability = 1.0 - (1.0 - grown) * (1.0 - compromised)
    probability[data.amount > LARGE_AMOUNT] = 1.0
    return probability


@_compiled
def _compromised(
    order: Ints,
    terminal: Ints,
    time_us: Ints,
    day: Ints,
    fraud: npt.NDArray[np.bool_],
    surprise: Floats,
    delay_us: int,
    prior: float,
    found: Floats,
) -> None:
    """Chance that a terminal is compromised on the day of each payment.

    Args:
        order: int64 (n_rows,), rows by terminal and time.
        terminal, time_us, day, fraud: (n_rows,), of each payment.
        surprise: float64 (n_rows,), minus the logarithm of the chance that it is fraud otherwise.
        delay_us: From a payment to its label.
        prior: That a compromise of a terminal begins on a day.
        found: float64 (n_rows,), written in place.
    """
    first = 0
    for i in range(len(order)):
        row = order[i]
        if i > 0 and terminal[order[i - 1]] != terminal[row]:
            first = i
        weight = np.zeros(MOST_DAYS)
        clean = np.zeros(MOST_DAYS)
        for k in range(i - 1, first - 1, -1):
            earlier = order[k]
            age = day[row] - day[earlier]
            if age >= MOST_DAYS:
                break
            if time_us[earlier] > time_us[row] - delay_us:
                continue
            if fraud[earlier]:
                weight[age] += surprise[earlier]
            else:
                clean[age] += 1.0
        # Beginnings that nothing speaks against, by the logarithm of their chance; 0 for none.
        evidence = np.full(MOST_DAYS, -np.inf)
        largest = 0.0
        for begun in range(MOST_DAYS):
            told, against = np.log(prior), 0.0
            for age in range(max(begun - TERMINAL_DAYS + 1, 0), begun + 1):
                told += weight[age]
                against += clean[age]
            if against == 0.0:
                evidence[begun] = told
                largest = max(largest, told)
        active = np.exp(evidence[:TERMINAL_DAYS] - largest).sum()
        over = np.exp(evidence[TERMINAL_DAYS:] - largest).sum() + np.exp(-largest)
        found[row] = active / (active + over)
