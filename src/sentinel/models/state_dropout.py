"""Fit on some payments as if their state could not be read, as a degraded decision sees them.

A model that has never met a null takes it for some ordinary value, often zero: a card without
history. Where it has met payments of which only amount, hour and attributes are known, it has
learnt what those alone say.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import Plan

Matrix = npt.NDArray[np.float32]


def stateful(plan: Plan) -> npt.NDArray[np.bool_]:
    """Which features need state: bool (n_features,). They are null in a degraded decision."""
    request = {feature.name for feature in plan.request}
    return np.array([name not in request for name in plan.feature_names], dtype=np.bool_)


def drop_state(X: Matrix, plan: Plan, share: float, *, seed: int) -> Matrix:
    """Vectors of which a random share has only what needs no state.

    Args:
        X: float32 (n_rows, n_features); not changed.
        plan: Of the vectors.
        share: Of the rows, 0 to 1.
        seed: The same seed draws the same rows.

    Returns:
        A copy; `X` itself if nothing is dropped.
    """
    columns = np.flatnonzero(stateful(plan))
    rows = np.flatnonzero(np.random.default_rng(seed).random(len(X)) < share)
    if len(rows) == 0 or len(columns) in (0, X.shape[1]):
        return X
    out = X.copy()
    out[np.ix_(rows, columns)] = np.nan
    return out
