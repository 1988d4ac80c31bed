"""Which of two models catches more fraud, judged on the frauds that only one of them would stop.

Both models score every payment of an experiment; a draw by card says which of them decides. Where
they agree they differ in nothing. Where one would alert and the other would not, the truth comes
out only if the one that would not alert decided, for a payment that is stopped brings no
chargeback:

- a fraud that *only the champion catches* is seen where the challenger decided, with the
  probability ``share``, and stands for ``1 / share`` of them;
- a fraud that *only the challenger catches* is seen where the champion decided, and stands for
  ``1 / (1 - share)``;
- where only a control group lets it pass, its propensity multiplies
  (`sentinel.experiments.observed` leaves such payments out).

The figure that is judged is the challenger's part of all frauds that only one of the two catches:
one half if both are worth the same. `sentinel.experiments.confidence` bets for and against one
half, so that a look costs nothing and the chance to ever promote a challenger that is no better is
``alpha / 2``. No bet is settled before both sides have ``least_side`` frauds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.experiments.confidence import (
    CANDIDATES,
    Interval,
    gains_above,
    gains_below,
    log_capital,
    not_excluded,
)

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

_EVEN: Final = np.array([0.5])
_OPTIMISM: Final = 3.0
"""Standard errors that are added to what was seen before an experiment is called futile. Futility
is looked at daily, too: with fewer, a run of bad luck stops a fifth of the better challengers."""


class Verdict(IntEnum):
    """What is to be done with a challenger."""

    WAIT = 0
    """Too little is known."""
    PROMOTE = 1
    """It catches more fraud at the same number of alerts."""
    KEEP = 2
    """It catches less: the champion stays."""
    STOP = 3
    """The time that an experiment may take will not be enough to tell."""


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an experiment is decided.

    Attributes:
        alpha: Chance that the interval ever misses the truth; half of it is the chance that a
            challenger that is no better is ever promoted.
        least_side: Frauds that only the champion caught, and that only the challenger caught, that
            must have been seen before anything is promoted.
        most_days: Days of matured payments after which an experiment is futile.
    """

    alpha: float = 0.05
    least_side: int = 20
    most_days: int = 180


@dataclass(frozen=True, eq=False)
class Kinds:
    """Kinds of frauds that one model catches and the other misses: (kinds,) each.

    Attributes:
        challenger: bool: only the challenger catches it.
        share: float64 in (0, 1): the challenger's share of decisions when it was paid.
        propensity: float64 in (0, 1]: chance that a payment that the decider let pass was let
            through: 1 unless it is there by the control group.
    """

    challenger: npt.NDArray[np.bool_]
    share: Floats
    propensity: Floats

    @property
    def weights(self) -> Floats:
        """float64 (kinds,): how many frauds one that was seen stands for."""
        seen = np.where(self.challenger, 1.0 - self.share, self.share)
        return np.asarray(1.0 / (seen * self.propensity), np.float64)

    def gains_better(self, parts: Floats = _EVEN) -> Floats:
        """float64 (kinds, k): gains of bets that the challenger's part is above ``parts`` (k,).

        The stake is known before anyone knows who decides: it follows from the share alone, so
        that the hours of a canary at one percent do not shrink the bets of later weeks.
        """
        return gains_above(self.challenger.astype(np.float64), self.weights * self.share, parts)

    def gains_worse(self, parts: Floats = _EVEN) -> Floats:
        """As `gains_better`, of bets that the challenger's part is below."""
        weights = self.weights * (1.0 - self.share)
        return gains_below(self.challenger.astype(np.float64), weights, parts)


def kinds_of(share: float) -> Kinds:
    """The two kinds of an experiment with one share and no control group: champion's, challenger's.

    >>> kinds_of(0.1).weights.round(2).tolist()
    [10.0, 1.11]
    """
    return Kinds(
        challenger=np.array([False, True]),
        share=np.array([share, share]),
        propensity=np.ones(2),
    )


def verdicts(kinds: Kinds, counts: Counts, days: Floats, rules: Rules) -> npt.NDArray[np.int8]:
    """The verdict at each look.

    Args:
        kinds: (kinds,).
        counts: int64 (..., kinds): frauds of each kind that were seen until the look.
        days: float64 (...): days of matured payments until the look; broadcast.
        rules: When it is decided.

    Returns:
        int8 (...): values of `Verdict`.

    >>> seen, days = np.array([[4, 9], [56, 98], [98, 56], [400, 404]]), np.array([3, 35, 35, 170])
    >>> [Verdict(v).name for v in verdicts(kinds_of(0.5), seen, days, Rules())]
    ['WAIT', 'PROMOTE', 'KEEP', 'STOP']
    """
    counts = np.asarray(counts)
    enough = math.log(2.0 / rules.alpha)
    champion, challenger = sides(kinds, counts)
    better = log_capital(kinds.gains_better(), counts)[..., 0] >= enough
    worse = log_capital(kinds.gains_worse(), counts)[..., 0] >= enough
    promote = better & (np.minimum(champion, challenger) >= rules.least_side)
    keep = worse & (champion >= rules.least_side)
    found = np.full(champion.shape, Verdict.WAIT, dtype=np.int8)
    found[futile(kinds, counts, days, rules)] = Verdict.STOP
    found[keep] = Verdict.KEEP
    found[promote] = Verdict.PROMOTE
    return found


