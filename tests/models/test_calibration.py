"""Calibration: probabilities mean what they say, and the ranking stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.models.calibration import Calibration, fit_calibration, pool_adjacent

Floats = NDArray[np.float64]


def distorted(n_rows: int, seed: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Scores that are not log-odds, their true probabilities, and frauds drawn from those."""
    random = np.random.default_rng(seed)
    raw = random.normal(-3.0, 2.0, n_rows)
    truth = 1.0 / (1.0 + np.exp(-(1.4 * raw - 0.5)))
    return raw, truth, random.random(n_rows) < truth


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_fitted_probabilities_are_close_to_the_true_ones(method: str) -> None:
    raw, truth, fraud = distorted(100_000, 1)
    calibration = fit_calibration(raw, fraud, method=method)  # type: ignore[arg-type]
    assert np.abs(calibration.apply(raw) - truth).mean() < 0.003
    assert calibration.apply(raw).mean() == pytest.approx(fraud.mean(), rel=0.02)


@pytest.mark.parametrize("method", ["isotonic", "platt"])
@given(seed=st.integers(0, 10_000), n_rows=st.integers(5, 60))
def test_a_calibration_never_changes_the_ranking(method: str, seed: int, n_rows: int) -> None:
    random = np.random.default_rng(seed)
    raw = np.round(random.normal(size=n_rows), 1)
    fraud = random.random(n_rows) < 0.3
    fraud[:2] = [True, False]
    probability = fit_calibration(raw, fraud, method=method).apply(raw)  # type: ignore[arg-type]
    order = np.argsort(raw, kind="stable")
    assert (np.diff(probability[order])[np.diff(raw[order]) > 0] > 0).all()
    assert ((probability > 0) & (probability < 1)).all()


def test_a_perfect_separation_does_not_become_certainty() -> None:
    raw = np.concatenate([np.full(50, -5.0), np.full(50, 5.0)])
    calibration = fit_calibration(raw, raw > 0, method="isotonic")
    low, high = calibration.apply([-5.0, 5.0])
    assert 0.0 < low < 0.02
    assert 0.98 < high < 1.0


def test_one_score_gets_the_bits_that_many_get() -> None:
    raw, _, fraud = distorted(5_000, 2)
    calibration = fit_calibration(raw, fraud)
    assert [calibration.apply_one(x) for x in raw[:200].tolist()] == calibration.apply(
        raw[:200]
    ).tolist()


def test_few_frauds_get_two_parameters_and_many_get_steps() -> None:
    raw, _, fraud = distorted(20_000, 3)
    few = np.flatnonzero(fraud)[:50].tolist() + np.flatnonzero(~fraud)[:5_000].tolist()
    platt = fit_calibration(raw[few], fraud[few], method="platt")
    assert np.array_equal(fit_calibration(raw[few], fraud[few]).y, platt.y)
    isotonic = fit_calibration(raw, fraud, method="isotonic")
    assert np.array_equal(fit_calibration(raw, fraud).y, isotonic.y)


def test_weights_undo_a_sample_of_negatives() -> None:
    raw, truth, fraud = distorted(200_000, 4)
    kept = fraud | (np.random.default_rng(5).random(len(raw)) < 0.1)
    weight = np.where(fraud[kept], 1.0, 10.0)
    for method in ("isotonic", "platt"):
        fitted = fit_calibration(raw[kept], fraud[kept], method=method, weight=weight)
        assert np.abs(fitted.apply(raw) - truth).mean() < 0.005


def test_another_prior_is_the_same_as_having_fitted_without_the_sample() -> None:
    raw, truth, fraud = distorted(200_000, 6)
    kept = fraud | (np.random.default_rng(7).random(len(raw)) < 0.05)
    sampled = fit_calibration(raw[kept], fraud[kept], method="platt")
    corrected = sampled.with_prior(float(fraud[kept].mean()), float(fraud.mean()))
    assert np.abs(sampled.apply(raw) - truth).mean() > 0.05
    assert np.abs(corrected.apply(raw) - truth).mean() < 0.003


def test_the_same_prior_changes_nothing() -> None:
    raw, _, fraud = distorted(5_000, 8)
    calibration = fit_calibration(raw, fraud)
    same = calibration.with_prior(0.01, 0.01)
    assert np.allclose(same.apply(raw), calibration.apply(raw), rtol=1e-6)


def test_a_model_that_ranks_the_wrong_way_round_gets_an_almost_flat_curve() -> None:
    raw, _, fraud = distorted(20_000, 9)
    calibration = fit_calibration(-raw, fraud, method="platt")
    assert np.ptp(calibration.apply(-raw)) < 0.01


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=40))
def test_pooled_blocks_have_rising_ratios_and_keep_all_mass(pairs: list[tuple[int, int]]) -> None:
    above = np.array([a for a, _ in pairs], dtype=np.float64)
    below = np.array([b for _, b in pairs], dtype=np.float64)
    start = pool_adjacent(above, below)
    ratios = np.add.reduceat(above, start) / np.add.reduceat(below, start)
    assert start[0] == 0
    assert (np.diff(ratios) > 0).all()


def test_rows_of_one_class_cannot_be_calibrated() -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit_calibration([0.1, 0.2], [0, 0])


@pytest.mark.parametrize(
    ("x", "y"), [([0.0], [0.5]), ([0.0, 0.0], [0.1, 0.2]), ([0, 1], [0.2, 0.1]), ([0, 1], [0, 1])]
)
def test_points_that_do_not_rise_inside_0_and_1_are_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="rising"):
        Calibration(np.array(x, dtype=np.float64), np.array(y, dtype=np.float64))
