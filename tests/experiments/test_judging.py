"""A challenger is promoted if it catches more fraud, and hardly ever if it does not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sentinel.experiments.judging import (
    Kinds,
    Rules,
    Verdict,
    days_missing,
    kinds_of,
    part_estimate,
    part_interval,
    verdicts,
)

RULES = Rules()


def _verdict(kinds: Kinds, counts: list[int], days: float = 40.0, rules: Rules = RULES) -> Verdict:
    return Verdict(int(verdicts(kinds, np.array(counts), np.array(days), rules)))


def _daily(random: np.random.Generator, share: float, n: int, days: int) -> np.ndarray:
    """Frauds seen until each day where both models are worth the same, as they are caught."""
    caught = random.poisson(5.0, size=(n, days, 2))
    seen = random.binomial(caught, [share, 1.0 - share])
    return np.asarray(seen.cumsum(axis=1))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_equal_challenger_is_hardly_ever_promoted_however_often_one_looks(share: float) -> None:
    counts = _daily(np.random.default_rng(1), share, 400, 150)
    rules = Rules(least_side=0, most_days=10_000)
    found = verdicts(kinds_of(share), counts, np.arange(1.0, 151.0), rules)
    promoted = (found == Verdict.PROMOTE).any(axis=1).mean()
    assert promoted <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 400)


def test_nothing_is_promoted_before_both_sides_have_twenty() -> None:
    assert _verdict(kinds_of(0.5), [19, 200]) is Verdict.WAIT
    assert _verdict(kinds_of(0.5), [20, 200]) is Verdict.PROMOTE


def test_a_challenger_that_misses_more_is_not_kept_for_lack_of_its_own_catches() -> None:
    assert _verdict(kinds_of(0.5), [60, 3]) is Verdict.KEEP


def test_an_experiment_without_an_end_in_sight_is_stopped() -> None:
    assert _verdict(kinds_of(0.5), [300, 300], days=150.0) is Verdict.STOP
    assert _verdict(kinds_of(0.5), [2, 3], days=30.0) is Verdict.WAIT
    # Two a month on one side never become twenty in the time that is left.
    assert _verdict(kinds_of(0.1), [0, 12], days=150.0) is Verdict.STOP


def test_what_was_seen_stands_for_what_was_not() -> None:
    """At a tenth of the decisions, ten frauds seen of the champion's are worth a hundred."""
    assert part_estimate(kinds_of(0.1), np.array([10, 90])) == pytest.approx(0.5)
    assert part_estimate(kinds_of(0.5), np.array([10, 90])) == pytest.approx(0.9)


def test_hours_of_a_canary_do_not_shrink_the_bets_of_later_weeks() -> None:
    kinds = Kinds(
        challenger=np.array([False, True, False, True]),
        share=np.array([0.01, 0.01, 0.5, 0.5]),
        propensity=np.ones(4),
    )
    alone = part_interval(kinds_of(0.5), np.array([[56, 98]]), RULES)
    after = part_interval(kinds, np.array([[0, 3, 56, 98]]), RULES)
    assert after.low[0] == pytest.approx(alone.low[0], abs=0.005)
    assert _verdict(kinds, [0, 3, 56, 98]) is Verdict.PROMOTE


def test_frauds_that_the_control_group_let_through_stand_for_those_it_did_not() -> None:
    kinds = Kinds(
        challenger=np.array([False, True, False, True]),
        share=np.full(4, 0.5),
        propensity=np.array([1.0, 1.0, 0.25, 0.25]),
    )
    assert kinds.weights.tolist() == [2.0, 2.0, 8.0, 8.0]
    assert part_estimate(kinds, np.array([30, 30, 10, 0])) == pytest.approx(60 / 200)


def test_control_group_weights_promote_an_equal_challenger_no_more_often() -> None:
    """Half of the disagreements would be stopped all the same, and one in five of them passes."""
    random = np.random.default_rng(2)
    share, passes, n, days = 0.5, 0.2, 300, 120
    caught = random.poisson(3.0, size=(n, days, 4))
    seen = random.binomial(caught, [share, 1 - share, share * passes, (1 - share) * passes])
    kinds = Kinds(
        challenger=np.array([False, True, False, True]),
        share=np.full(4, share),
        propensity=np.array([1.0, 1.0, passes, passes]),
    )
    rules = Rules(least_side=0, most_days=10_000)
    found = verdicts(kinds, seen.cumsum(axis=1), np.arange(1.0, days + 1), rules)
    promoted = (found == Verdict.PROMOTE).any(axis=1).mean()
    assert promoted <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / n)


def test_what_is_missing_falls_as_frauds_come_in() -> None:
    early = days_missing(kinds_of(0.5), np.array([16, 28]), 10.0, RULES)
    late = days_missing(kinds_of(0.5), np.array([40, 70]), 25.0, RULES)
    assert 0 < late < early < math.inf
    assert days_missing(kinds_of(0.5), np.array([30, 30]), 10.0, RULES) == math.inf
    assert days_missing(kinds_of(0.5), np.array([0, 0]), 10.0, RULES) == math.inf
