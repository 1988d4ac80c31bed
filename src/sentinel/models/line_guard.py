"""Two models at their lines: a candidate may rank as well as the reference and still decide worse.

Each figure is a share of weights, its error that of sums of influence by card. A candidate is held
to be worse at a figure if it lies beyond the margin by more than chance explains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.models.intervals import cluster_codes

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

LINE_MARGIN: Final = 0.10
"""Share by which precision of declines and money may be lower."""
ALERT_MARGIN: Final = 0.20
"""Share by which the alert rate may be higher."""

_Z95: Final = 1.645
_FEWEST: Final = 10


class LineFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of two models at their lines.

    Attributes:
        name: ``alert_rate``, ``decline_precision`` or ``money_caught``, all shares.
        candidate, reference: Of either.
        worse: Whether the candidate is worse by more than the margin, and by more than chance.
    """

    name: str
    candidate: float
    reference: float
    worse: bool

    def __str__(self) -> str:
        words = self.name.replace("_", " ")
        return f"{words} {self.candidate:.4g} instead of {self.reference:.4g}"


@dataclass(frozen=True, kw_only=True, eq=False)
class AtLines:
    """What a model's lines make of some rows.

    Attributes:
        alerted: bool (n_rows,), reviewed or declined.
        declined: bool (n_rows,).
    """

    alerted: Bools
    declined: Bools


def compare_at_lines(
    candidate: AtLines,
    reference: AtLines,
    *,
    fraud: Bools,
    amount_minor: npt.ArrayLike,
    card: npt.ArrayLike,
    weight: Floats | None = None,
) -> tuple[LineFigure, ...]:
    """Compare two models at their lines on the same rows.

    Args:
        candidate, reference: What their lines make of the rows.
        fraud: bool (n_rows,), the truth.
        amount_minor: int (n_rows,); negative amounts count 0.
        card: int (n_rows,), code of the card, negative = unknown.
        weight: float64 (n_rows,), what each row stands for; None if each is one.

    Returns:
        The figures that the rows are enough for: at least ten payments in each share.
    """
    cluster, n_clusters = cluster_codes(card)
    mass = np.ones(len(fraud)) if weight is None else weight
    money: Floats = np.maximum(np.asarray(amount_minor, dtype=np.float64), 0.0) * _numbers(fraud)
    everything: Floats = np.ones(len(fraud))
    shares: tuple[tuple[str, float, list[tuple[Floats, Floats]]], ...] = (
        (
            "alert_rate",
            ALERT_MARGIN,
            [(_numbers(one.alerted), everything) for one in (candidate, reference)],
        ),
        (
            "decline_precision",
            -LINE_MARGIN,
            [
                (_numbers(one.declined & fraud), _numbers(one.declined))
                for one in (candidate, reference)
            ],
        ),
        (
            "money_caught",
            -LINE_MARGIN,
            [(money * _numbers(one.alerted), money) for one in (candidate, reference)],
        ),
    )
    found = []
    for name, margin, pair in shares:
        if any(np.count_nonzero(whole) < _FEWEST for _, whole in pair):
            continue
        (new, new_influence), (old, old_influence) = (
            _share(part, whole, mass) for part, whole in pair
        )
        # Above 0 where the candidate is on the wrong side of the margin.
        sign = math.copysign(1.0, margin)
        beyond = sign * (new - (1.0 + margin) * old)
        by_card = np.bincount(
            cluster, weights=new_influence - (1.0 + margin) * old_influence, minlength=n_clusters
        )
        error = math.sqrt(float(by_card @ by_card))
        found.append(
            LineFigure(name=name, candidate=new, reference=old, worse=beyond > _Z95 * error)
        )
    return tuple(found)


def _share(part: Floats, whole: Floats, mass: Floats) -> tuple[float, Floats]:
    """A weighted share, and its derivative by the weight of each row, times that weight."""
    total = float(mass @ whole)
    share = float(mass @ part) / total
    return share, mass * (part - share * whole) / total


def _numbers(flags: Bools) -> Floats:
    return flags.astype(np.float64)
