"""Which features move the score: recent payments scored again with one feature put back.

A feature is put back by its ranks. A value that is at some share of recent payments becomes the
value that was at the same share of the reference, by its histogram (the map of optimal transport
on the line); a category's code is drawn anew where it has become too frequent. Ranks stay, so what
a feature has to do with the others stays, too. How far the mean score falls back is what the
feature's change adds to it. Features act together, so shares need not add up to one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import Bins, ColumnBins
from sentinel.drift.distances import normalized

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Score = Callable[[Matrix], npt.ArrayLike]

LEAST_MOVE: Final = 1e-9


def put_back(
    values: Matrix, column: ColumnBins, was: npt.ArrayLike, random: np.random.Generator
) -> Matrix:
    """Recent values of a feature as the reference distributes them.

    Args:
        values: float32 (n,), NaN = unknown.
        column: Its cells.
        was: (cells,), payments of the reference in each cell.
        random: Breaks ties, and draws codes.
    """
    wanted = normalized(np.asarray(was, np.float64))
    n = len(values)
    # Random order within equal values: a value that many share may become several.
    order = np.lexsort((random.random(n), np.where(np.isnan(values), -np.inf, values)))
    if column.kind == "category":
        return _codes_back(values, column, wanted, random)
    ends = np.round(np.cumsum(wanted) * n).astype(np.int64)
    out = values.copy()
    start = 0
    for cell, end in enumerate(ends.tolist()):
        rows = order[start:end]
        start = end
        if not len(rows):
            continue
        if cell == 0:
            out[rows] = np.nan
            continue
        low, high = _edges(column, cell, values)
        inside = values[rows]
        stay = (inside >= low) & (inside < high)
        place = (np.arange(len(rows)) + 0.5) / len(rows)
        spread = np.asarray(low + place * (high - low), np.float32)
        out[rows] = np.where(stay, inside, spread)
    return out


def moved_scores(
    vectors: Matrix,
    bins: Bins,
    was: npt.ArrayLike,
    features: Sequence[str],
    score: Score,
    *,
    seed: int = 0,
) -> dict[str, float]:
    """How much higher the mean score is by the change of each feature.

    Args:
        vectors: float32 (n, n_features), of recent payments, in the order of the bins.
        bins: Of the features and the score.
        was: (cells,), payments of the reference.
        features: To put back.
        score: Scores vectors.
        seed: Of the draws.
    """
    before = float(np.mean(np.asarray(score(vectors), np.float64)))
    counts = np.asarray(was)
    found = {}
    for name in features:
        at = bins.names.index(name)
        if at >= vectors.shape[1]:
            continue
        random = np.random.default_rng([seed, at])
        back = vectors.copy()
        back[:, at] = put_back(
            vectors[:, at], bins.columns[at], counts[bins.slice_of(name)], random
        )
        found[name] = before - float(np.mean(np.asarray(score(back), np.float64)))
    return found


def _edges(column: ColumnBins, cell: int, values: Matrix) -> tuple[float, float]:
    """Between which values a cell of a number lies; open ends stop at the recent extremes."""
    known = values[~np.isnan(values)]
    low = float(known.min()) if len(known) else 0.0
    high = float(np.nextafter(known.max(), np.float32(np.inf))) if len(known) else 0.0
    edges = column.values
    if not edges:
        return low, high
    below = min(low, edges[0]) if cell == 1 else edges[cell - 2]
    above = max(high, edges[-1]) if cell == column.cells - 1 else edges[cell - 1]
    return float(below), float(above)


def _codes_back(
    values: Matrix, column: ColumnBins, wanted: Floats, random: np.random.Generator
) -> Matrix:
    """Codes as frequent as they were: those that are too many become those that are too few."""
    n, codes = len(values), np.asarray(column.values, np.float32)
    cell = np.where(np.isnan(values), 0, 1)
    place = np.searchsorted(codes, values)
    listed = (place < len(codes)) & (codes[np.minimum(place, max(len(codes) - 1, 0))] == values)
    cell = np.where(listed, place + 2, cell)
    target = np.floor(wanted * n).astype(np.int64)
    target[int(np.argmax(wanted))] += n - int(target.sum())
    spare, lacking = [], []
    for number in range(len(wanted)):
        rows = random.permutation(np.flatnonzero(cell == number))
        spare.append(rows[target[number] :])
        lacking += [number] * max(int(target[number]) - len(rows), 0)
    out = values.copy()
    rows = np.concatenate(spare)
    random.shuffle(rows)
    for row, number in zip(rows.tolist(), lacking, strict=False):
        # A value that the reference does not list cannot be made up: the row keeps its own.
        out[row] = np.nan if number == 0 else values[row] if number == 1 else codes[number - 2]
    return out
