"""Distances of histograms are those of the text books."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from sentinel.drift.distances import (
    jensen_shannon,
    kolmogorov_smirnov,
    stability_index,
    total_variation,
)

ALL = (total_variation, stability_index, jensen_shannon, kolmogorov_smirnov)


@pytest.mark.parametrize("distance", ALL)
def test_equal_shares_are_at_no_distance_whatever_their_counts(distance) -> None:
    assert float(distance(np.array([1, 2, 3]), np.array([20, 40, 60]))) == pytest.approx(
        0, abs=1e-7
    )


@pytest.mark.parametrize("distance", ALL)
def test_distances_are_symmetric_and_take_many_at_once(distance) -> None:
    rng = np.random.default_rng(1)
    was, now = rng.integers(0, 50, (2, 7, 9))
    together = distance(was, now)
    assert together.shape == (7,)
    assert together == pytest.approx(distance(now, was))
    assert together == pytest.approx([float(distance(a, b)) for a, b in zip(was, now, strict=True)])


def test_jensen_shannon_is_that_of_scipy() -> None:
    rng = np.random.default_rng(2)
    was, now = rng.integers(0, 50, (2, 12))
    assert float(jensen_shannon(was, now)) == pytest.approx(jensenshannon(was, now, base=2))


def test_the_stability_index_of_a_known_table() -> None:
    # (0.3 - 0.2) ln(0.3 / 0.2) + (0.7 - 0.8) ln(0.7 / 0.8)
    found = float(stability_index(np.array([20, 80]), np.array([30, 70])))
    assert found == pytest.approx(0.0405465 + 0.0133531, abs=1e-6)
    assert np.isfinite(stability_index(np.array([1, 0]), np.array([0, 1])))


def test_a_tenth_of_the_payments_elsewhere_is_a_tenth() -> None:
    assert float(total_variation(np.array([5, 3, 2]), np.array([4, 3, 3]))) == pytest.approx(0.1)
    assert float(kolmogorov_smirnov(np.array([5, 3, 2]), np.array([4, 3, 3]))) == pytest.approx(0.1)
