"""A model as serving holds it: kernels, calibration, thresholds and the words of its reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.features.plan import Plan
from sentinel.ledger.groups import FLAG_IS_FRAUD, N_REASONS
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
        self._thresholds = manifest.thresholds
        self._names = plan.feature_names
        self._words = compile_words(plan, money)
        self._explains = reasons
        self._said: list[dict[int, tuple[str, str]]] = [{} for _ in self._names]

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
        # By their bits: NaN is not equal to itself, and minus zero to zero.
        values = np.take_along_axis(vectors.view(np.int32), features.astype(np.intp), axis=1)
        weights = _encode(contributions.ravel().tolist())[1:-1].decode().split(",")
        parts: list[str] = []
        append = parts.append
        for feature, bits, weight in zip(
            features.ravel().tolist(), values.ravel().tolist(), weights, strict=True
        ):
            if feature < 0:
                append("")
                continue
            known = self._said[feature]
            around = known.get(bits)
            if around is None:
                around = self._say(feature, bits)
            append(f"{around[0]}{weight}{around[1]}")
        rows = [parts[i : i + N_REASONS] for i in range(0, len(parts), N_REASONS)]
        if (features < 0).any():
            rows = [[part for part in row if part] for row in rows]
        return [",".join(row) for row in rows]

    def _say(self, feature: int, bits: int) -> tuple[str, str]:
        """The JSON of a reason before and after its contribution; remembered."""
        value = float(np.int32(bits).view(np.float32))
        shown = None if value != value else value
        name, number, words = (
            _encode(part).decode()
            for part in (self._names[feature], shown, self._words[feature](shown))
        )
        known = self._said[feature]
        if len(known) >= _SAID_KEPT:
            known.clear()
        said = (f'{{"feature":{name},"value":{number},"contribution":', f',"words":{words}}}')
        known[bits] = said
        return said
