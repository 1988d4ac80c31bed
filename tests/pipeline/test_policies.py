"""What a policy would do is said before it applies, and what cannot be known is said as such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import ConfigurationError, NotFound
from sentinel.models.thresholds import Thresholds
from sentinel.pipeline.decided_payments import decided_payments
from sentinel.pipeline.policies import apply, history, preview, refresh
from sentinel.policy.economics import Costs, Segment
from sentinel.policy.exploration import ControlGroup, ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.policy.versions import Exploring, Terms
from sentinel.settings import Settings
from testkit.decided_worlds import DecidedWorld, decided_world

LINES = Thresholds(fraud=0.5, review=0.45, decline=0.6)
COSTS = Costs(
    lost_share=0.9,
    fee_minor=1_500,
    false_decline_minor=2_500,
    false_decline_share=0.05,
    review_minor=300,
    missed_share=0.1,
    stopped_share=0.02,
)
TERMS = Terms(costs=COSTS, reviews_per_day=3)
ALLOWED = Terms(costs=COSTS, reviews_per_day=3, exploring=Exploring(budget_minor=10**9))
SHARE = 0.05


@pytest.fixture(scope="module")
def explored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, DecidedWorld]:
    """A deployment that lets a twentieth of what it stops through."""
    settings = Settings(workspace=tmp_path_factory.mktemp("explored"))
    policy = Policy(LINES, control=ControlGroup(share=SHARE))
    return settings, decided_world(settings, policy, key=ExplorationKey(b"0123456789abcdef"))


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One that lets nothing through."""
    settings = Settings(workspace=tmp_path_factory.mktemp("blind"))
    decided_world(settings, Policy(LINES), payments=8_000)
    return settings


def test_what_nobody_can_know_is_unknown(explored: tuple[Settings, DecidedWorld]) -> None:
    settings, world = explored
    rows = decided_payments(settings, TERMS, 365)
    assert len(rows) == len(world.fraud)
    assert rows.base_outcome.tolist() == world.base_outcome.tolist()
    truth, mature = rows.truth(), rows.mature
    assert 0.5 < mature.mean() < 0.75  # thirty of ninety days are too young
    declined = world.outcome == 2
    assert (truth[declined | ~mature] == -1).all()
    known = truth != -1
    assert (truth[known] == world.fraud[known]).all()
    assert known[mature & ~declined].mean() == 1.0
    weight = rows.weight()
    passed = known & rows.explored & (world.base_outcome == 2)
    assert weight[passed] == pytest.approx(1 / SHARE)
    # Known payments stand for all of them, the declined ones included.
    assert weight.sum() == pytest.approx(mature.sum(), rel=0.02)


def test_a_preview_tells_what_lines_do_where_a_control_group_shows_it(
    explored: tuple[Settings, DecidedWorld],
) -> None:
    settings, world = explored
    found = preview(settings, TERMS)
    assert found.known.source == "decisions"
    assert found.not_measured == {}
    mature = decided_payments(settings, TERMS, 120).mature
    economics = TERMS.economics(found.workings.shadow_price_minor)
    rows = decided_payments(settings, TERMS, 120)
    ruled = economics.outcomes(rows.probability, rows.amount_minor, rows.segment)
    declined = mature & (ruled == 2)
    precision = found.figures["precision_of_declines"]
    assert precision.low <= world.probability[declined].mean() <= precision.high
    assert found.figures["decline_rate"].value == pytest.approx(declined.sum() / mature.sum())
    stopped = found.known.stopped_precision
    true = world.fraud[mature & (world.base_outcome > 0)].mean()
    assert stopped.low <= true <= stopped.high
    assert 0.8 < found.known.represented < 1.2
    # Costs are the ground: this policy is cheaper than the bands were, on the same payments.
    new, old = (f["cost_per_1000_minor"].value for f in (found.figures, found.figures_now))
    assert new < old
    # Both on the same draws of cards, so that the difference is known better than either.
    apart = found.differences["cost_per_1000_minor"]
    assert apart.value == pytest.approx(new - old)
    assert apart.high < 0
    both = found.figures["cost_per_1000_minor"], found.figures_now["cost_per_1000_minor"]
    assert apart.high - apart.low < sum(one.high - one.low for one in both) / 2
    for one in found.calibration[:3]:  # approved, reviewed, declined
        assert one.observed.low <= one.predicted <= one.observed.high, one
    lines = [line.review for line in found.lines]
    assert lines == sorted(lines, reverse=True)


def test_without_a_control_group_the_unknown_is_named_and_priced(blind: Settings) -> None:
    found = preview(blind, TERMS)
    assert found.known.explored == 0
    assert "precision_of_declines" not in found.figures
    assert "known payments stand for" in found.not_measured["precision_of_declines"]
    assert "review_rate" in found.figures
    looked = refresh(blind)
    assert looked.version is None
    assert not looked.changed
    assert (looked.workings.share, looked.workings.half_width) == (0.0, 0.5)
    assert looked.workings.possible_share == 0.05  # a small merchant: no more than a twentieth
    assert looked.workings.possible_explored < 60
    assert looked.workings.possible_cost_minor > 0
    assert 0.1 < looked.workings.possible_half_width < 0.5
    assert not (blind.workspace / "policy.db").exists()


