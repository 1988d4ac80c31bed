"""Average precision of weighted rows, and what each row does to it.

The second is the influence function (infinitesimal jackknife; Efron, 1982): the derivative of the
figure by the row's weight. Its sums over cards say how exact the figure is, without a bootstrap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import kernel

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@kernel
def average_precision_influence(
    order: Ints,
    rank_group: Ints,
    fraud: Bools,
    weight: Floats,
    counted: Bools,
    influence: Floats,
) -> float:
    """Average precision of some rows, and its derivative by the weight of each.

    Args:
        order: int64 (n_rows,), rows by falling score.
        rank_group: int64 (n_rows,), by rank: rows of one score have one number, rising.
        fraud: bool (n_rows,).
        weight: float64 (n_rows,), what each row stands for.
        counted: bool (n_rows,), the rows that are looked at; some of them is a fraud.
        influence: float64 (n_rows,), written: the derivative, 0 for rows that are not counted.

    Returns:
        The mean precision over the frauds, each at the end of its tie.
    """
    n = len(order)
    n_groups = rank_group[n - 1] + 1
    rows_until = np.zeros(n_groups)
    frauds_in = np.zeros(n_groups)
    for rank in range(n):
        row = order[rank]
        if counted[row]:
            rows_until[rank_group[rank]] += weight[row]
            if fraud[row]:
                frauds_in[rank_group[rank]] += weight[row]
    precision = np.zeros(n_groups)
    rows, frauds, total = 0.0, 0.0, 0.0
    for group in range(n_groups):
        rows += rows_until[group]
        frauds += frauds_in[group]
        rows_until[group] = rows
        if rows > 0.0:
            precision[group] = frauds / rows
        total += frauds_in[group] * precision[group]
    value = total / frauds
    gain, loss = 0.0, 0.0  # sums over this group and those below it
    group = n_groups
    for rank in range(n - 1, -1, -1):
        row = order[rank]
        while group > rank_group[rank]:
            group -= 1
            if rows_until[group] > 0.0:
                share = frauds_in[group] / rows_until[group]
                gain += share
                loss += share * precision[group]
        if not counted[row]:
            influence[row] = 0.0
        elif fraud[row]:
            influence[row] = (precision[group] - value + gain - loss) / frauds
        else:
            influence[row] = -loss / frauds
    return float(value)


def ranked(score: Floats) -> tuple[Ints, Ints]:
    """Rows by falling score, and by rank the number of their tie: int64 (n_rows,) each."""
    order = np.argsort(-score, kind="stable")
    falls = np.diff(score[order]) != 0
    return order, np.concatenate([[0], np.cumsum(falls)]).astype(np.int64)
