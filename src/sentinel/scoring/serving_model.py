"""A model as serving holds it: kernels, calibration, thresholds and the words of its reasons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentinel.domain import Reason
from sentinel.features.plan import Plan
from sentinel.ledger.groups import FLAG_IS_FRAUD, N_REASONS
from sentinel.models.artifact import ModelManifest, load_manifest, load_plan, load_trees
from sentinel.models.booster import TreeEnsemble
from sentinel.models.explanations import Money, compile_words
from sentinel.models.shap_kernel import Explainer
from sentinel.models.tree_kernel import Scorer


class ServingModel:
    """An immutable model, ready to score vectors of its plan.

    Args:
        manifest: What the registry says of the model.
        plan: The plan whose vectors it takes.
        trees: The model itself.
        money: Currency and scale, for the words of reasons.
        reasons: Whether decisions are explained.
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
        self._explainer = Explainer(trees)
        self._calibration = manifest.calibrator()
        self._thresholds = manifest.thresholds
        self._names = plan.feature_names
        self._words = compile_words(plan, money)
        self._explains = reasons

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
        for rows in (1, 2, 40):
            vectors = np.full((rows, len(plan.feature_names)), np.nan, dtype=np.float32)
            model.score(vectors)
            model.explain(vectors)
        return model

    def score(
        self, vectors: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
        """Score vectors.

        Args:
            vectors: float32 (n, n_features), NaN = unknown.

        Returns:
            Raw scores float64 (n,), calibrated probabilities float64 (n,), and uint8 (n,) of the
            outcome code with FLAG_IS_FRAUD.
        """
        scores = self._scorer.raw_many(vectors)
        probabilities = self._calibration.apply(scores)
        limits = self._thresholds
        flags = (
            (probabilities >= limits.review).astype(np.uint8)
            + (probabilities >= limits.decline).astype(np.uint8)
            + (probabilities >= limits.fraud).astype(np.uint8) * np.uint8(FLAG_IS_FRAUD)
        )
        return scores, probabilities, flags

    def explain(
        self, vectors: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32]]:
        """Strongest reasons of each row.

        Returns:
            Feature indices int16 (n, N_REASONS), -1 = none, and their exact contributions
            float32 (n, N_REASONS).
        """
        if not self._explains:
            shape = (len(vectors), N_REASONS)
            return np.full(shape, -1, dtype=np.int16), np.zeros(shape, dtype=np.float32)
        return self._explainer.top_k(vectors, N_REASONS)

    def reasons(
        self,
        vector: npt.NDArray[np.float32],
        features: npt.NDArray[np.int16],
        contributions: npt.NDArray[np.float32],
    ) -> tuple[Reason, ...]:
        """Put one row's reasons into words."""
        return tuple(
            Reason(
                feature=self._names[feature],
                value=None if (value := float(vector[feature])) != value else value,
                contribution=contribution,
                words=self._words[feature](None if value != value else value),
            )
            for feature, contribution in zip(features.tolist(), contributions.tolist(), strict=True)
            if feature >= 0
        )