def sides(kinds: Kinds, counts: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
    """Frauds seen that only the champion caught, and only the challenger: (...) each."""
    numbers = np.asarray(counts, np.float64)
    return (
        numbers[..., ~kinds.challenger].sum(axis=-1),
        numbers[..., kinds.challenger].sum(axis=-1),
    )


def futile(kinds: Kinds, counts: Counts, days: Floats, rules: Rules) -> npt.NDArray[np.bool_]:
    """Whether a promotion is out of reach within ``most_days``, at each look.

    What was seen is carried on to the last day as if luck had been against the challenger so far:
    by three standard errors in the challenger's part, and in how many are seen a day. Stopping for
    this reason can only lower the chance of a wrong promotion.
    """
    champion, challenger = sides(kinds, counts)
    days = np.broadcast_to(np.asarray(days, np.float64), champion.shape)
    left = np.maximum(rules.most_days - days, 0.0) / np.maximum(days, 1.0)

    seen = champion + challenger
    part = (challenger + 1.0) / (seen + 2.0)
    high = np.minimum(part + _OPTIMISM * np.sqrt(part * (1.0 - part) / (seen + 3.0)), 0.999)
    coming = _more(seen) * left
    final = np.asarray(counts, np.float64) + _spread(counts, kinds, coming, high)
    too_even = log_capital(kinds.gains_better(), final)[..., 0] < math.log(2.0 / rules.alpha)

    fewer = np.minimum(champion, challenger)
    too_few = fewer + _more(fewer) * left < rules.least_side
    return np.asarray(too_even | too_few | (days >= rules.most_days), np.bool_)


def _more(count: Floats) -> Floats:
    """A count as it may be with more luck."""
    return np.asarray(count + _OPTIMISM * np.sqrt(count) + 1.0, np.float64)


def _spread(counts: npt.NDArray[np.generic], kinds: Kinds, coming: Floats, part: Floats) -> Floats:
    """Frauds that are to come, (...), over kinds as those that were seen: (..., kinds).

    Where a side has none yet, what comes of it is spread evenly over its kinds.
    """
    numbers = np.asarray(counts, np.float64)
    spread = np.empty_like(numbers)
    for side, of_side in ((kinds.challenger, part), (~kinds.challenger, 1.0 - part)):
        if not side.any():
            continue
        now = numbers[..., side]
        total = now.sum(axis=-1, keepdims=True)
        within = np.where(total > 0, now / np.maximum(total, 1.0), 1.0 / side.sum())
        spread[..., side] = within * (coming * of_side)[..., None]
    return spread


def days_missing(kinds: Kinds, counts: Counts, days: float, rules: Rules) -> float:
    """Days of matured payments until a promotion, if all goes on as it was seen until now.

    Args:
        counts: int64 (kinds,).
        days: Days of matured payments until now.

    Returns:
        Days; infinity if not within ten times ``most_days``.

    >>> days_missing(kinds_of(0.5), np.array([16, 28]), 10.0, Rules())
    20.0
    """
    numbers = np.asarray(counts, np.float64)
    ahead = np.arange(10.0 * rules.most_days)
    champion, challenger = sides(kinds, counts)
    seen = champion + challenger
    if days <= 0 or seen <= 0:
        return math.inf
    part = np.full(len(ahead), challenger / seen)
    final = numbers + _spread(
        np.broadcast_to(numbers, (len(ahead), len(numbers))), kinds, seen / days * ahead, part
    )
    reached = log_capital(kinds.gains_better(), final)[..., 0] >= math.log(2.0 / rules.alpha)
    reached &= np.minimum(*sides(kinds, final)) >= rules.least_side
    return float(ahead[reached.argmax()]) if reached.any() else math.inf


def part_interval(kinds: Kinds, counts: Counts, rules: Rules) -> Interval:
    """Interval of the challenger's part of the frauds that only one catches, at each look.

    Args:
        counts: int64 (looks, kinds).

    Returns:
        (looks,) each; one half means that both are worth the same.

    >>> low, high = part_interval(kinds_of(0.5), np.array([[56, 98]]), Rules())
    >>> bool(0.5 < low[0] < 0.64 < high[0] < 0.76)
    True
    """
    return not_excluded(
        kinds.gains_better(CANDIDATES), kinds.gains_worse(CANDIDATES), counts, rules.alpha
    )


def part_estimate(kinds: Kinds, counts: Counts) -> Floats:
    """The challenger's part by weight, at each look: (...); NaN where nothing was seen.

    >>> part_estimate(kinds_of(0.1), np.array([[2, 18]])).tolist()
    [0.5]
    """
    weighted = np.asarray(counts, np.float64) * kinds.weights
    total = weighted.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(weighted[..., kinds.challenger].sum(axis=-1) / total, np.float64)
