"""Payments over time: who pays when, in what sprees, and what windows say of each payment.

All functions are pure and vectorised. Payments are in the order of the log: by time, then by row.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400


class Stream(NamedTuple):
    """Who acted when, in time order. All arrays are (n,).

    Attributes:
        key: int64, number of the entity (card, customer, receiving account ...).
        seconds: int64 since the start of the span, non-decreasing.
        spree: Whether the payment is one of a spree rather than of the everyday traffic.
    """

    key: Ints
    seconds: Ints
    spree: Flags


def stream(
    rng: np.random.Generator,
    rows: int,
    *,
    entities: int,
    days: float,
    spree_share: float,
    spree_rows: tuple[int, int],
    spree_seconds: float,
    unevenness: float = 0.7,
) -> Stream:
    """Everyday traffic of entities, and sprees of theirs within it.

    Args:
        rng: Randomness.
        rows: Payments in all.
        entities: How many there are.
        days: Length of the span.
        spree_share: Share of the payments that are part of a spree.
        spree_rows: Fewest and most payments of a spree.
        spree_seconds: Longest time from a spree's first payment to its last.
        unevenness: Standard deviation of the logarithm of how much each entity pays.
    """
    mean_rows = sum(spree_rows) / 2
    sprees = max(1, round(rows * spree_share / mean_rows))
    sizes = rng.integers(spree_rows[0], spree_rows[1] + 1, sprees)
    everyday = rows - int(sizes.sum())
    weight = rng.lognormal(0, unevenness, entities)
    chosen = rng.choice(entities, everyday, p=weight / weight.sum())
    whole_days = rng.integers(0, max(1, int(days)), everyday)
    hour = np.mod(rng.normal(14.5, 4.0, everyday), 24)
    usual = (whole_days + hour / 24) * DAY
    if days < 7:
        usual = rng.random(everyday) * days * DAY
    start = rng.random(sprees) * (days * DAY - spree_seconds)
    length = spree_seconds * rng.uniform(0.4, 1.0, sprees)
    which = np.repeat(np.arange(sprees), sizes)
    hasty = start[which] + rng.random(len(which)) * length[which]
    key = np.concatenate([chosen, rng.integers(0, entities, sprees)[which]])
    seconds = np.concatenate([usual, hasty]).astype(np.int64)
    spree = np.arange(rows) >= everyday
    order = np.argsort(seconds, kind="stable")
    return Stream(key[order], seconds[order], spree[order])


class Windows:
    """What the earlier payments of the same key say, within a window back from each payment.

    A payment at the same second that stands earlier counts, one exactly a window ago does, too.

    Args:
        key: int64 (n,).
        seconds: int64 (n,), non-decreasing.
    """

    def __init__(self, key: Ints, seconds: Ints) -> None:
        self._order = np.lexsort((np.arange(len(key)), seconds, key))
        _, dense = np.unique(key[self._order], return_inverse=True)
        self._span = int(seconds.max()) + 1 if len(seconds) else 1
        self._place = dense.astype(np.int64) * 2 * self._span + self._span + seconds[self._order]

    def _from(self, window: float) -> Ints:
        back = min(int(window), self._span)
        return np.searchsorted(self._place, self._place - back, side="left")

    def count(self, window: float) -> Ints:
        """How many there were: int64 (n,)."""
        counted = np.arange(len(self._place)) - self._from(window)
        return self._in_log_order(counted)

    def mean(self, values: Floats, window: float) -> Floats:
        """Mean of their values: float64 (n,), NaN without any."""
        running = np.concatenate([[0.0], np.cumsum(values[self._order])])
        first, now = self._from(window), np.arange(len(self._place))
        counted = now - first
        total = running[now] - running[first]
        mean = np.divide(total, counted, out=np.full(len(now), np.nan), where=counted > 0)
        return self._in_log_order(mean)

    def _in_log_order(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        result = np.empty_like(values)
        result[self._order] = values
        return result


def amounts(
    rng: np.random.Generator,
    key: Ints,
    *,
    typical: float,
    between: float = 1.0,
    within: float = 0.35,
    outliers: float = 0.02,
    times: tuple[float, float] = (6.0, 14.0),
) -> Floats:
    """Amounts that are usual for their key, and some that are far above it.

    Keys differ more from each other than the payments of one, so that an amount alone does not
    tell whether it is unusual.

    Args:
        rng: Randomness.
        key: int64 (n,), who pays.
        typical: Median over all keys.
        between, within: Standard deviations of the logarithm, of keys and of one key's payments.
        outliers: Share of payments that are far above what is usual.
        times: How far, as a factor.

    Returns:
        float64 (n,), two decimals.
    """
    usual = typical * rng.lognormal(0, between, int(key.max()) + 1)
    drawn = usual[key] * rng.lognormal(0, within, len(key))
    far = rng.random(len(key)) < outliers
    drawn[far] *= rng.uniform(*times, int(far.sum()))
    return np.round(np.maximum(drawn, 0.5), 2).astype(np.float64)


def unusual(windows: Windows, amount: Floats, *, factor: float = 4.0, days: float = 30) -> Flags:
    """Whether a payment is more than a factor above the mean of the days before, of at least 3."""
    with np.errstate(invalid="ignore"):
        far = amount > factor * windows.mean(amount, days * DAY)
    return far & (windows.count(days * DAY) >= 3)


def either(base: float, *chances: npt.NDArray[Any]) -> Floats:
    """The probability that at least one of independent causes makes a payment a fraud.

    >>> either(0.0, np.array([0.5]), np.array([0.5])).tolist()
    [0.75]
    """
    innocent = np.full(len(chances[0]), 1.0 - base)
    for chance in chances:
        innocent *= 1.0 - chance
    return 1.0 - innocent


def average_precision(fraud: Flags, score: Floats, *, rounds: int = 8) -> float:
    """Mean precision at each fraud of a ranking; equal scores in random order, the mean of some.

    A score with few different values, such as the true probability, is thereby measured like one
    that tells all payments apart. Equal scores taken together would count each fraud of a block
    with the precision at the block's end.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(rounds):
        mixed = rng.permutation(len(score))
        ranked = fraud[mixed][np.argsort(-score[mixed], kind="stable")]
        at = np.flatnonzero(ranked)
        found.append(float(np.mean(np.arange(1, len(at) + 1) / (at + 1))))
    return float(np.mean(found))
