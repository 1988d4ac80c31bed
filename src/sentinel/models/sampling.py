"""Fewer rows that stand for many: frauds stay, good payments are drawn and weighted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def thinned(
    fraud: npt.NDArray[np.bool_],
    most: int,
    *,
    seed: int,
    weight: npt.NDArray[np.float64] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Draw rows without replacement, each class for itself.

    Sums over the weighted sample are in expectation those over all rows, so a model that is fitted
    on it learns the true base rate.

    Args:
        fraud: bool (n_rows,).
        most: How many rows to keep. All frauds are among them, unless they alone are more than
            half of that.
        seed: The same seed draws the same rows.
        weight: float64 (n_rows,), what each row stands for before; good ones that stand for more
            than most do are kept like frauds. None if each is one.

    Returns:
        int64 (n_kept,), rising: the rows. float64 (n_kept,): how many rows each stands for.

    >>> thinned(np.array([True, False, False, False, False]), 3, seed=1)[1].tolist()
    [1.0, 2.0, 2.0]
    """
    random = np.random.default_rng(seed)
    weight = np.ones(len(fraud)) if weight is None else weight.copy()
    usual = float(np.median(weight[~fraud])) if not fraud.all() else np.inf
    precious = fraud | (weight > usual)
    frauds, good = np.flatnonzero(precious), np.flatnonzero(~precious)
    if len(fraud) <= most:
        return np.arange(len(fraud)), weight
    kept_frauds = min(len(frauds), max(most // 2, most - len(good)))
    kept = []
    for rows, number in ((frauds, kept_frauds), (good, most - kept_frauds)):
        chosen = rows
        if number < len(rows):
            chosen = random.choice(rows, size=number, replace=False)
            weight[rows] *= len(rows) / number
        kept.append(chosen)
    keep = np.sort(np.concatenate(kept))
    return keep, weight[keep]
