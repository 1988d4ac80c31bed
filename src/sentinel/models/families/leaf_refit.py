"""New leaf values for the trees of a LightGBM model, by LightGBM's own refit.

Splits stay, and every leaf moves a step towards what the given rows say. A model that started at
the base rate holds it in the leaves of its first tree, and LightGBM's refit, which begins at even
odds, would take it for something that the tree had found out. So the base rate is taken out of that
tree first, is where the refit begins, and is put back. Such a tree also says of itself that its
steps were not shortened, and would be given steps of full length: it gets the length of the
second tree's.
"""

from __future__ import annotations

import re
from typing import Final

import lightgbm
import numpy as np
import numpy.typing as npt

from sentinel.models.fitted import Floats, Matrix

_SIZES: Final = re.compile(r"^tree_sizes=.*\n", re.MULTILINE)
_LEAVES: Final = re.compile(r"^num_leaves=(\d+)$", re.MULTILINE)
_SHRINKAGE: Final = re.compile(r"^shrinkage=\S+$", re.MULTILINE)


def refitted_leaves(
    trees: str,
    X: Matrix,
    fraud: npt.NDArray[np.bool_],
    *,
    weight: Floats | None,
    keep: float,
    base: float,
    restraint: float,
) -> str:
    """Refit the leaves of a model; the same input gives the same text.

    Args:
        trees: LightGBM's model text.
        X: float32 (n_rows, n_features), NaN = unknown.
        fraud: bool (n_rows,).
        weight: float64 (n_rows,), how many rows each stands for; None if each is one.
        keep: Share of its present value that each leaf keeps, 0 to 1.
        base: Log-odds that the first tree holds.
        restraint: L2 on the new leaf values.

    Returns:
        LightGBM's model text.
    """
    prepared = lightgbm.Booster(model_str=_with_short_first_steps(trees))
    for leaf in range(_leaves(trees)[0]):
        prepared.set_leaf_output(0, leaf, prepared.get_leaf_output(0, leaf) - base)
    new = prepared.refit(
        X,
        fraud.astype(np.float32),
        decay_rate=keep,
        weight=weight,
        init_score=np.full(len(fraud), base),
        lambda_l2=restraint,
        deterministic=True,
        force_row_wise=True,
        num_threads=1,
        verbosity=-1,
    )
    # Only values are taken over: what else the text says of trees and features stays.
    moved = lightgbm.Booster(model_str=trees)
    for tree, leaves in enumerate(_leaves(trees)):
        for leaf in range(leaves):
            value = new.get_leaf_output(tree, leaf) + (base if tree == 0 else 0.0)
            moved.set_leaf_output(tree, leaf, value)
    return str(moved.model_to_string())


def tree_scores(trees: str, X: Matrix) -> Floats:
    """Log-odds that a model text gives to rows: float64 (n_rows,).

    Args:
        trees: LightGBM's model text.
        X: float32 (n_rows, n_features), NaN = unknown.
    """
    booster = lightgbm.Booster(model_str=trees)
    return np.asarray(booster.predict(X, raw_score=True, num_threads=1), dtype=np.float64)


def _with_short_first_steps(trees: str) -> str:
    """The text of a model whose first tree has the shrinkage of the second."""
    found = list(_SHRINKAGE.finditer(trees))
    if len(found) < 2:
        return trees
    first, second = found[:2]
    changed = trees[: first.start()] + second.group() + trees[first.end() :]
    return _SIZES.sub("", changed, count=1)  # without the sizes in bytes, trees are read in order


def _leaves(trees: str) -> list[int]:
    """How many leaves each tree has."""
    return [int(found.group(1)) for found in _LEAVES.finditer(trees)]
