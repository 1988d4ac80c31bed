"""A model as serving holds it: kernels, calibration and the words of its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import Plan
from sentinel.log.entries import N_REASONS
from sentinel.models import outcomes
from sentinel.models.artifact import ModelManifest, load_manifest, load_plan, load_trees
from sentinel.models.booster import TreeEnsemble
from sentinel.models.explanations import Money, compile_words
from sentinel.models.many_scorers import Model
from sentinel.models.sentences import Usual, compile_usual, say
from sentinel.models.shap_kernel import Explainer
from sentinel.models.tree_kernel import Scorer

SUM_TOLERANCE: Final = 1e-9
"""Of what is added up: the sum of contributions may differ from a score in float64 by so much."""


class ServingModel:
    """An immutable model, ready to score vectors of its plan.

    Args:
        manifest: What the registry says of the model.
        plan: The plan whose vectors it takes.
        trees: The model itself.
        money: Currency and scale, for the words of reasons.
        reasons: Whether decisions are explained.

    Attributes:
        explains: Whether decisions are explained.
        words: Puts a value into words, by feature.
        unit: What scores and contributions are: ``log-odds``, or ``probability`` of a forest.
        n_trees: How many trees it has.
        sum_tolerance: A score may differ from the sum of its contributions by so much of what is
            added up.
    """

    def __init__(
        self,
        manifest: ModelManifest,
        plan: Plan,
        trees: TreeEnsemble,
        money: Money,
        *,
        reasons: bool = True,
    ) -> None:
        self.manifest = manifest
        self.plan = plan
        self.name = manifest.name
        self.version = manifest.version
        self._scorer = Scorer(trees)
        self.n_trees = trees.n_trees
        self._explainer = Explainer(trees) if reasons else None
        self._calibration = manifest.calibrator()
        self.unit = "probability" if trees.objective == "probability" else "log-odds"
        # A sum in float32 rounds once for each tree, by half a unit in the last place at most.
        self.sum_tolerance = 2.0**-24 * trees.n_trees if trees.float32_sums else SUM_TOLERANCE
        self.words = compile_words(plan, money)
        self._money = money
        self.explains = reasons

    @classmethod
    def load(cls, folder: Path, money: Money, *, reasons: bool = True) -> ServingModel:
        """Read and verify a model folder, and run every kernel once.

        Raises:
            ModelFormatError: A file is missing, changed or not readable.
            PlanMismatch: The folder's plan is not the one the model was trained with.
        """
        manifest = load_manifest(folder)
        plan = load_plan(folder, manifest)
        model = cls(manifest, plan, load_trees(folder, manifest), money, reasons=reasons)
        for rows in (1, 3, 40):
            vectors = np.full((rows, len(plan.feature_names)), np.nan, dtype=np.float32)
            model.score(vectors)
            features, _ = model.explain(vectors)
            model.values_of(vectors, features)
        return model

    def score(
        self, vectors: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Score vectors.

        Args:
            vectors: float32 (n, n_features), NaN = unknown.

        Returns:
            Raw scores float64 (n,), and calibrated probabilities float64 (n,).
        """
        scores = self._scorer.raw_many(vectors)
        probabilities = np.empty(len(scores))
        curve = self._calibration
        outcomes.calibrate(scores, curve.x, curve.y, probabilities)
        return scores, probabilities

    @property
    def many(self) -> Model:
        """Itself as one of several that score in one call."""
        return Model(self._scorer, self._calibration)

    def explain(
        self, vectors: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
        """Strongest reasons of each row.

        Returns:
            Feature indices int16 (n, N_REASONS), -1 = none, and their exact contributions
            float32 (n, N_REASONS).
        """
        if self._explainer is None:
            shape = (len(vectors), N_REASONS)
            return np.full(shape, -1, dtype=np.int16), np.zeros(shape, dtype=np.float32)
        return self._explainer.top_k(vectors, N_REASONS)

    @cached_property
    def _usual(self) -> list[Usual | None]:
        return compile_usual(self.plan, self._money)

    def sentences(self, values: Sequence[float | None]) -> list[str]:
        """What each feature of a vector means, beside what is usual; see `models.sentences`."""
        return say(self.words, self._usual, values)

    @property
    def base_value(self) -> float:
        """The expected score, from which contributions lead to the score of a payment."""
        return self._exact.expected_value

    @property
    def _exact(self) -> Explainer:
        assert self._explainer is not None, "the model was loaded without reasons"
        return self._explainer

    def attribute(
        self, vectors: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int16], npt.NDArray[np.float32]]:
        """The whole attribution of each row, of a model that `explains`.

        Returns:
            The exact contribution of every feature, float64 (n, n_features), and the strongest
            reasons as `explain` gives them.
        """
        contributions = self._exact.contributions(vectors)[:, :-1]
        return contributions, *self._exact.top_k(vectors, N_REASONS)

    def values_of(
        self, vectors: npt.NDArray[np.float32], features: npt.NDArray[np.int16]
    ) -> tuple[npt.NDArray[np.float32], bool]:
        """Values of the features that each row's reasons name.

        Args:
            vectors: float32 (n, n_features).
            features: (n, N_REASONS), from `explain`.

        Returns:
            float32 (n, N_REASONS), 0 where a row has fewer reasons; whether no row has fewer.
        """
        picked = np.empty(features.shape, dtype=np.float32)
        return picked, outcomes.pick(vectors, features, picked)
