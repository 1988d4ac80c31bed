"""A model as serving holds it: kernels, calibration, thresholds and the words of its reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import Plan
from sentinel.log.entries import FLAG_IS_FRAUD, N_REASONS
from sentinel.models import outcomes
from sentinel.models.artifact import ModelManifest, load_manifest, load_plan, load_trees
from sentinel.models.booster import TreeEnsemble
from sentinel.models.explanations import Money, compile_words
from sentinel.models.shap_kernel import Explainer
from sentinel.models.tree_kernel import Scorer

_encode = msgspec.json.Encoder().encode
_SAID_KEPT: Final = 2048
"""Most values of a feature whose words are remembered."""


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
        limits = manifest.thresholds
        self._limits = np.array([limits.review, limits.decline, limits.fraud])
        self._names = plan.feature_names
        self._words = compile_words(plan, money)
        self._explains = reasons
        self._said: list[dict[int, str]] = [{} for _ in self._names]
        self._heads = [f'{{"feature":{_encode(name).decode()},"value":' for name in self._names]

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
            model.reasons_json(vectors, *model.explain(vectors))
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
        probabilities = np.empty(len(scores))
        flags = np.empty(len(scores), dtype=np.uint8)
        curve = self._calibration
        outcomes.decide(scores, curve.x, curve.y, self._limits, FLAG_IS_FRAUD, probabilities, flags)
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

    def reasons_json(
        self,
        vectors: npt.NDArray[np.float32],
        features: npt.NDArray[np.int16],
        contributions: npt.NDArray[np.float32],
    ) -> list[str]:
        """The reasons of each row as JSON, the elements of an array of `Reason`.

        Args:
            vectors: float32 (n, n_features).
            features, contributions: (n, N_REASONS), what `explain` said of them.
        """
        if not self._explains:
            return [""] * len(vectors)
        picked = np.empty(features.shape, dtype=np.float32)
        whole = outcomes.pick(vectors, features, picked)
        chosen = picked.ravel()
        values: list[float] = chosen.tolist()
        parts: list[str] = []
        append = parts.append
        # Words are remembered by bits: NaN is not equal to itself, and minus zero to zero.
        for feature, bits, value, number, weight in zip(
            features.ravel().tolist(),
            chosen.view(np.int32).tolist(),
            values,
            _numbers(values),
            _numbers(contributions.ravel().tolist()),
            strict=True,
        ):
            if feature < 0:
                append("")
                continue
            words = self._said[feature].get(bits)
            if words is None:
                words = self._say(feature, bits, value)
            append(f'{self._heads[feature]}{number},"contribution":{weight},"words":{words}}}')
        if not whole:
            rows = (parts[i : i + N_REASONS] for i in range(0, len(parts), N_REASONS))
            return [",".join(filter(None, row)) for row in rows]
        return [",".join(parts[i : i + N_REASONS]) for i in range(0, len(parts), N_REASONS)]

    def _say(self, feature: int, bits: int, value: float) -> str:
        """The words of a reason as JSON, remembered."""
        known = self._said[feature]
        if len(known) >= _SAID_KEPT:
            known.clear()
        words = self._words[feature](None if value != value else value)
        said = known[bits] = _encode(words).decode()
        return said


def _numbers(values: list[float]) -> list[str]:
    """The JSON of each number, from one call of the encoder; null for NaN."""
    return _encode(values)[1:-1].decode().split(",")
