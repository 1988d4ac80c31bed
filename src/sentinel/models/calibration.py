"""From a raw score to a probability: a monotone map, kept as points of a piecewise-linear curve.

A map is fitted on rows the model has not seen, and stored as two float64 arrays, so that serving
needs nothing but `numpy.interp`. It is strictly increasing: it never changes a ranking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sentinel.models.weights import effective_size

Floats = npt.NDArray[np.float64]
Method = Literal["auto", "isotonic", "platt"]

ISOTONIC_FRAUDS: Final = 200
"""`auto` takes isotonic regression from so many frauds on, else Platt's two parameters. Where rows
have weights, the effective number of frauds counts."""

_PLATT_POINTS: Final = 513
_FLOOR: Final = 1e-9
_RISE: Final = 1e-12
_ROUNDING: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """A strictly increasing piecewise-linear map from raw score to probability.

    Attributes:
        x: float64 (n_points,), raw scores, strictly increasing.
        y: float64 (n_points,), probabilities inside (0, 1), strictly increasing.

    >>> Calibration(np.array([-1.0, 1.0]), np.array([0.1, 0.3])).apply_one(0.0)
    0.2
    """

    x: Floats
    y: Floats

    def __post_init__(self) -> None:
        rising = len(self.x) == len(self.y) >= 2
        rising = rising and bool((np.diff(self.x) > 0).all() and (np.diff(self.y) > 0).all())
        if not rising or self.y[0] <= 0.0 or self.y[-1] >= 1.0:
            raise ValueError(
                "A calibration needs two points (x, y) or more, both rising, with y inside (0, 1)."
            )

    def apply(self, raw: npt.ArrayLike) -> Floats:
        """Probabilities of raw scores: float64, the shape of ``raw``."""
        return np.asarray(np.interp(np.asarray(raw, dtype=np.float64), self.x, self.y))

    def apply_one(self, raw: float) -> float:
        """The probability of one raw score; the same bits as `apply`."""
        return float(np.interp(raw, self.x, self.y))

    def with_prior(self, fitted_rate: float, true_rate: float) -> Calibration:
        """This map for a population with another fraud rate, all else being equal.

        The odds are multiplied by the ratio of the two rates' odds (Saerens, Latinne and
        Decaestecker, 2002; for undersampled negatives Dal Pozzolo et al., 2015).

        Args:
            fitted_rate: Share of fraud among the rows the map was fitted on.
            true_rate: Share of fraud where it will be applied.
        """
        for rate in (fitted_rate, true_rate):
            if not 0.0 < rate < 1.0:
                raise ValueError(f"A fraud rate lies strictly between 0 and 1, not at {rate}.")
        factor = true_rate / (1.0 - true_rate) * (1.0 - fitted_rate) / fitted_rate
        # Odds bend between two points, so the curve gets more of them first.
        x = np.unique(np.concatenate([self.x, np.linspace(self.x[0], self.x[-1], _PLATT_POINTS)]))
        y = np.interp(x, self.x, self.y)
        return rising_curve(x, factor * y / (1.0 - y + factor * y))


def fit_calibration(
    raw: npt.ArrayLike,
    fraud: npt.ArrayLike,
    *,
    method: Method = "auto",
    weight: npt.ArrayLike | None = None,
) -> Calibration:
    """Fit a calibration on held-out rows.

    Args:
        raw: (n_rows,), raw scores.
        fraud: (n_rows,), 0 or 1.
        method: ``isotonic`` (pool adjacent violators; points at the blocks' mean scores),
            ``platt`` (a logistic curve with Platt's smoothed targets, 1999) or ``auto``.
        weight: (n_rows,), how many rows each stands for, where rows were sampled or the truth of
            others is hidden.

    Raises:
        ValueError: If there is no row of each class.
    """
    score = np.asarray(raw, dtype=np.float64)
    target = np.asarray(fraud, dtype=np.float64)
    mass = np.ones_like(score) if weight is None else np.asarray(weight, dtype=np.float64)
    frauds = int(np.count_nonzero(target > 0.5))
    if frauds == 0 or frauds == len(target):
        raise ValueError("Calibration needs rows of both classes.")
    if method == "auto":
        enough = effective_size(mass[target > 0.5]) >= ISOTONIC_FRAUDS - _ROUNDING
        method = "isotonic" if enough else "platt"
    if method == "platt":
        return _platt(score, target, mass)
    return _isotonic(score, target, mass)


def _isotonic(score: Floats, target: Floats, mass: Floats) -> Calibration:
    values, inverse = np.unique(score, return_inverse=True)
    n_rows: Floats = np.bincount(inverse, weights=mass).astype(np.float64)
    n_frauds: Floats = np.bincount(inverse, weights=mass * target).astype(np.float64)
    base = float(n_frauds.sum() / n_rows.sum())
    start = pool_adjacent(n_frauds, n_rows)
    rows = np.add.reduceat(n_rows, start)
    x = np.add.reduceat(n_rows * values, start) / rows
    # One row of the base rate, as heavy as those of the block, is added to each block, so that no
    # block claims certainty; this may put small blocks out of order, which a second pass mends.
    one = np.add.reduceat(np.bincount(inverse, weights=mass * mass), start) / rows
    frauds = np.add.reduceat(n_frauds, start) + base * one
    again = pool_adjacent(frauds, rows + one)
    x = np.add.reduceat(rows * x, again) / np.add.reduceat(rows, again)
    y = np.add.reduceat(frauds, again) / np.add.reduceat(rows + one, again)
    # Beyond the outermost blocks the odds go on changing, tenfold over one range of the scores.
    reach = max(float(values[-1] - values[0]), 1.0)
    x = np.concatenate([[x[0] - reach], x, [x[-1] + reach]])
    y = np.concatenate([[y[0] / 10.0], y, [1.0 - (1.0 - y[-1]) / 10.0]])
    return rising_curve(x, y)


def pool_adjacent(numerator: Floats, denominator: Floats) -> npt.NDArray[np.int64]:
    """Pool adjacent violators (Ayer et al., 1955): the coarsest blocks with rising ratios.

    Args:
        numerator: float64 (n,), say frauds by score.
        denominator: float64 (n,), above 0, say rows by score.

    Returns:
        int64 (n_blocks,), where each block starts; ratios rise strictly from block to block.

    >>> pool_adjacent(np.array([0.0, 1, 0, 1]), np.ones(4)).tolist()
    [0, 1, 3]
    """
    start: list[int] = []
    above: list[float] = []
    below: list[float] = []
    for i, (a, b) in enumerate(zip(numerator.tolist(), denominator.tolist(), strict=True)):
        first = i
        while start and above[-1] * b >= a * below[-1]:
            a += above.pop()
            b += below.pop()
            first = start.pop()
        start.append(first)
        above.append(a)
        below.append(b)
    return np.array(start, dtype=np.int64)


def _platt(score: Floats, target: Floats, mass: Floats) -> Calibration:
    n_frauds = float((mass * target).sum())
    n_rest = float(mass.sum()) - n_frauds
    own, others = effective_size(mass[target > 0.5]), effective_size(mass[target <= 0.5])
    smooth = np.where(target > 0.5, (own + 1.0) / (own + 2.0), 1.0 / (others + 2.0))
    centre, spread = float(score.mean()), float(score.std())
    if spread <= _FLOOR * max(1.0, abs(centre)):  # one score for all, but for rounding
        spread = 1.0
    z = (score - centre) / spread
    slope, level = _newton(z, smooth, mass, np.log(n_frauds / n_rest))
    # A model that ranks the wrong way round is not turned over here; it gets an almost flat curve.
    slope = max(slope, 1e-3)
    reach = 0.5 * max(float(z.max() - z.min()), 1.0)
    grid = np.linspace(z.min() - reach, z.max() + reach, _PLATT_POINTS)
    return rising_curve(centre + spread * grid, 1.0 / (1.0 + np.exp(-(slope * grid + level))))


def _newton(z: Floats, target: Floats, mass: Floats, level: float) -> tuple[float, float]:
    """Slope and level of a weighted logistic regression, by damped Newton steps."""
    design = np.stack([z, np.ones_like(z)])
    parameters = np.array([0.0, level])

    def loss(p: Floats) -> float:
        margin = p @ design
        return float((mass * (np.logaddexp(0.0, margin) - target * margin)).sum())

    current = loss(parameters)
    for _ in range(100):
        fitted = 1.0 / (1.0 + np.exp(-(parameters @ design)))
        gradient = design @ (mass * (fitted - target))
        curvature = (design * (mass * fitted * (1.0 - fitted))) @ design.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-6 and loss(parameters - size * step) > current:
            size *= 0.5
        parameters = parameters - size * step
        before, current = current, loss(parameters)
        if before - current < 1e-10 * (1.0 + abs(current)):
            break
    return float(parameters[0]), float(parameters[1])


def rising_curve(x: Floats, y: Floats) -> Calibration:
    """A calibration from nearly rising points: equal neighbours are told apart by a hair."""
    keep = np.concatenate([[True], np.diff(x) > 0])
    x, y = x[keep], np.clip(y[keep], _FLOOR, 1.0 - 2.0 * _FLOOR)
    ramp = _RISE * np.arange(len(y))
    return Calibration(x=x, y=np.maximum.accumulate(y) + ramp)
