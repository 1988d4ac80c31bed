"""What stops an experiment by itself, without any label.

A scoring process counts, by role, what happened to payments in the last hour. The challenger's
alerts and degraded decisions are compared with the champion's by the same bets as frauds
(`sentinel.experiments.confidence`): if its true share were no more than the limit, the bets would
win a thousandfold in one of a thousand windows at most, however often they are looked at. So a
canary that declines everything is stopped after twenty payments, and one that is a little
above the limit after a few hundred.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.experiments.confidence import gains_above, log_capital

EDGES: Final[npt.NDArray[np.float64]] = 1.0 / (1.0 + np.exp(-np.linspace(-12.0, 12.0, 49)))
"""Edges between the buckets of probabilities: half a step of log-odds each."""
BUCKETS: Final = len(EDGES) + 1

SLICE_SECONDS: Final = 60.0
SLICES: Final = 60
"""So many slices are looked back."""
LEAST_OWN: Final = 20
"""Payments that the experiment decided, before its shares are compared: a single card under attack
stops several in a row, and the bets take payments as independent."""
LEAST_CHAMPION: Final = 200
"""Payments that the champion decided, before shares are compared with its own."""

_PROOF: Final = math.log(1_000.0)


class Limits(Protocol):
    """What may be; None or 0 switches one off. See `sentinel.experiments.lineup.Guardrails`."""

    @property
    def most_alert_ratio(self) -> float | None:
        """Of the challenger's share of alerts to the champion's."""
        ...

    @property
    def most_errors(self) -> int:
        """Failures of the model."""
        ...

    @property
    def most_score_distance(self) -> float | None:
        """Between the distributions of probabilities, on the same payments."""
        ...

    @property
    def most_degraded_ratio(self) -> float | None:
        """Of the challenger's share of degraded decisions to the champion's."""
        ...

    @property
    def most_scoring_us(self) -> float | None:
        """Microseconds that its model may take for a payment, in the mean."""
        ...

    @property
    def least_payments(self) -> int:
        """That it must have scored before distributions and times are looked at."""
        ...


@dataclass
class Counts:
    """What happened in a while: of one experiment, and of the champion beside it.

    Attributes:
        decided, alerts, degraded: Payments that the experiment's model decided; those that were
            reviewed or declined before the control group; those without state.
        champion_decided, champion_alerts, champion_degraded: The same of the champion.
        scored: Payments that its model scored, whoever decided.
        scoring_ns: What it took, nanoseconds.
        errors: Groups in which it failed.
        probabilities, champion_probabilities: int64 (BUCKETS,), of the same payments.
    """

    decided: int = 0
    alerts: int = 0
    degraded: int = 0
    champion_decided: int = 0
    champion_alerts: int = 0
    champion_degraded: int = 0
    scored: int = 0
    scoring_ns: int = 0
    errors: int = 0
    probabilities: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(BUCKETS, dtype=np.int64)
    )
    champion_probabilities: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(BUCKETS, dtype=np.int64)
    )

    def add(self, other: Counts) -> None:
        """Count what another while holds, too."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.probabilities += other.probabilities
        self.champion_probabilities += other.champion_probabilities


_NUMBERS: Final = (
    "decided",
    "alerts",
    "degraded",
    "champion_decided",
    "champion_alerts",
    "champion_degraded",
    "scored",
    "scoring_ns",
    "errors",
)


