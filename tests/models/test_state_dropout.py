"""Fitting hides the state of some payments, exactly as a degraded decision lacks it."""

from __future__ import annotations

import numpy as np
import pytest

from sentinel.features.plan.program import compile_program
from sentinel.models.evaluation import average_precision
from sentinel.models.state_dropout import drop_state, stateful
from sentinel.models.trainers import train
from sentinel.state.without_state import WithoutState
from testkit.scratch import default_plan
from tests.ledger.material import NOON_US, transaction


def test_what_is_hidden_is_what_a_degraded_decision_does_not_know() -> None:
    plan = default_plan()
    payments = [transaction(i, NOON_US + i) for i in range(4)]
    degraded = WithoutState(compile_program(plan)).reading(payments, "away").vectors
    known = ~np.isnan(degraded)
    assert not known[:, stateful(plan)].any()
    whole = np.where(known, degraded, np.float32(7.0))
    hidden = drop_state(whole, plan, 1.1, seed=1)
    assert np.isnan(hidden[:, stateful(plan)]).all()
    np.testing.assert_array_equal(hidden[:, ~stateful(plan)], whole[:, ~stateful(plan)])
    assert not np.isnan(whole).any(), "the vectors themselves stay"


def test_the_share_is_kept_and_the_draw_is_the_seed_s() -> None:
    plan = default_plan()
    X = np.ones((20_000, len(plan.feature_names)), dtype=np.float32)
    hidden = drop_state(X, plan, 0.05, seed=3)
    rows = np.isnan(hidden).any(axis=1)
    assert rows.mean() == pytest.approx(0.05, abs=0.01)
    np.testing.assert_array_equal(hidden, drop_state(X, plan, 0.05, seed=3))
    assert drop_state(X, plan, 0.0, seed=3) is X


def test_a_model_that_has_met_hidden_state_gives_it_the_share_of_fraud_it_has() -> None:
    """One that has not takes nulls for zeros, the state of good payments."""
    plan = default_plan()
    random = np.random.default_rng(2)
    fraud = random.random(20_000) < 0.1
    X = np.zeros((20_000, len(plan.feature_names)), dtype=np.float32)
    X[:, np.flatnonzero(stateful(plan))[0]] = random.normal(3.0 * fraud)
    X[:, plan.feature_names.index("amount")] = random.normal(1.5 * fraud)
    hidden = drop_state(X, plan, 1.1, seed=1)
    scores = []
    for share in (0.0, 0.05):
        model = train(
            "lightgbm",
            drop_state(X, plan, share, seed=4),
            fraud,
            feature_names=plan.feature_names,
            threads=1,
            parameters={"rounds": 40},
        )
        scores.append((model.raw_score(X), model.raw_score(hidden)))
    (plain, plain_hidden), (met, met_hidden) = scores
    assert average_precision(fraud, met) > average_precision(fraud, plain) - 0.02
    base = float(fraud.mean())
    met_probability = 1.0 / (1.0 + np.exp(-met_hidden))
    plain_probability = 1.0 / (1.0 + np.exp(-plain_hidden))
    assert met_probability.mean() == pytest.approx(base, rel=0.3)
    assert plain_probability.mean() < 0.7 * base
