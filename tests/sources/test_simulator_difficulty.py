"""Fraud in the simulated world is neither given away by one number nor hopeless to find."""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from sentinel.sources import SimulatorConfig
from sentinel.sources.simulator.world import World
from tests.sources.simulated_windows import RAW, raw_frame, with_windows

DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    """Average precision on the last weeks, of single features and of boosted trees."""
    world = World(SimulatorConfig())
    frame, windows = with_windows(raw_frame(world))
    day = (frame.time_us - world.config.start_us) // DAY_US
    # Every fifth good payment is enough to learn from; all are judged.
    kept = (frame.fraud == 1) | (frame.row % 5 == 0)
    train, test = kept & (day >= 20) & (day < 120), day >= 134
    truth = frame.fraud[test].to_numpy()
    best_single = 0.0
    for name in RAW + windows:
        values = frame.loc[test, name].to_numpy(float)
        for sign in (1, -1):
            scores = np.where(np.isnan(values), -1e18, sign * values)
            best_single = max(best_single, float(average_precision_score(truth, scores)))
    return {
        "single": best_single,
        "raw": boosted(frame, RAW, train, test, truth),
        "windows": boosted(frame, RAW + windows, train, test, truth),
    }


def boosted(
    frame: pd.DataFrame, names: list[str], train: pd.Series, test: pd.Series, truth: np.ndarray
) -> float:
    model = lightgbm.LGBMClassifier(
        n_estimators=120,
        learning_rate=0.1,
        min_child_samples=60,
        reg_lambda=20,
        colsample_bytree=0.6,
        random_state=1,
        n_jobs=1,
        verbose=-1,
    )
    model.fit(frame.loc[train, names], frame.fraud[train])
    scores = np.asarray(model.predict_proba(frame.loc[test, names]))[:, 1]
    return float(average_precision_score(truth, scores))


def test_no_single_feature_gives_fraud_away(measured: dict[str, float]) -> None:
    assert 0.05 <= measured["single"] <= 0.35


def test_windows_add_much_to_what_stands_on_the_request(measured: dict[str, float]) -> None:
    assert measured["windows"] >= measured["raw"] + 0.10


def test_the_best_model_is_good_but_not_perfect(measured: dict[str, float]) -> None:
    assert 0.5 <= measured["windows"] <= 0.95