class LastHour:
    """Counts of the last `SLICES` slices of time."""

    def __init__(self) -> None:
        self._slices: deque[tuple[int, Counts]] = deque(maxlen=SLICES)

    def add(self, counts: Counts, seconds: float) -> None:
        """Count what happened until now.

        Args:
            counts: It.
            seconds: Of a monotonic clock.
        """
        number = int(seconds // SLICE_SECONDS)
        while self._slices and self._slices[0][0] <= number - SLICES:
            self._slices.popleft()
        if not self._slices or self._slices[-1][0] != number:
            self._slices.append((number, Counts()))
        self._slices[-1][1].add(counts)

    def sums(self, slices: int = SLICES) -> Counts:
        """Counts of the last slices that have any."""
        total = Counts()
        for _, counts in list(self._slices)[-slices:]:
            total.add(counts)
        return total


def breach(limits: Limits, counts: Counts) -> str | None:
    """Why an experiment must stop; None if it may go on.

    Args:
        limits: What may be.
        counts: What happened in a while.

    Returns:
        The figure and its limit, in words.
    """
    if limits.most_errors and counts.errors >= limits.most_errors:
        return f"its model failed {counts.errors} times; {limits.most_errors} stop it"
    ratio = limits.most_alert_ratio
    if ratio and _above(
        counts.alerts, counts.decided, counts.champion_alerts, counts.champion_decided, ratio
    ):
        return (
            f"{counts.alerts} of the {counts.decided} payments that it decided were stopped, "
            f"and {counts.champion_alerts} of {counts.champion_decided} of the champion's: more "
            f"than {ratio:g} times as many"
        )
    ratio = limits.most_degraded_ratio
    if ratio and _above(
        counts.degraded, counts.decided, counts.champion_degraded, counts.champion_decided, ratio
    ):
        return (
            f"{counts.degraded} of the {counts.decided} payments that it decided were degraded, "
            f"and {counts.champion_degraded} of {counts.champion_decided} of the champion's: more "
            f"than {ratio:g} times as many"
        )
    if counts.scored < max(limits.least_payments, 1):
        return None
    if limits.most_score_distance:
        distance = score_distance(counts)
        if distance > limits.most_score_distance:
            return (
                f"its probabilities lie {distance:.2f} from the champion's on the same "
                f"{counts.scored} payments (largest distance of the two distributions); the limit "
                f"is {limits.most_score_distance:g}"
            )
    if limits.most_scoring_us:
        took_us = counts.scoring_ns / counts.scored / 1_000
        if took_us > limits.most_scoring_us:
            return (
                f"its model takes {took_us:.0f} us for a payment; the limit is "
                f"{limits.most_scoring_us:g}"
            )
    return None


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a guardrail sees, and what it allows.

    Attributes:
        name: "alerts", "degraded", "errors", "score_distance" or "scoring_us".
        value: Of the experiment: a share of the payments that it decided, a number of failures, a
            distance from 0 to 1, or microseconds for a payment; None if nothing was seen.
        champion: The champion's share; None for what has none.
        limit: The value that stops the experiment, for shares as a multiple of the champion's; None
            if the guardrail is switched off.
        payments: That it was seen on.
    """

    name: str
    value: float | None
    champion: float | None
    limit: float | None
    payments: int


def readings(limits: Limits, counts: Counts) -> tuple[Reading, ...]:
    """What each guardrail sees.

    >>> from sentinel.experiments.lineup import Guardrails
    >>> seen = Counts(decided=50, alerts=5, champion_decided=100, champion_alerts=4)
    >>> one = readings(Guardrails(), seen)[0]
    >>> one.name, one.value, one.champion, one.limit
    ('alerts', 0.1, 0.04, 3.0)
    """

    def share(hits: int, n: int) -> float | None:
        return hits / n if n else None

    own, champion, scored = counts.decided, counts.champion_decided, counts.scored
    took_us = counts.scoring_ns / scored / 1_000 if scored else None
    said = (
        (
            "alerts",
            share(counts.alerts, own),
            share(counts.champion_alerts, champion),
            limits.most_alert_ratio,
            own,
        ),
        (
            "degraded",
            share(counts.degraded, own),
            share(counts.champion_degraded, champion),
            limits.most_degraded_ratio,
            own,
        ),
        ("errors", float(counts.errors), None, float(limits.most_errors), scored),
        (
            "score_distance",
            score_distance(counts) if scored else None,
            None,
            limits.most_score_distance,
            scored,
        ),
        ("scoring_us", took_us, None, limits.most_scoring_us, scored),
    )
    return tuple(
        Reading(name=name, value=value, champion=beside, limit=limit or None, payments=payments)
        for name, value, beside, limit, payments in said
    )


def score_distance(counts: Counts) -> float:
    """The largest distance of the two cumulative distributions, from 0 to 1."""
    own, champion = counts.probabilities, counts.champion_probabilities
    parts = [np.cumsum(side) / max(side.sum(), 1) for side in (own, champion)]
    return float(np.abs(parts[0] - parts[1]).max())


def _above(hits: int, n: int, champion_hits: int, champion_n: int, ratio: float) -> bool:
    """Whether a share is shown to be above ``ratio`` times the champion's."""
    if champion_n < LEAST_CHAMPION or n < LEAST_OWN or not hits:
        return False
    # The champion's share is itself an estimate: two standard errors and one alert are given.
    share = (champion_hits + 1) / champion_n
    most = ratio * (share + 2.0 * math.sqrt(share / champion_n))
    if most >= 1.0:
        return False
    gains = gains_above(np.array([0.0, 1.0]), np.ones(2), np.array([most]))
    return bool(log_capital(gains, np.array([[n - hits, hits]]))[0, 0] >= _PROOF)
