"""Vectors of which models of several plans take their columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import Plan
from sentinel.models import outcomes
from sentinel.models.explanations import Money, Words, compile_words
from sentinel.scoring.serving_model import ServingModel

Columns = npt.NDArray[np.int64]


class Union:
    """The plan that vectors are of while models of several plans score, ready for reasons.

    Features in the log and in answers are those of the union: a reason of any model is told by the
    union's name of it.

    Args:
        plan: See `sentinel.features.plan.union`.
        money: Currency and scale, for the words of reasons.
        reasons: Whether decisions are explained.
    """

    def __init__(self, plan: Plan, money: Money, *, reasons: bool = True) -> None:
        self.plan = plan
        self.words: Sequence[Words] = compile_words(plan, money)
        self.explains = reasons

    def values_of(
        self, vectors: npt.NDArray[np.float32], features: npt.NDArray[np.int16]
    ) -> tuple[npt.NDArray[np.float32], bool]:
        """See `ServingModel.values_of`."""
        picked = np.empty(features.shape, dtype=np.float32)
        return picked, outcomes.pick(vectors, features, picked)


def taken(vectors: npt.NDArray[np.float32], columns: Columns | None) -> npt.NDArray[np.float32]:
    """The vectors of a model's own plan, C-contiguous, float32 (n, its features).

    Args:
        vectors: float32 (n, n_features).
        columns: int64 (its features,), where the vectors have them; None if they are its own.
    """
    return vectors if columns is None else vectors.take(columns, axis=1)


def explain(
    model: ServingModel, vectors: npt.NDArray[np.float32], columns: Columns | None
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
    """The strongest reasons of each row, as features of the vectors; see `ServingModel.explain`."""
    features, contributions = model.explain(taken(vectors, columns))
    if columns is not None:
        features = np.where(features < 0, -1, columns[features]).astype(np.int16)
    return features, contributions
