"""Calibration gives what NumPy gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentinel.models import outcomes
from sentinel.models.calibration import fit_calibration

_reals = st.floats(-50, 50, width=64)


@given(
    xs=arrays(np.float64, st.integers(2, 30), elements=_reals, unique=True),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_interpolation_is_numpys_to_the_last_bit(xs: np.ndarray, data: st.DataObject) -> None:
    xs = np.sort(xs)
    ys = np.sort(data.draw(arrays(np.float64, len(xs), elements=st.floats(0, 1))))
    at = data.draw(arrays(np.float64, st.integers(1, 40), elements=_reals))
    at = np.concatenate([at, xs, np.nextafter(xs, np.inf), [np.inf, -np.inf, np.nan]])
    ours = np.array([outcomes.interpolate(x, xs, ys) for x in at])
    assert ours.tobytes() == np.interp(at, xs, ys).tobytes()


def test_probabilities_are_those_of_the_calibration() -> None:
    rng = np.random.default_rng(4)
    raw = rng.normal(size=20_000)
    fraud = (rng.random(20_000) < 1 / (1 + np.exp(3 - 2 * raw))).astype(float)
    curve = fit_calibration(raw, fraud)
    probabilities = np.empty(len(raw))
    outcomes.calibrate(raw, curve.x, curve.y, probabilities)
    assert probabilities.tobytes() == curve.apply(raw).tobytes()


def test_values_of_reasons_are_picked_bit_by_bit() -> None:
    vectors = np.array([[np.nan, -0.0, 2.5], [1.0, np.inf, 3.0]], np.float32)
    features = np.array([[1, 0], [2, -1]], np.int16)
    values = np.empty((2, 2), np.float32)
    assert not outcomes.pick(vectors, features, values)
    expected = np.array([[-0.0, np.nan], [3.0, 0.0]], np.float32)
    assert values.tobytes() == expected.tobytes()
    assert outcomes.pick(vectors, features[:1], values[:1])
