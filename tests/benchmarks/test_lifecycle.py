"""The benchmark tells a better challenger from an equal one, and says what it misses."""

from __future__ import annotations

from benchmarks.lifecycle import decided, frauds_seen, missed


def test_a_better_challenger_is_promoted_and_an_equal_one_is_not() -> None:
    better = decided(frauds_seen(80, 0.04, 0.07, 0.5, seed=1, shape=(200, 80)), 0.5)
    equal = decided(frauds_seen(80, 0.055, 0.055, 0.5, seed=2, shape=(200, 80)), 0.5)
    assert better["promoted"] > 0.9
    assert better["median_days"] < 35
    assert equal["promoted"] < 0.05
    assert equal["median_days"] is None


def test_what_is_missed_is_said() -> None:
    found = {"median_days": None, "equal_promoted": {"0.1": 0.01, "0.5": 0.04}}
    assert len(missed(found)) == 2
    assert not missed({"median_days": 28.0, "equal_promoted": {"0.1": 0.01, "0.5": 0.01}})