def test_the_share_aims_at_sixty_a_month_within_the_budget(
    explored: tuple[Settings, DecidedWorld],
) -> None:
    settings, _ = explored
    free = preview(settings, ALLOWED).workings
    assert free.share == pytest.approx(min(0.05, 60 / free.eligible_a_month), abs=1e-6)
    assert free.explored_a_month == pytest.approx(free.share * free.eligible_a_month)
    half = Exploring(budget_minor=free.cost_minor / 2, most_amount_minor=10**12)
    bounded = preview(settings, Terms(costs=COSTS, reviews_per_day=3, exploring=half)).workings
    assert bounded.share == pytest.approx(free.share / 2, rel=1e-3)
    assert bounded.cost_minor <= half.budget_minor * (1 + 1e-3)
    cheap = Exploring(budget_minor=10**9, most_amount_minor=2_000)
    limited = preview(settings, Terms(costs=COSTS, exploring=cheap)).workings
    assert limited.eligible_a_month < 0.6 * limited.stopped_a_month


def test_reviews_are_as_many_as_analysts_can_do(explored: tuple[Settings, DecidedWorld]) -> None:
    settings, _ = explored
    found = preview(settings, TERMS).workings
    assert found.reviews_wanted_a_day > 3
    assert found.shadow_price_minor > 0
    assert 2 < found.reviews_a_day <= 3
    nobody = preview(settings, Terms(costs=COSTS, reviews_per_day=0)).workings
    assert nobody.reviews_a_day == 0
    assert nobody.declines_a_day > 0


def test_a_version_says_who_and_why_and_an_older_one_can_hold_again(
    explored: tuple[Settings, DecidedWorld], tmp_path: Path
) -> None:
    settings = explored[0].model_copy(update={"workspace": tmp_path})
    (tmp_path / "ledger.db").symlink_to(explored[0].ledger_path)
    first, _ = apply(settings, ALLOWED, by="ann", why="costs of the finance team")
    assert (first.version, first.by, first.why) == (1, "ann", "costs of the finance team")
    assert first.share > 0
    assert first.key_check
    again = refresh(settings)  # nothing came since
    assert (again.changed, again.version) == (False, first)
    blind_again, _ = apply(settings, TERMS, by="bob", why="no money for it")
    assert (blind_again.share, blind_again.key_check) == (0.0, "")
    back, _ = apply(settings, None, by="ann", why="the board said yes", version=1)
    assert (back.version, back.restores) == (3, 1)
    assert back.same_content(first)
    assert [version.version for version in history(settings)] == [3, 2, 1]
    with pytest.raises(NotFound, match="no version 9"):
        apply(settings, None, by="ann", why="a slip", version=9)
    with pytest.raises(ConfigurationError, match="who makes it, and why"):
        apply(settings, TERMS, by="ann", why=" ")
    assert len(history(settings)) == 3


def test_a_segment_has_lines_of_its_own(explored: tuple[Settings, DecidedWorld]) -> None:
    settings, _ = explored
    dear = Segment(
        name="app",
        field="attributes.channel",
        values=("app",),
        costs=Costs(false_decline_minor=50_000, review_minor=300),
    )
    terms = Terms(costs=COSTS, segments=(dear,))
    rows = decided_payments(settings, terms, 120)
    assert rows.segment.mean() == pytest.approx(0.25, abs=0.01)
    ruled = terms.economics(0.0).outcomes(rows.probability, rows.amount_minor, rows.segment)
    shares = [np.mean(ruled[rows.segment == code] == 2) for code in (0, 1)]
    assert shares[1] < 0.5 * shares[0]
    found = preview(settings, terms)
    assert {line.segment for line in found.lines} == {"", "app"}
    by_segment = [one for one in found.calibration if "segment" in one.of]
    assert [one.of for one in by_segment] == ["in no segment", "segment app"]
    for one in by_segment:
        assert one.observed.low <= one.predicted <= one.observed.high, one
    assert not any("segment" in one.of for one in preview(settings, TERMS).calibration)


def test_what_was_decided_differs_from_itself_by_nothing(
    explored: tuple[Settings, DecidedWorld],
) -> None:
    settings, _ = explored
    found = preview(settings, Terms())  # no costs and no bands: what was decided stays
    assert found.differences.keys() == found.figures.keys()
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in found.differences.values())


def test_only_the_last_weeks_are_read(explored: tuple[Settings, DecidedWorld]) -> None:
    settings, world = explored
    recent = decided_payments(settings, TERMS, 28).recent(28)
    assert recent.days == pytest.approx(28, abs=0.1)
    assert len(recent.probability) == pytest.approx(len(world.fraud) * 28 / 90, rel=0.05)
