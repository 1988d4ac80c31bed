"""What an hour of the week usually looks like, and how far days stray from it.

**Expected shares.** Each hour of the week has a distribution of its own. Few payments of a small
segment fall into one hour of the week, so its counts are pulled towards the same hour of all days,
and those towards all hours, by as many pseudo-payments as the reference says: hours that differ by
no more than chance are pulled together, and where they differ much each keeps its own (empirical
Bayes with a Dirichlet prior whose concentration comes from the variance between hours).

**Variance.** Payments of an hour are no independent draws: one card pays several times, and all
features of a day move together when there is a match, a sale or a storm. Two numbers for each
question: ``phi``, how many times the variance within a day exceeds that of independent payments,
and ``tau2``, the variance between days of the log odds of its share.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.drift.questions import Questions, shares
from sentinel.features.jit import kernel

HOURS: Final = 168
"""Of a week."""

_MARGIN: Final = 1.4
"""How many times the estimated variance between days is assumed: it is an estimate of few days, and
days are not normal. Chosen on the benchmark's deployments with seeds 0 to 11."""
_POOLED_DAYS: Final = 20.0
"""Days that the variance of the whole column counts for, beside a question's own."""
_POOLED_HOURS: Final = 200.0
MOST_WITHIN: Final = 10.0
"""Times the variance of independent payments, within a day, at most."""
_CHANCE: Final = 1.2
"""Variance between hours, in that of independent payments, that is taken for chance."""

Shares = npt.NDArray[np.float32]
Counts = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]


class Spread(NamedTuple):
    """How far days stray; see the module's docstring.

    Attributes:
        phi: float32 (segments, questions), at least 1.
        tau2: float32 (segments, questions), in squared log odds.
    """

    phi: Shares
    tau2: Shares


def by_hour_of_week(hours: npt.NDArray[np.int64], counts: Counts) -> Counts:
    """Sum hours into hours of the week.

    Args:
        hours: int64 (n,), since 1970.
        counts: uint32 (n, segments, cells).

    Returns:
        uint32 (168, segments, cells).
    """
    total = np.zeros((HOURS, *counts.shape[1:]), np.uint32)
    for hour, added in zip(hours.tolist(), counts, strict=True):
        total[hour % HOURS] += added
    return total


def expected_shares(weekly: Counts, starts: npt.NDArray[np.int32]) -> Shares:
    """What each hour of the week is expected to look like.

    Args:
        weekly: uint32 (168, segments, cells), from `by_hour_of_week`.
        starts: First cell of each column, and the end; see `Bins`.

    Returns:
        float32 (168, segments, cells). Shares of a column's cells sum to one, none is zero.
    """
    out = np.empty(weekly.shape, np.float32)
    _expected(weekly, starts, out)
    return out


@kernel
def _expected(weekly: Counts, starts: npt.NDArray[np.int32], out: Shares) -> None:
    for segment in range(weekly.shape[1]):
        for column in range(len(starts) - 1):
            first, cells = starts[column], starts[column + 1] - starts[column]
            overall = np.zeros(cells)
            daily = np.zeros((24, cells))
            for hour in range(168):
                for cell in range(cells):
                    count = weekly[hour, segment, first + cell]
                    overall[cell] += count
                    daily[hour % 24, cell] += count
            total = overall.sum()
            overall = (overall + 0.5) / (total + 0.5 * cells)
            # Hours of the day, pulled towards all hours.
            strength = _strength(daily, np.repeat(overall, 24).reshape(cells, 24).T.copy())
            for hour in range(24):
                events = daily[hour].sum()
                for cell in range(cells):
                    daily[hour, cell] = (daily[hour, cell] + strength * overall[cell]) / (
                        events + strength
                    )
            # Hours of the week, pulled towards the same hour of all days.
            own = np.zeros((168, cells))
            towards = np.zeros((168, cells))
            for hour in range(168):
                for cell in range(cells):
                    own[hour, cell] = weekly[hour, segment, first + cell]
                    towards[hour, cell] = daily[hour % 24, cell]
            strength = _strength(own, towards)
            for hour in range(168):
                events = own[hour].sum()
                for cell in range(cells):
                    out[hour, segment, first + cell] = (
                        own[hour, cell] + strength * towards[hour, cell]
                    ) / (events + strength)


@kernel
def _strength(counts: npt.NDArray[np.float64], towards: npt.NDArray[np.float64]) -> float:
    """Pseudo-payments of the prior, by the variance of rows around ``towards`` beyond chance."""
    found, chance, squares, spread = 0.0, 0.0, 0.0, 0.0
    for row in range(counts.shape[0]):
        events = counts[row].sum()
        variance = 0.0
        for cell in range(counts.shape[1]):
            share = towards[row, cell]
            found += (counts[row, cell] - events * share) ** 2
            variance += share * (1 - share)
        chance += _CHANCE * events * variance
        squares += events * events
        spread += events * events * variance
    if found <= chance or squares == 0.0:
        return 1e9
    return min(max(spread / (found - chance), 1.0), 1e9)


