"""What training gives: a model that scores, says what it uses, and leaves without a pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from sentinel.domain import ModelError
from sentinel.models.ensemble import TreeEnsemble

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
TrainerName = str
"""Name of a family, see `sentinel.models.families.installed`."""


class FittedModel(ABC):
    """A fitted model.

    Attributes:
        name: Which family made it.
        feature_names: In column order.
        parameters: What it was fitted with, for the record.
    """

    name: TrainerName
    feature_names: tuple[str, ...]
    parameters: dict[str, str | float]

    @abstractmethod
    def raw_score(self, X: Matrix) -> Floats:
        """Scores that rank: log-odds, or the forest's share of votes.

        Args:
            X: float32 (n_rows, n_features), NaN = unknown.

        Returns:
            float64 (n_rows,).
        """

    @abstractmethod
    def importance(self) -> Floats:
        """How much each feature is used: float64 (n_features,), summing to 1."""

    def native(self) -> str | TreeEnsemble:
        """The model as `save_artifact` takes it; never a pickle.

        Raises:
            ModelError: If this kind of model is not served.
        """
        raise ModelError(
            f"{self.name} is a baseline to compare with; it is not served. "
            "Set training.trainer to lightgbm, xgboost, random-forest or lightgbm-forest."
        )


def shares(sizes: npt.ArrayLike) -> Floats:
    """Sizes as shares of their sum; zeros stay zeros."""
    given = np.asarray(sizes, dtype=np.float64)
    return given / max(float(given.sum()), 1e-300)
