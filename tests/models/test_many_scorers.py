"""Models that score in one call give the bits that each gives by itself."""

from __future__ import annotations

import numpy as np
import pytest

from sentinel.models import outcomes
from sentinel.models.booster import parse_lightgbm
from sentinel.models.calibration import Calibration
from sentinel.models.many_scorers import ManyScorers, Model
from sentinel.models.tree_kernel import Scorer
from testkit.scratch import default_plan, synthetic_booster, synthetic_forest, synthetic_xgboost

PLAN = default_plan()


def models() -> list[Model]:
    """Sums in float64 and in float32, a forest's votes, and curves of different lengths."""
    trees = [
        parse_lightgbm(synthetic_booster(PLAN, trees=20, leaves=15)),
        synthetic_xgboost(PLAN, trees=11),
        synthetic_forest(PLAN, trees=9, depth=5),
        parse_lightgbm(synthetic_booster(PLAN, trees=3, leaves=4, seed=9)),
    ]
    curves = [
        Calibration(np.linspace(-6.0, 6.0, n), np.linspace(0.01, 0.99, n)) for n in (2, 7, 3, 40)
    ]
    return [Model(Scorer(one), curve) for one, curve in zip(trees, curves, strict=True)]


def test_each_model_gives_the_bits_that_it_gives_alone() -> None:
    several = models()
    together = ManyScorers(several)
    assert sum(together.shares) == pytest.approx(1.0)
    rng = np.random.default_rng(4)
    for rows in (1, 5, 16, 67):
        X = rng.lognormal(1.0, 1.5, size=(rows, len(PLAN.feature_names))).astype(np.float32)
        X[rng.random(X.shape) < 0.2] = np.nan
        scores, probabilities = together.score(X)
        for number, model in enumerate(several):
            alone = model.scorer.raw_many(X)
            calibrated = np.empty(rows)
            outcomes.calibrate(alone, model.calibration.x, model.calibration.y, calibrated)
            assert scores[number].tobytes() == alone.tobytes()
            assert probabilities[number].tobytes() == calibrated.tobytes()


def test_rows_of_another_shape_are_refused() -> None:
    together = ManyScorers(models()[:2])
    with pytest.raises(ValueError, match=f"{len(PLAN.feature_names)} features"):
        together.score(np.zeros((2, 3), dtype=np.float32))
