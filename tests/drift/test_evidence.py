"""Bets on a change are fair or worse while nothing changes, and grow once something does."""

from __future__ import annotations

import numpy as np
import pytest

from sentinel.drift.evidence import BETS, _compound, prices, shifts
from sentinel.drift.rhythm import _MARGIN

SHARES = np.array([0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 0.97])


def bets(smallest: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    shift = shifts(SHARES, np.zeros(len(SHARES)), smallest)
    return shift, prices(shift, SHARES, SHARES)


def test_the_expected_gain_of_one_payment_is_at_most_one() -> None:
    """Exactly, not by simulation: a payment answers yes or no."""
    shift, price = bets()
    p = SHARES[:, None]
    power = price * p * (1 - p)
    expected = p * np.exp(shift * (1 - p) - power) + (1 - p) * np.exp(-shift * p - power)
    assert (expected <= 1 + 1e-12).all()
    assert (shift != 0).sum() > 2 * BETS, "and bets are made"


@pytest.mark.parametrize("true", SHARES)
def test_a_price_of_a_range_of_shares_is_fair_for_each_of_them(true: float) -> None:
    least, most = np.full(1, 0.001), np.full(1, 0.97)
    shift = shifts(np.full(1, 0.3), np.zeros(1), 0.05)
    power = prices(shift, least, most) * true * (1 - true)
    gain = true * np.exp(shift * (1 - true) - power) + (1 - true) * np.exp(-shift * true - power)
    assert (gain <= 1 + 1e-12).all()


def test_the_capital_of_a_day_that_strays_by_chance_is_at_most_one_on_average() -> None:
    # Log odds that are normal give shares that are a little skewed: the margin covers that, too.
    rng = np.random.default_rng(1)
    share, tau, events = 0.3, 0.08, 4_000
    odds = np.log(share / (1 - share)) + tau * rng.standard_normal(200_000)
    x = rng.binomial(events, 1 / (1 + np.exp(-odds)))
    residual, information = x - events * share, events * share * (1 - share)
    shift = shifts(np.array([share]), np.zeros(1), 0.05)
    price = prices(shift, np.array([share]), np.array([share]))[0]
    for far, cost in zip(shift[0], price, strict=True):
        spread = 1 + _MARGIN * tau**2 * information
        capital = np.exp((far * residual - cost * information) / spread)
        assert capital.mean() <= 1
        plain = np.exp(np.minimum(far * residual - cost * information, 50))
        assert plain.mean() > 100, "as independent payments they would be worth far more"


def test_sums_follow_their_recursion_and_never_exceed_it() -> None:
    rng = np.random.default_rng(2)
    powers = rng.normal(0, 2, 1_000).astype(np.float32)
    before = rng.exponential(50, 1_000).astype(np.float32)
    shares = (rng.random(1_000) < 0.9).astype(np.float32)
    sums = before.copy()
    _compound(powers, sums, shares)
    exact = np.exp(powers.astype(np.float64)) * (before + 1.0)
    on = shares > 0
    assert (sums[~on] == 0).all()
    assert (sums[on] <= exact[on] * 1.0001).all()
    assert (sums[on] >= exact[on] * 0.9).all()


def test_what_cannot_move_so_far_or_is_not_known_so_well_is_not_bet_on() -> None:
    upwards, downwards = shifts(np.array([0.02]), np.zeros(1), 0.05)[0].reshape(2, -1)
    assert (upwards > 0).all()
    assert (downwards == 0).all(), "a share of 0.02 cannot fall by 0.05"
    assert (shifts(np.array([0.5]), np.array([1.0]), 0.05) == 0).all()
