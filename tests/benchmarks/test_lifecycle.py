"""The benchmark tells a better challenger from an equal one, and says what it misses."""

from __future__ import annotations

from benchmarks.lifecycle import decided, frauds_seen, missed
from benchmarks.lifecycle_live import Answer, Phase, checked
from sentinel.experiments.assignment import draw
from sentinel.experiments.lineup import Experiment


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


def test_an_answer_of_a_model_that_held_at_no_time_is_told_from_a_change_under_way() -> None:
    begun = Experiment(name="ab", kind="challenger", version="11", share=0.95)
    card = next(f"C{n}" for n in range(50) if draw("ab", f"card/C{n}") < 0.95)
    phases = [Phase((), 0.0, 0.0), Phase((begun,), 10.0, 10.0)]

    def answer(version: str, at: float) -> Answer:
        return Answer(card, version, at, at)

    fine = [answer("1", 5.0), answer("1", 10.5), answer("11", 10.6), answer("11", 20.0)]
    assert checked(fine, phases) == {"wrong_version": 0, "unsticky": 0}
    early, late = answer("11", 5.0), answer("1", 20.0)
    assert checked([*fine, early], phases) == {"wrong_version": 1, "unsticky": 1}
    assert checked([*fine, late], phases) == {"wrong_version": 1, "unsticky": 1}
