"""Waits of a candidate at the gate, in worlds whose truth is known.

A card that was compromised has one or more frauds within a few days. Two models score each payment:
what they share, by payment and by card, makes their errors alike, as those of two models of one log
are. A candidate is worse in one of two ways: by a weaker signal of every fraud, or because it is
blind to some of the compromised cards. How much worse is set on the world itself, not on a draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.models.noninferiority import (
    NIGHTS,
    PairedScores,
    SequentialTest,
    State,
    frauds_needed,
)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

SIGNAL: Final = 2.8
"""Standard deviations that a fraud scores above a good payment, at the reference."""
CARD_SIGNAL: Final = 0.8
"""Standard deviation of that between compromised cards: some are easy to see."""
CARD_SHARE: Final = 0.4
"""Share of a score's variance that is the card's."""
FRAUD_ODDS: Final = 0.02
"""Frauds for each good payment."""
FRAUDS_OF_CARD: Final = 1.6
CARDS_FOR_ONE: Final = 1.3
"""Compromised cards that say as much as one effective fraud each needs, with some to spare."""
FIRST_SHARE: Final = 0.5
"""Share of the truth that has matured when the wait begins."""


@dataclass(frozen=True)
class Candidate:
    """How a candidate differs from the reference.

    Attributes:
        signal: Of its frauds, as `SIGNAL`.
        blind: Share of the compromised cards that score like good ones.
    """

    signal: float = SIGNAL
    blind: float = 0.0

    @classmethod
    def weaker(cls, loss: float) -> Candidate:
        """One whose average precision is lower by a share, as all frauds look weaker to it."""
        return cls(signal=_solve(lambda s: average_precision(cls(signal=s)), loss, 0.0, SIGNAL))

    @classmethod
    def blinded(cls, loss: float) -> Candidate:
        """One whose average precision is lower by a share, as it is blind to some cards."""
        return cls(blind=_solve(lambda b: average_precision(cls(blind=b)), loss, 1.0, 0.0))


@cache
def average_precision(model: Candidate) -> float:
    """Average precision of a model on the whole world, by quadrature."""
    score = np.linspace(-8.0, 14.0, 8001)
    spread = math.sqrt(1.0 + CARD_SIGNAL**2)
    good = _above(score)
    fraud = (1.0 - model.blind) * _above((score - model.signal) / spread) + model.blind * good
    precision = FRAUD_ODDS * fraud / (FRAUD_ODDS * fraud + good)
    return float((-np.diff(fraud) * 0.5 * (precision[1:] + precision[:-1])).sum())


def _above(z: Floats) -> Floats:
    return np.array([0.5 * math.erfc(one * math.sqrt(0.5)) for one in z])


def _solve(figure: Callable[[float], float], loss: float, low: float, high: float) -> float:
    """Where a figure that rises from ``low`` to ``high`` has lost a share of the reference's."""
    wanted = (1.0 - loss) * average_precision(Candidate())
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if figure(middle) < wanted else (low, middle)
    return 0.5 * (low + high)


@dataclass(frozen=True)
class Outcome:
    """How a wait ended.

    Attributes:
        state: Of the candidate.
        night: The last one.
        effective_frauds: By then.
        needed: Effective frauds that the gate asked for at its first look; 0 if it decided then.
        better: Whether it was shown to be better than the reference.
    """

    state: State
    night: int
    effective_frauds: float
    needed: float
    better: bool


def wait(
    random: np.random.Generator, candidate: Candidate, effective_frauds: int, likeness: float
) -> Outcome:
    """One candidate's wait, at most sixty nightly looks.

    Args:
        random: Source of the draw.
        candidate: What is judged.
        effective_frauds: What has matured by the last night, at least.
        likeness: Correlation of the two models' scores where there is no fraud.
    """
    fraud, card, night = payments(random, effective_frauds)
    new, old = scores(random, fraud, card, candidate, likeness)
    rows = PairedScores(fraud, new, old, card)
    known = np.bincount(night[fraud], minlength=NIGHTS).cumsum()
    test, needed, seen = SequentialTest(), 0.0, 0
    found = None
    for now in range(NIGHTS):
        # A look needs more information, and there is none without more frauds.
        if known[now] == 0 or (known[now] < 1.015 * seen and now < NIGHTS - 1):
            continue
        found, seen = rows.compare(night <= now), int(known[now])
        test.look(found, now)
        if test.state(now) != "waits":
            break
        needed = needed or frauds_needed(found)
    if found is None:
        raise ValueError("No fraud matured in the whole wait.")
    return Outcome(test.state(now), now, found.effective_frauds, needed, found.better)


def payments(random: np.random.Generator, effective_frauds: int) -> tuple[Bools, Ints, Ints]:
    """Truth, card and night of maturity of each payment: (n_rows,) each."""
    compromised = math.ceil(CARDS_FOR_ONE * effective_frauds)
    of_card = np.repeat(np.arange(compromised), 1 + random.poisson(FRAUDS_OF_CARD - 1, compromised))
    frauds, good = len(of_card), round(len(of_card) / FRAUD_ODDS)
    card = np.concatenate([of_card, compromised + random.integers(0, good // 15 + 1, good)])
    first = -FIRST_SHARE / (1.0 - FIRST_SHARE) * NIGHTS
    began = random.uniform(first, NIGHTS - 5, compromised)
    time = np.concatenate(
        [began[of_card] + random.exponential(1.5, frauds), random.uniform(first, NIGHTS, good)]
    )
    fraud = np.arange(frauds + good) < frauds
    return fraud, card, np.clip(np.ceil(time), 0, NIGHTS - 1).astype(np.int64)


def scores(
    random: np.random.Generator,
    fraud: Bools,
    card: Ints,
    candidate: Candidate,
    likeness: float,
) -> tuple[Floats, Floats]:
    """What candidate and reference say of each payment: float64 (n_rows,) each."""
    n, frauds, cards = len(fraud), int(fraud.sum()), int(card.max()) + 1
    compromised = int(card[:frauds].max()) + 1

    def noise() -> Floats:
        by_card = random.normal(size=cards)[card]
        alone = random.normal(size=n)
        return math.sqrt(CARD_SHARE) * by_card + math.sqrt(1.0 - CARD_SHARE) * alone

    shared = math.sqrt(likeness) * noise()
    strength = CARD_SIGNAL * random.normal(size=compromised)[card[:frauds]]
    seen = (random.random(compromised) >= candidate.blind)[card[:frauds]]
    new, old = (shared + math.sqrt(1.0 - likeness) * noise() for _ in range(2))
    new[:frauds] += seen * (candidate.signal + strength)
    old[:frauds] += SIGNAL + strength
    return new, old
