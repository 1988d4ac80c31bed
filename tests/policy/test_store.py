"""What every place that keeps versions of a policy does alike, and what a scorer makes of them."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sentinel.documents.postgres import PostgresDocuments
from sentinel.documents.sqlite import SqliteDocuments
from sentinel.documents.store import Change, DocumentStore, restored
from sentinel.domain import ConfigurationError, LedgerUnavailable, NotFound, WorkspaceError
from sentinel.ledger.database import Database
from sentinel.models.thresholds import Thresholds
from sentinel.policy.degraded import DegradedPolicy
from sentinel.policy.economics import Costs, Segment
from sentinel.policy.exploration import exploration_key
from sentinel.policy.ruling import Policy
from sentinel.policy.store import POLICY, open_policies
from sentinel.policy.versions import Exploring, PolicyVersion, Terms
from sentinel.scoring.policies import PolicyInCharge
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from tests.scoring.followed_log import PLAN
from tests.scoring.one_scorer import made, settings, within

__all__ = ["made", "settings"]  # fixtures

COSTS = Costs(fee_minor=1_500, false_decline_minor=500, review_minor=300)
TERMS = Terms(
    costs=COSTS,
    segments=(Segment(name="app", field="attributes.channel", values=("app",), costs=COSTS),),
    reviews_per_day=40,
    exploring=Exploring(budget_minor=50_000, most_amount_minor=30_000),
)
VERSION = PolicyVersion(terms=TERMS, shadow_price_minor=12.5, by="ann", why="first", at_us=1)
Policies = DocumentStore[PolicyVersion]
_numbers = itertools.count()


def always(version: PolicyVersion | None) -> Change[PolicyVersion]:
    """A change to this version, whatever was before."""
    return lambda _: version


def damage(store: Policies) -> None:
    """Add a version that says something that no Sentinel reads, as a newer one may."""

    class Other(PolicyVersion, frozen=True, kw_only=True):
        share: str = "all"  # type: ignore[assignment]

    made = Other(**(msgspec.structs.asdict(VERSION) | {"share": "all"}))
    store.add(always(made))


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Policies]:
    opened: Policies
    if request.param == "sqlite":
        opened = SqliteDocuments(POLICY, tmp_path / "policy.db")
    else:
        url: str = request.getfixturevalue("postgres_url")
        opened = PostgresDocuments(POLICY, Database(url, f"policy_{next(_numbers)}"))
    yield opened
    opened.close()


def test_a_place_without_versions_holds_nothing_and_is_not_made_by_a_question(
    store: Policies, tmp_path: Path
) -> None:
    assert (store.latest(), store.read(), store.history(5)) == (0, None, [])
    assert list(tmp_path.iterdir()) == []


def test_versions_are_counted_and_kept_as_they_were(store: Policies) -> None:
    first = store.add(always(VERSION))
    assert first == msgspec.structs.replace(VERSION, version=1)
    for share in (0.01, 0.02, 0.03):
        store.add(always(msgspec.structs.replace(VERSION, share=share)))
    assert store.latest() == 4
    assert store.read(1) == first
    newest = store.read()
    assert newest is not None
    assert (newest.version, newest.share) == (4, 0.03)
    assert [version.version for version in store.history(2)] == [4, 3]
    assert [version.version for version in store.history(9, before=3)] == [2, 1]
    assert restored(store, 2).share == 0.01
    with pytest.raises(NotFound, match="no version 7 of the policy; the latest one is 4"):
        restored(store, 7)


def test_a_change_that_is_refused_or_makes_nothing_leaves_all_as_it_was(
    store: Policies,
) -> None:
    store.add(always(VERSION))

    def refuse(before: PolicyVersion | None) -> PolicyVersion:
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError, match="no"):
        store.add(refuse)
    assert store.add(always(None)) is None
    assert store.latest() == 1


def test_changes_at_once_come_one_after_the_other(store: Policies) -> None:
    def next_one(before: PolicyVersion | None) -> PolicyVersion:
        price = 0.0 if before is None else before.shadow_price_minor + 1
        return msgspec.structs.replace(VERSION, shadow_price_minor=price)

    store.add(next_one)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.add(next_one), range(12)))
    newest = store.read()
    assert newest is not None
    assert (newest.version, newest.shadow_price_minor) == (13, 12.0)


def test_a_version_of_a_newer_format_is_refused_by_name(store: Policies) -> None:
    store.add(always(msgspec.structs.replace(VERSION, format=9)))
    with pytest.raises(ConfigurationError, match="Version 1 of the policy has format 9"):
        store.read()


@pytest.mark.parametrize(
    "content",
    [
        {"shadow_price_minor": math.inf},
        {"share": math.nan},
        {"terms": Terms(exploring=Exploring(budget_minor=1, most_count=math.inf))},
        {"why": "caf\udce9"},
    ],
)
def test_what_could_not_be_read_again_is_not_stored(
    store: Policies, content: dict[str, object]
) -> None:
    first = store.add(always(VERSION))
    with pytest.raises(ConfigurationError, match=r"could not be read again .* before holds on"):
        store.add(always(msgspec.structs.replace(VERSION, **content)))
    assert store.read() == first
    assert store.latest() == 1


def test_another_version_follows_one_that_cannot_be_read_where_that_is_asked_for(
    store: Policies,
) -> None:
    first = store.add(always(VERSION))
    damage(store)
    with pytest.raises(ConfigurationError, match="Version 2 of the policy cannot be read"):
        store.read()
    with pytest.raises(ConfigurationError, match="Version 2 of the policy cannot be read"):
        store.add(always(VERSION))
    assert store.latest() == 2
    assert restored(store, 1) == first
    third = store.add(always(VERSION), over_unreadable=True)
    assert third == msgspec.structs.replace(VERSION, version=3)
    assert store.read() == third


def test_a_scorer_says_why_a_version_does_not_hold_until_another_one_does(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    policies = PolicyInCharge(settings)
    store = open_policies(settings)
    store.add(always(VERSION))
    assert policies.look()
    damage(store)
    assert not policies.look()
    # Another champion asks for the policy anew, and the problem is as it was.
    policies.of(Thresholds(fraud=0.5, review=0.4, decline=0.9), PLAN)
    assert "Version 2 of the policy cannot be read" in (policies.problem or "")
    store.add(always(VERSION), over_unreadable=True)
    assert policies.look()
    assert policies.problem is None
    policies.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.db"
    path.write_bytes(b"no database at all, whatever its name says")
    with pytest.raises(LedgerUnavailable, match="cannot be used"):
        SqliteDocuments(POLICY, path).latest()
    path.write_bytes(b"")
    with pytest.raises(WorkspaceError, match="is no file of the policy"):
        SqliteDocuments(POLICY, path).latest()


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"costs": None}, "need costs"),
        ({"reviews_per_day": -1.0}, "reviews_per_day is 0 or more"),
        ({"exploring": Exploring(budget_minor=-1)}, "both are 0 or more"),
        ({"exploring": Exploring(budget_minor=1, most_share=0.2)}, "it lies from 0 to 0.05"),
        ({"exploring": Exploring(budget_minor=1, count_feature="n")}, "belong together"),
        ({"bands": Thresholds(fraud=0.5, review=0.9, decline=0.8)}, "review 0.9, decline 0.8"),
        ({"bands": Thresholds(fraud=0.5, review=30, decline=90)}, "probabilities from 0 to 1"),
        ({"bands": Thresholds(fraud=math.inf, review=0, decline=1)}, "probabilities from 0 to 1"),
        ({"bands": Thresholds(fraud=math.nan, review=0, decline=1)}, "probabilities from 0 to 1"),
        ({"reviews_per_day": math.inf}, "leave it out where analysts have time for all"),
        ({"reviews_per_day": math.nan}, "reviews_per_day is 0 or more"),
        ({"exploring": Exploring(budget_minor=math.inf)}, "the budget is inf"),
        ({"exploring": Exploring(budget_minor=1, payments=math.inf)}, "the payments are inf"),
        ({"exploring": Exploring(budget_minor=1, most_amount_minor=-4)}, "most_amount_minor is -4"),
        (
            {"exploring": Exploring(budget_minor=1, count_feature="n", most_count=math.inf)},
            "most_count is inf; it is 0 or more",
        ),
        (
            {"exploring": Exploring(budget_minor=1, count_feature="n", most_count=math.nan)},
            "most_count is nan; it is 0 or more",
        ),
    ],
)
def test_terms_that_cannot_be_are_refused(terms: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        msgspec.structs.replace(TERMS, **terms).check()


def test_another_model_keeps_the_costs_and_brings_its_own_lines() -> None:
    TERMS.check()
    policies = [
        VERSION.policy(Thresholds(fraud=line, review=line, decline=0.9), DegradedPolicy())
        for line in (0.4, 0.5)
    ]
    assert policies[0].economics == policies[1].economics
    assert policies[0].bands != policies[1].bands
    assert policies[0].control is None  # until a share is worked out


def test_a_scorer_takes_a_new_version_within_a_second_and_an_old_one_again(
    settings: Settings,
) -> None:
    store = open_policies(settings)

    async def until(runtime: ScoringRuntime, wanted: Policy) -> float:
        began = time.perf_counter()
        while runtime.writer.scorer.policy != wanted:
            assert time.perf_counter() < began + 30
            await asyncio.sleep(0.01)
        return time.perf_counter() - began

    async def claim(runtime: ScoringRuntime) -> None:
        model = runtime.writer.scorer.model
        assert model is not None
        bands, swaps = model.manifest.thresholds, runtime.metrics.model_swaps
        assert runtime.writer.scorer.policy == Policy(bands)
        secret = exploration_key(settings).check
        first = msgspec.structs.replace(VERSION, share=0.02, key_check=secret)
        second = msgspec.structs.replace(VERSION, shadow_price_minor=99.0)
        for version in (first, second, first):
            await asyncio.to_thread(store.add, always(version))
            assert await until(runtime, version.policy(bands, DegradedPolicy())) < 1.0
            assert (runtime.writer.scorer.key is not None) == (version.share > 0)

        def problem() -> str:
            return runtime.policies.problem or ""

        assert problem() == ""
        assert runtime.metrics.model_swaps == swaps  # nothing was loaded, nothing retrained
        # Without the secret that the share was made for, nothing is let through.
        other = msgspec.structs.replace(first, key_check="another")
        await asyncio.to_thread(store.add, always(other))
        while not problem():
            await asyncio.sleep(0.01)
        assert "another secret" in problem()

    within(settings, claim)

    async def after_a_restart(runtime: ScoringRuntime) -> None:
        policy = runtime.writer.scorer.policy
        assert policy is not None
        assert policy.economics == TERMS.economics(12.5)

    within(settings, after_a_restart)
