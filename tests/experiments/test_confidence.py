"""Intervals by betting hold at every look, and are those that others' code arrives at."""

from __future__ import annotations

import numpy as np
import pytest
import ville

from sentinel.experiments.confidence import (
    gains_above,
    gains_below,
    log_capital,
    mean_interval,
    mean_sequence,
)


def test_the_true_mean_is_ever_outside_in_at_most_alpha_of_all_sequences() -> None:
    random = np.random.default_rng(7)
    truth, alpha, sequences, n = 0.3, 0.1, 1_000, 500
    ones = (random.random((sequences, n)) < truth).cumsum(axis=1)
    counts = np.stack([np.arange(1, n + 1) - ones, ones], axis=-1)
    values, at = np.array([0.0, 1.0]), np.array([truth])
    reached = np.log(2.0 / alpha)
    outside = np.zeros(sequences, dtype=np.bool_)
    for gains in (gains_above, gains_below):
        capital = log_capital(gains(values, np.ones(2), at), counts)[..., 0]
        outside |= (capital >= reached).any(axis=1)
    assert 0.01 < outside.mean() <= alpha


@pytest.mark.parametrize("mean", [0.05, 0.5])
def test_intervals_of_shares_are_about_those_of_ville(mean: float) -> None:
    values = (np.random.default_rng(3).random(1_000) < mean).astype(np.float64)
    ours = mean_sequence(values, 0.05)
    betting = ville.BettingCS(alpha=0.05, grid=1_000).fit(values)
    mixture = ville.BernoulliCS(alpha=0.05).fit(values)
    for theirs in (betting, mixture):
        low, high = theirs.interval()
        assert max(low, ours.low[-1]) < mean < min(high, ours.high[-1])
        assert ours.high[-1] - ours.low[-1] < 1.2 * (high - low)


def test_intervals_of_amounts_are_about_those_of_ville() -> None:
    values = np.random.default_rng(5).beta(2, 5, 300)
    ours = mean_sequence(values, 0.05)
    low, high = ville.BettingCS(alpha=0.05, grid=1_000).fit(values).interval()
    assert ours.low[-1] < 2 / 7 < ours.high[-1]
    assert ours.high[-1] - ours.low[-1] < 1.6 * (high - low)


def test_a_bet_is_one_of_villes_for_a_single_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ville's bet is at its limit, it stakes a fixed fraction: c of the capital."""
    monkeypatch.setattr("sentinel.experiments.confidence.FRACTIONS", np.array([0.01]))
    values = (np.random.default_rng(11).random(200) < 0.6).astype(np.float64)
    theirs = ville.BettingTest(m0=0.5, alternative="greater", c=0.01).fit(values)
    ours = log_capital(gains_above(values, np.ones(200), np.array([0.5])))
    assert ours[0] == pytest.approx(theirs.log_e_values_[-1], abs=1e-9)


def test_a_weighted_observation_stands_for_those_that_were_not_seen() -> None:
    """Zeros are seen one time in ten: their weight brings the mean back, and it is covered."""
    random = np.random.default_rng(13)
    misses = 0
    for _ in range(200):
        zeros, ones = random.binomial(600, 0.1), 400
        found = mean_interval(
            np.array([0.0, 1.0]),
            np.array([[zeros, ones]]),
            0.1,
            weights=np.array([10.0, 1.0]),
        )
        misses += not found.low[0] <= 0.4 <= found.high[0]
    assert misses <= 20


def test_nothing_seen_excludes_nothing() -> None:
    found = mean_interval(np.array([0.0, 1.0]), np.array([[0, 0]]), 0.05)
    assert (found.low[0], found.high[0]) == (0.0, 1.0)
