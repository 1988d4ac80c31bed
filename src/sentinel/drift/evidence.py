"""Evidence that a share has moved: e-detectors, one for each question and size of a change.

Of ``n`` payments of an hour, ``x`` fall into a question's cells, where a share ``p`` was expected.
A bet on a shift of the log odds by ``d`` gains by the day's residual ``U = sum(x - n p)`` and pays
for the day's information ``I = sum(n p (1 - p))``. Its capital over a day is

    exp((d U - b I) / (phi + tau2 I))

where ``b`` makes the bet fair or worse for every expected share (the cumulant of a Bernoulli
variable, and at least ``d**2 / 2``), ``phi`` is the variance within a day and ``tau2`` the variance
between days (`sentinel.drift.rhythm`). For Gaussian days of these variances it is the likelihood
ratio of a moved share against days that stray by chance, so its expectation is at most one whatever
hour it is looked at: one day, however many its payments, can never be worth more than what a day of
chance allows. Real days are not Gaussian and their variances are estimates, so this holds about,
and not exactly; `sentinel.drift.rhythm` keeps a margin, and ``benchmarks drift`` measures it.

A change may begin in any hour. The Shiryaev-Roberts sum ``M`` over all hours at which it may have
begun follows ``M = L (M + 1)``, where ``L`` is what the capital grew by in this hour. With such a
capital, and without a change, ``M`` minus the hours so far has expectation at most zero, and so
does every average of such sums, however much they depend on each other. So the first hour at which
the average over all streams reaches ``A`` is expected after ``A`` hours or more: a setting of false
alarms a month, and no correction for the number of features (Shin, Ramdas and Rinaldo,
"E-detectors", 2023).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import kernel

SIZES: Final = (1.0, 2.0)
"""Changes that are bet on, in the smallest that is looked for; each upwards and downwards."""
BETS: Final = 2 * len(SIZES)
MOST: Final = 1e30
"""Evidence is cut here."""
_FARTHEST: Final = 3.0
"""Log odds of the largest shift."""
_ERRORS: Final = 8.0
"""A shift is at least so many standard errors of the reference's own share."""

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


def shifts(share: Floats, error: Floats, smallest: float) -> Floats:
    """The shifts of log odds that are bet on.

    Args:
        share: float64 (...), in (0, 1), of the reference.
        error: float64 (...), standard error of its log odds.
        smallest: Change of a share, in (0, 1).

    Returns:
        float64 (..., BETS); 0 where a share cannot move so far, or cannot be known well enough.

    >>> shifts(np.array([0.5]), np.array([0.0]), 0.05).round(2).tolist()
    [[0.2, 0.41, -0.2, -0.41]]
    """
    odds = np.log(share) - np.log1p(-share)
    found = []
    for sign in (1.0, -1.0):
        room = 1.0 - share if sign > 0 else share
        for size in SIZES:
            wanted = size * smallest
            moved = share + sign * np.minimum(wanted, 0.98 * room)
            shift = np.log(moved) - np.log1p(-moved) - odds
            far = sign * np.minimum(np.maximum(np.abs(shift), _ERRORS * error), _FARTHEST)
            found.append(np.where((wanted <= room) & (_ERRORS * error <= _FARTHEST), far, 0.0))
    return np.stack(found, axis=-1)


def prices(shift: Floats, least: Floats, most: Floats) -> Floats:
    """What each unit of information costs a bet: ``b`` of the module's docstring.

    The cumulant of a Bernoulli variable over its variance falls with the share for bets upwards,
    and rises for bets downwards, so the ends of a range of shares bound it.

    Args:
        shift: float64 (..., BETS).
        least, most: float64 (...): the smallest and the largest share that any hour expects.

    Returns:
        float64 (..., BETS), at least half the square of the shift.
    """
    share = np.where(shift > 0, least[..., None], most[..., None])
    cumulant = np.log1p(share * np.expm1(shift)) - shift * share
    return np.asarray(np.maximum(cumulant / (share * (1 - share)), shift**2 / 2))


