"""A tree ensemble as serving holds it: flat arrays, validated.

The kernels index these arrays without bounds checks, so `TreeEnsemble` validates every tree on
construction: damaged ones are refused here, never followed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CATEGORICAL = 1
DEFAULT_LEFT = 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 4, 8
MISSING_MASK = 12

# LightGBM's kZeroThreshold: the float32 literal 1e-35f, widened.
ZERO_THRESHOLD = float(np.float32(1e-35))

# The response function each objective applies to a raw score.
LINKS = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "cross_entropy_lambda": "softplus",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "probability": "identity",
    "custom": "identity",
    **dict.fromkeys(
        ("regression", "regression_l1", "huber", "fair", "quantile", "mape"), "identity"
    ),
    **dict.fromkeys(("lambdarank", "rank_xendcg"), "identity"),
}

_FORMAT, _FORMAT_WITH_FLOAT32_SUMS = 1, 2


class ModelFormatError(ValueError):
    """A model file that is damaged, of another version, or of a kind that is not served."""


@dataclass(frozen=True, slots=True, eq=False)
class TreeEnsemble:
    """Binary decision trees as flat arrays, in the order their outputs are summed.

    Tree `t` owns nodes `node_offset[t]:node_offset[t + 1]` and leaves
    `leaf_offset[t]:leaf_offset[t + 1]`. Its children are indices inside the tree: `>= 0` is a
    node, `< 0` is the leaf `~child`. A child comes after its parent.

    Attributes:
        feature_names: One name per input column.
        objective: LightGBM's objective string (`"binary sigmoid:1"`), `"custom"` when the file
            names none, or `"probability"` for a forest of class-1 probabilities.
        average_output: Whether the response divides the summed score by the number of trees.
        feature_infos: LightGBM's training range of each feature, or empty.
        node_offset, leaf_offset: int32 (n_trees + 1).
        feature, left, right: int32 (n_nodes).
        threshold: float64 (n_nodes); `x <= threshold` goes left.
        decision: uint8 (n_nodes): `CATEGORICAL | DEFAULT_LEFT | MISSING_*`.
        category_set: int32 (n_nodes), the category set of a categorical split, else -1.
        category_offset: int32 (n_sets + 1) into `category_bits`.
        category_bits: uint32, bitsets of the categories that go left.
        node_cover, leaf_cover: float64, training rows (or weight) that reached each.
        leaf_value: float64 (n_leaves).
        float32_sums: Whether the sum over trees is rounded to float32 after each, as XGBoost's is.

    Raises:
        ModelFormatError: If the arrays do not describe trees or the objective is not served.
    """

    feature_names: tuple[str, ...]
    objective: str
    average_output: bool
    feature_infos: tuple[str, ...]
    node_offset: NDArray[np.int32]
    leaf_offset: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    decision: NDArray[np.uint8]
    category_set: NDArray[np.int32]
    category_offset: NDArray[np.int32]
    category_bits: NDArray[np.uint32]
    node_cover: NDArray[np.float64]
    leaf_cover: NDArray[np.float64]
    leaf_value: NDArray[np.float64]
    float32_sums: bool = False

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def n_features(self) -> int:
        return len(self.feature_names)

    @property
    def n_trees(self) -> int:
        return len(self.node_offset) - 1

    @property
    def link(self) -> tuple[str, float]:
        """The response function and its slope: `("sigmoid", 1.0)` for `"binary sigmoid:1"`."""
        name, *parameters = self.objective.split()
        kind = LINKS[name]
        if "sqrt" in parameters:
            kind = "signed_square"
        slope = next((float(p[8:]) for p in parameters if p.startswith("sigmoid:")), 1.0)
        return kind, slope


def save_npz(ensemble: TreeEnsemble, path: str | Path) -> None:
    """Write an ensemble as an uncompressed `.npz` that holds no pickled objects."""
    values = {f.name: getattr(ensemble, f.name) for f in fields(ensemble)}
    meta = {k: values.pop(k) for k in list(values) if not isinstance(values[k], np.ndarray)}
    # Versions that do not know of such sums would score otherwise, so they must not read it.
    written = _FORMAT_WITH_FLOAT32_SUMS if meta.pop("float32_sums") else _FORMAT
    with Path(path).open("wb") as file:
        np.savez(file, meta=np.array(json.dumps(meta | {"format": written})), **values)


def load_npz(path: str | Path) -> TreeEnsemble:
    """Read what `save_npz` wrote.

    Raises:
        ModelFormatError: If the file is not such an archive.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(str(arrays.pop("meta")))
        written = meta.pop("format")
        if written not in (_FORMAT, _FORMAT_WITH_FLOAT32_SUMS):
            raise ModelFormatError(f"{path} was written by another version; convert it again.")
        for name in ("feature_names", "feature_infos"):
            meta[name] = tuple(meta[name])
        meta["float32_sums"] = written == _FORMAT_WITH_FLOAT32_SUMS
        return TreeEnsemble(**meta, **arrays)
    except ModelFormatError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ModelFormatError(f"{path} is not a saved tree ensemble: {error}") from error


