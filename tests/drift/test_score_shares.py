"""Which feature moved the score: putting the guilty one back takes the move away."""

from __future__ import annotations

import numpy as np
import pytest

from sentinel.drift.bins import SCORE, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.score_shares import moved_scores, put_back

NAMES = ("amount", "country", "idle", SCORE)


def rows(seed: int, n: int = 6_000) -> np.ndarray:
    random = np.random.default_rng(seed)
    X = np.empty((n, 4), np.float32)
    X[:, 0] = random.normal(10.0, 3.0, n)
    X[:, 1] = random.choice(4, n, p=[0.5, 0.3, 0.15, 0.05])
    X[:, 2] = random.normal(0.0, 1.0, n)
    X[:, 3] = 0.0
    X[random.random(n) < 0.1, 0] = np.nan
    return X


REFERENCE = rows(1)
BINS = freeze_bins(REFERENCE, NAMES, categorical=["country"])
WAS = np.zeros((1, BINS.cells), np.uint32)
count_cells(BINS, REFERENCE, np.ones((len(REFERENCE), 1), np.bool_), WAS)


def score(vectors: np.ndarray) -> np.ndarray:
    return np.nan_to_num(vectors[:, 0]) / 100.0 + 0.05 * (vectors[:, 1] == 3)


def test_the_feature_that_moved_the_score_is_named_with_what_it_adds() -> None:
    now = rows(2)
    now[:, 0] += 2.0
    moved = float(score(now).mean() - score(REFERENCE).mean())
    found = moved_scores(now[:, :3], BINS, WAS[0], ["amount", "country", "idle"], score)
    assert found["amount"] == pytest.approx(moved, rel=0.15)
    assert abs(found["country"]) < 0.1 * moved
    assert found["idle"] == 0.0


def test_a_code_that_became_frequent_is_named() -> None:
    now = rows(3)
    now[:1_200, 1] = 3.0
    found = moved_scores(now[:, :3], BINS, WAS[0], ["amount", "country", "idle"], score)
    moved = float(score(now).mean() - score(REFERENCE).mean())
    assert found["country"] == pytest.approx(moved, rel=0.2)
    assert abs(found["amount"]) < 0.2 * moved


def test_values_that_went_missing_come_back_and_those_that_stay_keep_their_rank() -> None:
    now = rows(4)[:, 0]
    now[:3_000] = np.nan
    back = put_back(now, BINS.columns[0], WAS[0, BINS.slice_of("amount")], np.random.default_rng(0))
    assert np.isnan(back).mean() == pytest.approx(0.1, abs=0.01)
    assert np.nanmean(back) == pytest.approx(np.nanmean(REFERENCE[:, 0]), abs=0.2)
    known = ~np.isnan(now) & ~np.isnan(back)
    order = np.argsort(now[known], kind="stable")
    assert (np.diff(back[known][order]) >= -1e-3).mean() > 0.99


def test_values_that_have_not_moved_stay_as_they_are() -> None:
    now = rows(5)[:, 0]
    back = put_back(now, BINS.columns[0], WAS[0, BINS.slice_of("amount")], np.random.default_rng(0))
    assert np.nanmean(np.abs(back - now)) < 0.15
