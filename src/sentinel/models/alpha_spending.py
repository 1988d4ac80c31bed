"""How much evidence a look needs when there are many looks: alpha spending.

A test that is repeated every night passes by chance sooner or later. Here the error that all looks
may make together is spent little by little, as the information grows (Lan and DeMets, 1983): next
to nothing while little is known, most of it at the end (after O'Brien and Fleming, 1979). How often
one looks, and when, may depend on anything but the outcome.

Under the hypothesis that is to be rejected, the score of a test, ``z sqrt(information)``, is a
Brownian motion on the scale of information. Its density below the bounds so far is carried from
look to look (Armitage, McPherson and Rowe, 1969), and each bound is where the right share of it
lies above.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import kernel

Floats = npt.NDArray[np.float64]

POINTS: Final = 301
"""Of the grid on which the density is kept."""
REACH: Final = 5.5
"""How many standard deviations below zero it begins."""
LEAST: Final = 1e-6
"""A look that may err less often than that is none."""

_HALF: Final = math.sqrt(0.5)


def spent_by(fraction: float, alpha: float) -> float:
    """The error that may be made until a fraction of the information is there.

    Lan and DeMets' function after O'Brien and Fleming, one-sided.

    >>> round(spent_by(0.5, 0.05), 4), spent_by(1.0, 0.05), spent_by(0.0, 0.05)
    (0.0056, 0.05, 0.0)
    """
    if fraction >= 1.0:
        return alpha
    if fraction <= 0.0:
        return 0.0
    normal = NormalDist()
    at = normal.inv_cdf(1.0 - alpha / 2.0) / math.sqrt(fraction)
    return 2.0 * (1.0 - normal.cdf(at))


class SpendingBounds:
    """The bounds of successive looks.

    Attributes:
        information: At the last look; 0.0 before the first.
        spent: The error that the looks so far may make together.
    """

    def __init__(self) -> None:
        self.information = 0.0
        self.spent = 0.0
        self._points = np.zeros(1)
        self._mass = np.ones(1)

    def look(self, information: float, spent: float) -> float:
        """The z from which on the next look rejects, given that none has before.

        Args:
            information: Then, above that of the last look; one over the variance of the estimate.
            spent: The error that all looks up to this one may make.

        Returns:
            The bound; infinite where too little may be spent to look at all.

        Raises:
            ValueError: There is no more information than at the last look.
        """
        if not information > self.information:
            raise ValueError("A look needs more information than the one before.")
        share = spent - self.spent
        if share < LEAST:
            return math.inf
        spread = math.sqrt(information - self.information)
        bound = _bound(self._points, self._mass, spread, share, 8.0 * math.sqrt(information))
        low = -REACH * math.sqrt(information)
        points = np.linspace(low, max(bound, low + 1e-9), POINTS)
        mass = np.empty(POINTS)
        _carry(self._points, self._mass, spread, points, mass)
        self._points, self._mass = points, mass
        self.information, self.spent = information, spent
        return float(bound / math.sqrt(information))


@kernel
def _bound(points: Floats, mass: Floats, spread: float, share: float, most: float) -> float:
    """Where so much of the mass lies above, one step of a Brownian motion later."""
    low, high = -most, most
    for _ in range(50):
        middle = 0.5 * (low + high)
        above = 0.0
        for i in range(len(points)):
            distance = (middle - points[i]) / spread
            if distance < 8.0:
                above += mass[i] * 0.5 * math.erfc(distance * _HALF)
        if above > share:
            low = middle
        else:
            high = middle
    return high


@kernel
def _carry(points: Floats, mass: Floats, spread: float, to: Floats, out: Floats) -> None:
    """The mass at new grid points after one step, trapezoid weights included."""
    step = to[1] - to[0]
    scale = step / (spread * math.sqrt(2.0 * math.pi))
    for j in range(len(to)):
        density = 0.0
        for i in range(len(points)):
            distance = (to[j] - points[i]) / spread
            if -7.0 < distance < 7.0:
                density += mass[i] * math.exp(-0.5 * distance * distance)
        out[j] = density * scale
    out[0] *= 0.5
    out[len(to) - 1] *= 0.5
