"""Worlds of payments for the benchmark of drift: counts of hours, with nothing or something moved.

A world is a deployment: 118 columns in 10 segments (all payments and nine parts of them), with a
rhythm of the day and of the week, growth, days on which all features stray together, hours that
stray, too, and reference payments of the weeks before. Counts are drawn as Poisson variables of
each cell, which given the payments of an hour is the multinomial distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import Bins, ColumnBins
from sentinel.drift.segments import Segment
from sentinel.features.jit import kernel

COLUMNS: Final = 118
PARTS: Final = np.array([0.30, 0.20, 0.15, 0.10, 0.08, 0.06, 0.05, 0.04, 0.02])
"""Shares of the payments; the first segment is all of them."""
FIRST_HOUR: Final = 168 * 2860
PAYMENTS_A_DAY: Final = 10_000
GROWTH_A_DAY: Final = 0.004
DAY_STRAY: Final = (0.01, 0.06)
"""Standard deviation of a column's log odds between days: the least and the most."""
HOUR_STRAY: Final = 0.02

Counts = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class World:
    """What a deployment's payments are drawn from.

    Attributes:
        bins: Its columns.
        rates: float32 (168, 9, cells): shares by hour of the week.
        position: float64 (cells,): where a cell lies in its column, with variance one.
        stray: float64 (columns,): standard deviation of days.
        column: int32 (cells,): of each cell.
    """

    bins: Bins
    rates: npt.NDArray[np.float32]
    position: Floats
    stray: Floats
    column: npt.NDArray[np.int32]

    @property
    def segments(self) -> tuple[Segment, ...]:
        return (
            Segment("all payments"),
            *(Segment(f"part {n + 1}", "part", codes=(float(n),)) for n in range(len(PARTS))),
        )


