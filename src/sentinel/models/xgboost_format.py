"""Read XGBoost's JSON models as serving holds trees, without the library.

XGBoost differs from LightGBM in four things. It adds leaves up in float32, from an intercept on;
a row goes left if its value is *below* a threshold; categories of a set go right; and a missing
category has a direction of its own. The first is a property of the ensemble, and the intercept a
tree of one leaf. The others are undone here, so that the kernels know one kind of split only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.models.booster import join_trees
from sentinel.models.ensemble import (
    CATEGORICAL,
    DEFAULT_LEFT,
    MISSING_NAN,
    ModelFormatError,
    TreeEnsemble,
)

MOST_CATEGORIES: Final = 1024
"""Codes from here on are missing to the model; dictionaries of the plan hold a tenth of it."""

_WORDS: Final = MOST_CATEGORIES // 32
_OBJECTIVES: Final = {"binary:logistic": "binary sigmoid:1"}

Tree = dict[str, NDArray[Any]]


def parse_xgboost(model: bytes, feature_names: Sequence[str]) -> TreeEnsemble:
    """The trees of an XGBoost model.

    Args:
        model: What `Booster.save_raw("json")` returns.
        feature_names: In column order.

    Raises:
        ModelFormatError: If it is damaged, not made of plain trees, or has several outputs or
            an objective other than binary:logistic.
    """
    try:
        learner = msgspec.json.decode(model)["learner"]
        objective = learner["objective"]["name"]
        booster = learner["gradient_booster"]
        facts = learner["learner_model_param"]
        if objective not in _OBJECTIVES or booster["name"] != "gbtree":
            raise ModelFormatError(
                f"A model of {booster['name']} with objective {objective} is not served: train "
                "with booster=gbtree and objective=binary:logistic."
            )
        if int(facts["num_feature"]) != len(feature_names):
            raise ModelFormatError(
                f"The model has {facts['num_feature']} features; {len(feature_names)} are named."
            )
        trees = [_constant(_intercept(facts["base_score"]))]
        trees += [_tree(index, one) for index, one in enumerate(booster["model"]["trees"])]
    except ModelFormatError:
        raise
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelFormatError(f"This is not a JSON model of XGBoost: {error!r}") from error
    return join_trees(
        trees,
        feature_names=tuple(feature_names),
        objective=_OBJECTIVES[objective],
        average_output=False,
        feature_infos=(),
        float32_sums=True,
    )


def _intercept(base_score: str) -> float:
    """The log-odds that a sum starts from, in float32 as XGBoost has them."""
    one = np.float32(1.0)
    odds = one / np.float32(msgspec.json.decode(base_score.strip("[]"))) - one
    return float(np.float32(-np.log(np.float64(odds))))


def _constant(value: float) -> Tree:
    """A tree of one leaf."""
    nothing = np.zeros(0, np.int32)
    return {
        "feature": nothing,
        "threshold": np.zeros(0),
        "left": nothing,
        "right": nothing,
        "decision": np.zeros(0, np.uint8),
        "node_cover": np.zeros(0),
        "leaf_cover": np.ones(1),
        "leaf_value": np.array([value]),
        "category_set": nothing,
        "category_offset": np.zeros(1, np.int32),
        "category_bits": np.zeros(0, np.uint32),
    }


def _tree(index: int, given: dict[str, Any]) -> Tree:
    if int(given["tree_param"]["num_deleted"]) or int(given["tree_param"]["size_leaf_vector"]) > 1:
        raise ModelFormatError(
            f"Tree {index} was pruned or has several outputs: train with tree_method=hist."
        )
    left, right = (np.array(given[f"{side}_children"], np.int32) for side in ("left", "right"))
    bound = np.array(given["split_conditions"], np.float32)
    cover = np.array(given["sum_hessian"], np.float64)
    is_leaf = left < 0
    inner = np.flatnonzero(~is_leaf)
    place = np.where(is_leaf, ~(np.cumsum(is_leaf) - 1), np.cumsum(~is_leaf) - 1).astype(np.int32)
    left, right = place[left[inner]], place[right[inner]]
    missing_left = np.array(given["default_left"], np.int8)[inner] > 0
    decision = (MISSING_NAN | np.where(missing_left, DEFAULT_LEFT, 0)).astype(np.uint8)
    # Below a threshold is at most the float32 before it.
    threshold = np.nextafter(bound[inner], np.float32(-np.inf)).astype(np.float64)
    category_set = np.full(len(inner), -1, np.int32)
    bits: list[NDArray[np.uint32]] = []
    sizes, starts = given["categories_sizes"], given["categories_segments"]
    for node, start, size in zip(given["categories_nodes"], starts, sizes, strict=True):
        at = int(place[node])
        goes_right = _bits(given["categories"][start : start + size])
        category_set[at] = len(bits)
        decision[at] = CATEGORICAL | MISSING_NAN
        threshold[at] = len(bits)
        # What the kernel does not find in a set goes right, a missing category with it.
        if missing_left[at]:
            left[at], right[at] = right[at], left[at]
            bits.append(goes_right)
        else:
            bits.append(~goes_right)
    return {
        "feature": np.array(given["split_indices"], np.int32)[inner],
        "threshold": threshold,
        "left": left,
        "right": right,
        "decision": decision,
        "node_cover": cover[inner],
        "leaf_cover": cover[is_leaf],
        "leaf_value": bound[is_leaf].astype(np.float64),
        "category_set": category_set,
        "category_offset": np.arange(len(bits) + 1, dtype=np.int32) * _WORDS,
        "category_bits": np.concatenate(bits) if bits else np.zeros(0, np.uint32),
    }


def _bits(categories: Sequence[int]) -> NDArray[np.uint32]:
    """A set of categories as MOST_CATEGORIES bits."""
    member = np.zeros(MOST_CATEGORIES, np.uint8)
    member[np.array(categories, np.int64)] = 1
    return np.packbits(member, bitorder="little").view(np.uint32)