@kernel
def grow(
    counts: npt.NDArray[np.uint32],
    starts: Ints,
    expected: Singles,
    low: Ints,
    high: Ints,
    asked: Ints,
    phi: Singles,
    tau2: Singles,
    shift: Singles,
    price: Singles,
    share_of_bet: Singles,
    residual: Floats,
    information: Floats,
    sums: Singles,
    evidence: Floats,
) -> None:
    """Bring the evidence of all streams from one hour to the next.

    Args:
        counts: uint32 (segments, cells), of the hour.
        starts: int32 (columns + 1,), first cells.
        expected: float32 (segments, questions), shares expected of this hour.
        low, high: int32 (questions,), their cells.
        asked: int32 (columns + 1,), first questions.
        phi, tau2: float32 (segments, questions).
        shift, price: float32 (segments, questions, BETS).
        share_of_bet: float32 (segments, questions, BETS): weight in the average of its stream; 0
            for bets that are not made, and for streams that are not tested.
        residual, information: float64 (segments, questions), of this day so far; changed.
        sums: float32 (segments, questions, BETS), the Shiryaev-Roberts sums; changed. Those of a
            column that no payment of the hour has stay as they are.
        evidence: float64 (segments, columns), the average sum of a stream; changed.
    """
    segments, cells = counts.shape
    bets = shift.shape[2]
    before = np.zeros(cells + 1)
    factors = np.zeros(len(low) * bets, np.float32)
    kept = np.zeros(len(low) * bets, np.float32)
    for segment in range(segments):
        for cell in range(cells):
            before[cell + 1] = before[cell] + counts[segment, cell]
        if before[cells] == 0.0:
            continue
        absent = 0
        for column in range(len(starts) - 1):
            events = before[starts[column + 1]] - before[starts[column]]
            if events == 0.0:
                absent += 1
                for question in range(asked[column], asked[column + 1]):
                    for bet in range(bets):
                        factors[question * bets + bet] = 0.0
                        kept[question * bets + bet] = sums[segment, question, bet]
                continue
            for question in range(asked[column], asked[column + 1]):
                share = float(expected[segment, question])
                old_u, old_i = residual[segment, question], information[segment, question]
                new_u = old_u + (before[high[question]] - before[low[question]] - events * share)
                new_i = old_i + events * share * (1.0 - share)
                residual[segment, question] = new_u
                information[segment, question] = new_i
                within, between = phi[segment, question], tau2[segment, question]
                old_scale = 1.0 / (within + between * old_i)
                new_scale = 1.0 / (within + between * new_i)
                gain = np.float32(new_u * new_scale - old_u * old_scale)
                cost = np.float32(new_i * new_scale - old_i * old_scale)
                at = question * bets
                for bet in range(bets):
                    power = shift[segment, question, bet] * gain
                    power -= price[segment, question, bet] * cost
                    factors[at + bet] = power
        sums_here = sums[segment].reshape(-1)
        shares_here = share_of_bet[segment].reshape(-1)
        _compound(factors, sums_here, shares_here)
        if absent > 0:
            for column in range(len(starts) - 1):
                if before[starts[column + 1]] == before[starts[column]]:
                    for at in range(asked[column] * bets, asked[column + 1] * bets):
                        sums_here[at] = kept[at]
        for column in range(len(starts) - 1):
            total = np.float32(0.0)
            for at in range(asked[column] * bets, asked[column + 1] * bets):
                total += sums_here[at] * shares_here[at]
            evidence[segment, column] = total


@kernel
def _compound(powers: Singles, sums: Singles, shares: Singles) -> None:
    """From M to L (M + 1), where L is the exponential of a power or a little less.

    (1 + x / 256) ** 256 is never above exp(x), so the bound on false alarms holds for it, too, and
    it takes eight products of which a processor does many at once.
    """
    one, small, most = np.float32(1.0), np.float32(1.0 / 256.0), np.float32(1e30)
    nothing = np.float32(0.0)
    for at in range(len(powers)):
        factor = max(one + powers[at] * small, nothing)
        factor *= factor
        factor *= factor
        factor *= factor
        factor *= factor
        factor *= factor
        factor *= factor
        factor *= factor
        factor *= factor
        grown = min(factor * (sums[at] + one), most)
        sums[at] = grown if shares[at] > nothing else nothing