def make_world(rng: np.random.Generator) -> World:
    """Draw a deployment."""
    columns = []
    for at in range(COLUMNS):
        kind = at % 6
        if kind == 0:  # yes or no
            columns.append(ColumnBins(f"flag_{at}", "number", (1.0,)))
        elif kind == 1:  # a category
            codes = int(rng.integers(3, 25))
            values = tuple(float(code) for code in range(1, codes + 1))
            columns.append(ColumnBins(f"category_{at}", "category", values))
        elif kind in (2, 3):  # counts
            edges = int(rng.integers(3, 9))
            columns.append(
                ColumnBins(f"count_{at}", "number", tuple(map(float, range(1, edges + 1))))
            )
        else:
            columns.append(ColumnBins(f"number_{at}", "number", tuple(map(float, range(1, 16)))))
    columns[-1] = ColumnBins("score", "number", tuple(np.linspace(0.01, 0.9, 15).tolist()))
    bins = Bins(tuple(columns))
    cells = bins.cells
    hour = np.arange(168)
    weekend = (hour // 24 >= 5).astype(np.float64)
    rates = np.empty((168, len(PARTS), cells), np.float32)
    position = np.zeros(cells)
    of_column = np.empty(cells, np.int32)
    for at, column in enumerate(bins.columns):
        first, last = int(bins.starts[at]), int(bins.starts[at + 1])
        of_column[first:last] = at
        known = last - first - 1
        usual: Floats
        if column.kind == "category":
            shares = np.sort(rng.dirichlet(np.full(known - 1, 0.6)) + 1e-3)[::-1]
            usual = np.concatenate(([0.0005], shares))
        elif known <= 2:
            share = rng.uniform(0.03, 0.5)
            usual = np.array([1 - share, share])[:known]
        elif column.name.startswith("count"):
            usual = np.asarray(0.6 ** np.arange(known) + 0.02, np.float64)
        else:
            usual = rng.dirichlet(np.full(known, 20.0))
        missing = rng.uniform(0.02, 0.4) if rng.random() < 0.3 else 0.0005
        usual = np.concatenate(([missing], usual / usual.sum() * (1 - missing)))
        place = np.arange(last - first, dtype=np.float64)
        place -= usual @ place
        place /= max(float(np.sqrt(usual @ place**2)), 1e-9)
        place = np.clip(place, -3, 3)
        position[first:last] = place
        swing = rng.uniform(0, 0.4)
        phase = rng.uniform(0, 2 * np.pi)
        weekly = rng.normal(0, 0.15)
        tilt = swing * np.sin(2 * np.pi * (hour % 24) / 24 + phase) + weekly * weekend
        for part in range(len(PARTS)):
            own = rng.normal(0, 0.3)
            shape = usual * np.exp(own * place + tilt[:, None] * place)
            rates[:, part, first:last] = shape / shape.sum(axis=1, keepdims=True)
    stray = np.exp(rng.uniform(np.log(DAY_STRAY[0]), np.log(DAY_STRAY[1]), COLUMNS))
    return World(bins, rates, position, stray, of_column)


@dataclass(eq=False)
class Drawing:
    """Draws a world's hours one day after the other.

    Attributes:
        world: Of what.
        rng: Of the days; the counts come from generators of their own.
        day: The next one.
        tails: Degrees of freedom of the days' straying; infinite: normal.
        memory: How much of a day's straying the next one keeps.
    """

    world: World
    rng: np.random.Generator
    day: int = 0
    tails: float = np.inf
    memory: float = 0.0

    def __post_init__(self) -> None:
        self._last: Floats | None = None
        self._bits = self.rng.integers(1, 2**63, 2, dtype=np.uint64)

    def next_day(self, moved: npt.NDArray[np.float64] | None = None) -> tuple[int, Counts]:
        """A day's hours: the first one's number, and uint32 (24, 10, cells).

        Args:
            moved: float64 (24, 9, cells): factors on shares; None if nothing is.
        """
        world, rng = self.world, self.rng
        parts, columns = len(PARTS), COLUMNS
        draws = rng.standard_normal if np.isinf(self.tails) else self._heavy
        together, own = draws(1), draws(columns)
        segment = draws((parts, columns))
        stray = 0.6 * together + 0.7 * own + 0.4 * segment
        if self.memory and self._last is not None:
            stray = self.memory * self._last + np.sqrt(1 - self.memory**2) * stray
        self._last = stray
        stray = stray * world.stray
        days = np.exp(stray[:, world.column] * world.position)
        hour_stray = HOUR_STRAY * (
            0.6 * rng.standard_normal((24, 1)) + 0.8 * rng.standard_normal((24, columns))
        )
        hours = np.arange(24)
        daily = 1 + 0.8 * np.sin(2 * np.pi * (hours - 8) / 24)
        weekday = 1.0 if self.day % 7 < 5 else 0.75
        total = PAYMENTS_A_DAY * (1 + GROWTH_A_DAY * self.day) * weekday
        total *= np.exp(0.1 * float(rng.standard_normal()))
        payments = total * (daily / daily.sum())[:, None] * PARTS
        counts = np.zeros((24, parts + 1, world.bins.cells), np.uint32)
        slots = (self.day % 7) * 24 + hours
        _draw(
            world.rates,
            slots.astype(np.int64),
            days,
            hour_stray,
            world.column,
            world.position,
            payments,
            np.ones((1, 1, 1)) if moved is None else moved,
            self._bits,
            counts,
        )
        first = FIRST_HOUR + self.day * 24
        self.day += 1
        return first, counts

    def _heavy(self, shape: int | tuple[int, int]) -> Floats:
        drawn = self.rng.standard_t(self.tails, shape)
        return np.asarray(drawn / np.sqrt(self.tails / (self.tails - 2)))


@kernel
def _draw(
    rates: npt.NDArray[np.float32],
    slots: npt.NDArray[np.int64],
    days: Floats,
    hour_stray: Floats,
    column: npt.NDArray[np.int32],
    position: Floats,
    payments: Floats,
    moved: Floats,
    bits: npt.NDArray[np.uint64],
    counts: Counts,
) -> None:
    is_moved = moved.shape[0] > 1
    s0, s1 = bits[0], bits[1]
    inverse = np.zeros(81)
    for count in range(1, 81):
        inverse[count] = 1.0 / count
    for hour in range(24):
        for part in range(payments.shape[1]):
            for cell in range(rates.shape[2]):
                rate = (
                    payments[hour, part]
                    * rates[slots[hour], part, cell]
                    * days[part, cell]
                    * (1.0 + hour_stray[hour, column[cell]] * position[cell])
                )
                if is_moved:
                    rate *= moved[hour, part, cell]
                # xoroshiro128+, for a uniform number
                x, y = s0, s1
                drawn = x + y
                y ^= x
                s0 = ((x << np.uint64(24)) | (x >> np.uint64(40))) ^ y ^ (y << np.uint64(16))
                s1 = (y << np.uint64(37)) | (y >> np.uint64(27))
                uniform = float(drawn >> np.uint64(11)) * (1.0 / 9007199254740992.0)
                if rate < 12.0:
                    # The distribution function, walked up.
                    chance = np.exp(-rate)
                    below, count = chance, 0
                    while uniform > below and count < 80:
                        count += 1
                        chance *= rate * inverse[count]
                        below += chance
                else:
                    # A sum of uniform numbers would do for the middle; the tails want a normal.
                    x, y = s0, s1
                    drawn = x + y
                    y ^= x
                    s0 = ((x << np.uint64(24)) | (x >> np.uint64(40))) ^ y ^ (y << np.uint64(16))
                    s1 = (y << np.uint64(37)) | (y >> np.uint64(27))
                    other = float(drawn >> np.uint64(11)) * (1.0 / 9007199254740992.0)
                    z = np.sqrt(-2.0 * np.log(1.0 - uniform)) * np.cos(6.283185307179586 * other)
                    # Cornish and Fisher's correction for the skewness.
                    value = rate + np.sqrt(rate) * z + (z * z - 1.0) / 6.0
                    count = int(np.floor(max(value, 0.0) + 0.5))
                counts[hour, part + 1, cell] = count
                counts[hour, 0, cell] += count
    bits[0], bits[1] = s0, s1