def expected_answers(expected: Shares, asked: Questions) -> Shares:
    """Shares of questions by those of cells: float32 (168, segments, questions), each in (0, 1)."""
    found = np.empty((*expected.shape[:2], len(asked)), np.float32)
    for hour, cells in enumerate(expected):
        found[hour] = np.clip(shares(cells.astype(np.float64), asked), 1e-6, 1 - 1e-6)
    return found


def spread_of(
    hours: npt.NDArray[np.int64],
    counts: Counts,
    asked: Questions,
    starts: npt.NDArray[np.int32],
) -> Spread:
    """How far the days of a reference stray from what is expected of their hours.

    Every second week is held against what the other weeks let expect. So the errors of expected
    shares are in the spread.

    Args:
        hours: int64 (n,), rising, since 1970.
        counts: uint32 (n, segments, cells).
        asked: The questions.
        starts: First cell of each column, and the end.
    """
    even = hours // HOURS % 2 == 0
    whole = np.ones(len(hours), np.bool_)
    own = np.zeros((5, counts.shape[1], len(asked)))
    other = np.zeros_like(own)
    for judged, known, into in ((whole, whole, own), (even, ~even, other), (~even, even, other)):
        expected = expected_shares(by_hour_of_week(hours[known], counts[known]), starts)
        _sums(
            hours[judged],
            np.ascontiguousarray(counts[judged]),
            expected_answers(expected, asked),
            asked.low,
            asked.high,
            asked.starts,
            starts,
            into,
        )
    # Half of the weeks know the rhythm less well than all do, all weeks know their own too well.
    within, within_df = own[0] + other[0], own[1] + other[1]
    between, information, days = other[2:]
    column = np.repeat(np.arange(len(asked.starts) - 1), np.diff(asked.starts))

    def of_question(values: Floats) -> Floats:
        return np.asarray(values.sum(axis=0))

    def of_column(values: Floats) -> Floats:
        total = np.bincount(column, values.sum(axis=0), minlength=len(asked.starts) - 1)
        return np.asarray(total[column])

    phi_all = of_column(within) / np.maximum(of_column(within_df), 1.0)
    phi = (within + _POOLED_HOURS * phi_all) / (within_df + _POOLED_HOURS)
    phi = np.clip(phi, 1.0, MOST_WITHIN)
    # Errors of hours that cancel in a day are in `phi`; so no more than plain chance is taken off.
    excess = between - days
    # From all questions of the column to this one in all segments, to this one in this segment.
    tau2 = np.maximum(of_column(excess) / np.maximum(of_column(information), 1e-9), 0.0)
    for level in (of_question, lambda values: values):
        own = level(excess) / np.maximum(level(information), 1e-9)
        # A question whose days are mostly chance says little of its own variance.
        daily = level(information) / np.maximum(level(days), 1.0)
        clear = (
            tau2
            * daily
            / np.maximum(level(phi * days) / np.maximum(level(days), 1.0) + tau2 * daily, 1e-9)
        )
        weight = level(days) * clear**2
        tau2 = (weight * np.maximum(own, 0.0) + _POOLED_DAYS * tau2) / (weight + _POOLED_DAYS)
    return Spread(phi.astype(np.float32), (_MARGIN * tau2).astype(np.float32))


@kernel
def _sums(
    hours: npt.NDArray[np.int64],
    counts: Counts,
    expected: Shares,
    low: npt.NDArray[np.int32],
    high: npt.NDArray[np.int32],
    asked: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int32],
    sums: npt.NDArray[np.float64],
) -> None:
    segments, questions = counts.shape[1], len(low)
    residual = np.zeros(questions)
    variance = np.zeros(questions)
    pearson = np.zeros(questions)
    looked = np.zeros(questions)
    before = np.zeros(counts.shape[2] + 1)
    for segment in range(segments):
        residual[:], variance[:], pearson[:], looked[:] = 0.0, 0.0, 0.0, 0.0
        for at in range(len(hours)):
            for cell in range(counts.shape[2]):
                before[cell + 1] = before[cell] + counts[at, segment, cell]
            slot = hours[at] % 168
            for column in range(len(starts) - 1):
                events = before[starts[column + 1]] - before[starts[column]]
                if events == 0.0:
                    continue
                for question in range(asked[column], asked[column + 1]):
                    share = float(expected[slot, segment, question])
                    strays = before[high[question]] - before[low[question]] - events * share
                    chance = events * share * (1.0 - share)
                    residual[question] += strays
                    variance[question] += chance
                    if chance > 0.02:  # so rare that one payment would say anything
                        pearson[question] += strays * strays / chance
                        looked[question] += 1.0
            if at + 1 == len(hours) or hours[at + 1] // 24 != hours[at] // 24:
                for question in range(questions):
                    if variance[question] > 0.0:
                        square = residual[question] ** 2 / variance[question]
                        if looked[question] > 1.0:
                            sums[0, segment, question] += max(pearson[question] - square, 0.0)
                            sums[1, segment, question] += looked[question] - 1.0
                        sums[2, segment, question] += square
                        sums[3, segment, question] += variance[question]
                        sums[4, segment, question] += 1.0
                residual[:], variance[:], pearson[:], looked[:] = 0.0, 0.0, 0.0, 0.0
