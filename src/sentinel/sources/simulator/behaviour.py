"""What the people of the simulated world do once a payment was declined or held for review."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from sentinel.domain import ConfigurationError
from sentinel.sources.base import DAY_US
from sentinel.sources.simulator.fraudsters import HOUR_US

MINUTE_US: Final = 60_000_000

LONGEST_REVIEW_US: Final = 2 * DAY_US
"""No analyst takes longer."""

LONGEST_COMPLAINT_US: Final = 10 * DAY_US
"""Nobody complains later."""

_REACTIONS: Final = 4  # a stream of random numbers
_NORMAL: Final = 3


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Shares and times of everything that answers a decision. Shares are 0 to 1.

    Attributes:
        analyst_hours: Median time from a review to its verdict, hours.
        verdict_share: Reviews that get a verdict; the others are let pass after as long a time,
            and nobody says anything of them.
        analysts_miss: Frauds that an analyst calls legitimate.
        analysts_accuse: Legitimate payments that an analyst calls fraud.
        fraudsters_retry: Declined frauds that are tried again, elsewhere or smaller, minutes to
            hours later.
        most_tries: How often at most, the first time included.
        decline_stops: Declined frauds after which the card is stopped: its owner was asked.
        customers_retry: Declined legitimate payments that are tried again within minutes, once.
        customers_complain: Legitimate payments, declined or called fraud, whose customer complains:
            a label says so days later.
        customers_leave: Such payments after which the customer never comes back.
        recovered: Mean share of a reported fraud's amount that comes back.
    """

    analyst_hours: float = 3.0
    verdict_share: float = 0.99
    analysts_miss: float = 0.10
    analysts_accuse: float = 0.02
    fraudsters_retry: float = 0.6
    most_tries: int = 4
    decline_stops: float = 0.15
    customers_retry: float = 0.5
    customers_complain: float = 0.15
    customers_leave: float = 0.03
    recovered: float = 0.25

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            low, high = {"analyst_hours": (0.01, 48.0), "most_tries": (1, 20)}.get(
                item.name, (0.0, 1.0)
            )
            if not low <= value <= high:
                raise ConfigurationError(
                    f"The simulated world's {item.name} is {value!r}; it must be {low:g} to "
                    f"{high:g}."
                )


@dataclass(frozen=True, slots=True)
class Chance:
    """The random numbers of what follows one payment: the same ones whatever else happens.

    Attributes:
        verdict, mistake, stop, retry, elsewhere, merchant, size, other_card, challenge, complain,
            leave, recovered: Uniform in [0, 1).
        review_time, retry_time, complaint_time: Normal, of mean 0 and variance 1.
    """

    verdict: float
    mistake: float
    stop: float
    retry: float
    elsewhere: float
    merchant: float
    size: float
    other_card: float
    challenge: float
    complain: float
    leave: float
    recovered: float
    review_time: float
    retry_time: float
    complaint_time: float

    @classmethod
    def of(cls, seed: int, payment: int, tries: int) -> Chance:
        """Draw them.

        Args:
            seed: Of the world.
            payment: Number of the payment that was planned.
            tries: How often it was tried before.
        """
        rng = np.random.default_rng([seed, _REACTIONS, payment, tries])
        uniform = rng.random(len(fields(cls)) - _NORMAL).tolist()
        return cls(*uniform, *rng.standard_normal(_NORMAL).tolist())

    def review_us(self, behaviour: Behaviour) -> int:
        """How long an analyst takes, microseconds."""
        return _lognormal_us(
            self.review_time, behaviour.analyst_hours * HOUR_US, 0.8, LONGEST_REVIEW_US
        )

    def retry_us(self, *, fraud: bool) -> int:
        """How long until a declined payment is tried again, microseconds."""
        if fraud:
            return MINUTE_US + _lognormal_us(self.retry_time, 20 * MINUTE_US, 1.2, DAY_US)
        return MINUTE_US + _lognormal_us(self.retry_time, 3 * MINUTE_US, 0.7, HOUR_US)

    def complaint_us(self) -> int:
        """How long a customer takes to complain, microseconds."""
        return _lognormal_us(self.complaint_time, DAY_US, 0.9, LONGEST_COMPLAINT_US)


def _lognormal_us(normal: float, median_us: float, spread: float, longest_us: int) -> int:
    """A lognormal time in whole milliseconds, in microseconds.

    Args:
        normal: The draw.
        median_us: The time that half of all exceed.
        spread: Standard deviation of its logarithm.
        longest_us: Longer ones become this.
    """
    return int(min(median_us * math.exp(spread * normal), longest_us)) // 1_000 * 1_000
