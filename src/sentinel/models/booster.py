"""Read tree ensembles from the libraries that train them, without those libraries.

LightGBM's text model format (`Booster.save_model`, version v4) is parsed here, a fitted
scikit-learn forest is flattened, and both become a `TreeEnsemble`, the plain arrays serving holds.
Nothing here unpickles or imports a training library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from sentinel.models.ensemble import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_NAN,
    ZERO_THRESHOLD,
    ModelFormatError,
    TreeEnsemble,
    load_npz,
    save_npz,
)

__all__ = [
    "ModelFormatError",
    "TreeEnsemble",
    "escaped",
    "from_sklearn_forest",
    "join_trees",
    "load_lightgbm",
    "load_npz",
    "parse_lightgbm",
    "save_npz",
]

_TREE_ARRAYS = (
    ("feature", "split_feature", np.int32),
    ("threshold", "threshold", np.float64),
    ("left", "left_child", np.int32),
    ("right", "right_child", np.int32),
    ("decision", "decision_type", np.uint8),
    ("node_cover", "internal_count", np.float64),
)


def escaped(name: str) -> str:
    """A feature's name as LightGBM's text can hold it: without spaces, brackets and the like.

    >>> escaped("card_count_1d"), escaped("Merchant city: name")
    ('card_count_1d', 'Merchant%20city%3A%20name')
    """
    return quote(name, safe="")


def parse_lightgbm(text: str) -> TreeEnsemble:
    """Parse the text of a LightGBM v4 model.

    Args:
        text: What `Booster.model_to_string()` returns or `Booster.save_model()` writes.

    Raises:
        ModelFormatError: If the text is truncated or damaged, of another version, multiclass,
            or holds linear trees.
    """
    head, *blocks = text.split("\nTree=")
    header = dict(line.partition("=")[::2] for line in head.splitlines())
    _check_header(header)
    if not blocks or "\nend of trees" not in blocks[-1]:
        raise ModelFormatError(
            "The model text stops before 'end of trees': the file is truncated or has no trees. "
            "Save it again with Booster.save_model()."
        )
    blocks[-1] = blocks[-1].split("\nend of trees")[0]
    announced = len(header.get("tree_sizes", "").split())
    if announced != len(blocks):
        raise ModelFormatError(
            f"The model header announces {announced} trees, the file holds {len(blocks)}: it is "
            "damaged. Save it again with Booster.save_model()."
        )
    trees = [_parse_tree(i, block) for i, block in enumerate(blocks)]
    return join_trees(
        trees,
        feature_names=tuple(unquote(name) for name in header["feature_names"].split()),
        objective=header.get("objective", "").strip() or "custom",
        average_output="average_output" in header,
        feature_infos=tuple(header.get("feature_infos", "").split()),
    )


def load_lightgbm(path: str | Path) -> TreeEnsemble:
    """Parse the LightGBM text model at `path`; see `parse_lightgbm`."""
    try:
        return parse_lightgbm(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{path} is not a LightGBM text model: {error}") from error


def from_sklearn_forest(forest: Any) -> TreeEnsemble:
    """Flatten a fitted two-class `RandomForestClassifier`.

    The response is the mean over trees of the leaf's share of class 1, as `predict_proba(X)[:, 1]`.

    Args:
        forest: The fitted estimator; only its public `tree_` arrays are read.

    Raises:
        ModelFormatError: If the forest is not a two-class, single-output classifier.
    """
    if getattr(forest, "n_outputs_", 0) != 1 or len(getattr(forest, "classes_", ())) != 2:
        raise ModelFormatError(
            "Only a fitted classifier with one output and two classes can be flattened."
        )
    n_features = int(forest.n_features_in_)
    names = getattr(forest, "feature_names_in_", [f"Column_{i}" for i in range(n_features)])
    return join_trees(
        [_flatten_sklearn(estimator.tree_) for estimator in forest.estimators_],
        feature_names=tuple(str(name) for name in names),
        objective="probability",
        average_output=True,
        feature_infos=(),
    )


def _check_header(header: dict[str, str]) -> None:
    if "tree" not in header or "version" not in header:
        raise ModelFormatError(
            "This is not a LightGBM text model: it must start with 'tree' and 'version=v4'."
        )
    if header["version"] != "v4":
        raise ModelFormatError(
            f"LightGBM model version {header['version']!r} is not supported, only 'v4': save the "
            "model again with LightGBM 4."
        )
    for key in ("num_class", "num_tree_per_iteration"):
        if header.get(key, "1") != "1":
            raise ModelFormatError(
                f"Multiclass models are not served ({key}={header[key]}): train with one output, "
                "e.g. objective=binary."
            )
    if "feature_names" not in header:
        raise ModelFormatError("The model header has no feature_names: the file is damaged.")


def _parse_tree(index: int, block: str) -> dict[str, NDArray[Any]]:
    values = dict(line.partition("=")[::2] for line in block.splitlines()[1:])
    if values.get("is_linear", "0") != "0":
        raise ModelFormatError(
            "Linear trees are not served: train with linear_tree=false (leaves are constants)."
        )
    try:
        n_leaves = int(values["num_leaves"])
        n_nodes = n_leaves - 1
        tree = {
            name: _numbers(values[key], dtype, n_nodes, key) for name, key, dtype in _TREE_ARRAYS
        }
        tree["leaf_value"] = _numbers(values["leaf_value"], np.float64, n_leaves, "leaf_value")
        tree["leaf_cover"] = (
            _numbers(values["leaf_count"], np.float64, n_leaves, "leaf_count")
            if values.get("leaf_count", "").strip()
            else np.ones(n_leaves)
        )
        has_sets = int(values.get("num_cat", "0")) > 0
        bits = values["cat_threshold"] if has_sets else ""
        tree["category_bits"] = np.array(bits.split(), dtype=np.uint32)
        bounds = values["cat_boundaries"] if has_sets else "0"
        tree["category_offset"] = np.array(bounds.split(), dtype=np.int32)
    except (KeyError, ValueError, OverflowError) as error:
        raise ModelFormatError(f"Tree {index} of the model is damaged: {error}") from error
    categorical = (tree["decision"] & CATEGORICAL) > 0
    tree["category_set"] = np.where(categorical, tree["threshold"], -1).astype(np.int32)
    # LightGBM reads every |x| <= ZERO_THRESHOLD of a row as 0. Moving thresholds out of that
    # interval gives the same answer without touching the row.
    t = tree["threshold"]
    t[~categorical & (t >= 0) & (t < ZERO_THRESHOLD)] = ZERO_THRESHOLD
    below = np.nextafter(-ZERO_THRESHOLD, -np.inf)
    t[~categorical & (t < 0) & (t >= -ZERO_THRESHOLD)] = below
    return tree


def _numbers(text: str, dtype: Any, count: int, key: str) -> NDArray[Any]:
    array = np.array(text.split(), dtype=dtype)
    if len(array) != count:
        raise ValueError(f"{key} has {len(array)} values instead of {count}")
    return array


def _flatten_sklearn(tree: Any) -> dict[str, NDArray[Any]]:
    left, right = np.asarray(tree.children_left), np.asarray(tree.children_right)
    leaf = left < 0
    # One numbering for nodes, one for leaves, both in sklearn's depth-first order.
    index = np.where(leaf, ~(np.cumsum(leaf) - 1), np.cumsum(~leaf) - 1).astype(np.int32)
    missing_left = np.asarray(tree.missing_go_to_left)[~leaf] > 0
    cover = np.asarray(tree.weighted_n_node_samples, dtype=np.float64)
    n_nodes = int((~leaf).sum())
    return {
        "feature": np.asarray(tree.feature)[~leaf].astype(np.int32),
        "threshold": np.asarray(tree.threshold, dtype=np.float64)[~leaf],
        "left": index[left[~leaf]],
        "right": index[right[~leaf]],
        "decision": (MISSING_NAN | np.where(missing_left, DEFAULT_LEFT, 0)).astype(np.uint8),
        "node_cover": cover[~leaf],
        "leaf_cover": cover[leaf],
        "leaf_value": np.asarray(tree.value, dtype=np.float64)[leaf, 0, 1],
        "category_set": np.full(n_nodes, -1, np.int32),
        "category_offset": np.zeros(1, np.int32),
        "category_bits": np.zeros(0, np.uint32),
    }


def join_trees(trees: list[dict[str, NDArray[Any]]], **meta: Any) -> TreeEnsemble:
    """One ensemble of single trees, in the order their outputs are summed.

    Args:
        trees: Each as the arrays of a `TreeEnsemble` of one tree, without its offsets
            (``category_offset`` begins with 0).
        meta: The other fields of a `TreeEnsemble`: ``feature_names``, ``objective``,
            ``average_output``, ``feature_infos``.

    Raises:
        ModelFormatError: If the arrays do not describe trees.
    """

    def offsets(name: str) -> NDArray[np.int32]:
        return np.concatenate([[0], np.cumsum([len(t[name]) for t in trees])]).astype(np.int32)

    n_sets = np.cumsum([0] + [len(t["category_offset"]) - 1 for t in trees])
    n_bits = offsets("category_bits")
    joined: dict[str, Any] = {name: np.concatenate([t[name] for t in trees]) for name in trees[0]}
    joined["category_offset"] = np.concatenate(
        [[0]] + [t["category_offset"][1:] + n_bits[i] for i, t in enumerate(trees)]
    ).astype(np.int32)
    joined["category_set"] = np.concatenate(
        [
            np.where(t["category_set"] >= 0, t["category_set"] + n, -1)
            for t, n in zip(trees, n_sets[:-1], strict=True)
        ]
    ).astype(np.int32)
    return TreeEnsemble(
        node_offset=offsets("feature"), leaf_offset=offsets("leaf_value"), **meta, **joined
    )