def _validate(e: TreeEnsemble) -> None:
    name = e.objective.split()[0] if e.objective.split() else ""
    if name not in LINKS:
        raise ModelFormatError(
            f"Objective {e.objective!r} is not served. Served objectives: {', '.join(LINKS)}."
        )
    for index, problem in _problems(e):
        raise ModelFormatError(f"Tree {index} of the model is damaged: {problem}.")


def _problems(e: TreeEnsemble) -> Iterator[tuple[int, str]]:
    sizes = {"node_cover": e.node_offset[-1], "leaf_cover": e.leaf_offset[-1]}
    sizes |= {"leaf_value": e.leaf_offset[-1], "category_set": e.node_offset[-1]}
    per_node = ("feature", "threshold", "left", "right", "decision")
    sizes |= dict.fromkeys(per_node, e.node_offset[-1])
    if any(getattr(e, name).shape != (size,) for name, size in sizes.items()):
        yield 0, "its arrays are of unequal length"
        return
    if e.feature.size and not (e.feature.min() >= 0 and e.feature.max() < e.n_features):
        yield 0, f"a split uses a feature outside the {e.n_features} named ones"
    n_sets = len(e.category_offset) - 1
    categorical = (e.decision & CATEGORICAL) > 0
    sets = e.category_set[categorical]
    if sets.size and not (sets.min() >= 0 and sets.max() < n_sets):
        yield 0, "a categorical split names a category set that is not there"
    if (
        e.category_offset[0]
        or np.any(np.diff(e.category_offset) < 0)
        or e.category_offset[-1] > len(e.category_bits)
    ):
        yield 0, "category sets overlap or are cut off"
    if np.isnan(e.threshold[~categorical]).any() or not np.isfinite(e.leaf_value).all():
        yield 0, "a threshold or a leaf value is not a number"
    nodes, leaves = pairwise(e.node_offset.tolist()), pairwise(e.leaf_offset.tolist())
    for index, ((a, b), (c, d)) in enumerate(zip(nodes, leaves, strict=True)):
        if b == a and d == c + 1:  # a tree that is one leaf
            continue
        children = np.concatenate([e.left[a:b], e.right[a:b]])
        # Every node but the root and every leaf is some node's child exactly once, and children
        # come after their parents: then it is a tree.
        expected = np.concatenate([np.arange(c - d, 0), np.arange(1, b - a)])
        parents = np.tile(np.arange(b - a), 2)
        if d - c != b - a + 1 or not np.array_equal(np.sort(children), expected):
            yield index, "its nodes do not form a tree"
        elif np.any((children >= 0) & (children <= parents)):
            yield index, "a child stands before its parent"
