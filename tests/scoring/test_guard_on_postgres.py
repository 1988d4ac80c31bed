"""A scorer that may only read the line-up stops an experiment for all scorers, and does no more."""

from __future__ import annotations

import itertools
import time

import msgspec
import psycopg
import pytest
from psycopg import sql

from sentinel.access.open_store import migrate_keys
from sentinel.domain import LedgerUnavailable, NotFound
from sentinel.drift.tables import migrate_drift
from sentinel.experiments.lineup import Canary, LineUp, started
from sentinel.experiments.stops import STOPPED_BY, Stop
from sentinel.experiments.store import change_line_up, migrate_line_ups, open_line_ups
from sentinel.ledger.open import grant_to_scorers, migrate_ledger
from sentinel.pipeline.experiment_judging import promote_experiment
from sentinel.pipeline.experiments import history, line_up_of, stop
from sentinel.policy.store import migrate_policies
from sentinel.scoring.lineups import LineUpInCharge
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import LedgerSettings, Settings
from testkit.experiments import install_version, run_experiments
from tests.scoring.test_guard import ALL_PASS, NOTHING_PASSES, STRICT
from tests.scoring.test_roles import card, decide_on, until
from tests.scoring.test_writer import PLAN, made, settings, within

__all__ = ["made", "settings"]  # fixtures

_numbers = itertools.count()
MILD = msgspec.structs.replace(STRICT, name="mild", version="22")


@pytest.fixture(scope="module", autouse=True)
def versions(made: Settings) -> None:
    install_version(made, PLAN, "21", lines=NOTHING_PASSES)
    install_version(made, PLAN, "22", lines=ALL_PASS)


@pytest.fixture
def owner(settings: Settings, postgres_url: str) -> Settings:
    """The deployment as the role that owns its tables uses it."""
    number = next(_numbers)
    roles = [f"guard_owner_{number}", f"guard_scorer_{number}"]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for role in roles:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        make = sql.SQL("GRANT CREATE ON DATABASE ledger TO {}")
        connection.execute(make.format(sql.Identifier(roles[0])))
    ledger = LedgerSettings(
        url=postgres_url.replace("postgres@", f"{roles[0]}@"),
        namespace=f"guarded_{number}",
        scorer_role=roles[1],
        retry_seconds=1.0,
    )
    made = settings.model_copy(update={"ledger": ledger})
    migrate_ledger(made)
    migrate_keys(made)
    migrate_policies(made)
    migrate_line_ups(made)
    migrate_drift(made)
    grant_to_scorers(made)
    return made


@pytest.fixture
def scorer(owner: Settings, postgres_url: str) -> Settings:
    """The same as a scorer's role uses it."""
    url = postgres_url.replace("postgres@", f"{owner.ledger.scorer_role}@")
    return owner.model_copy(update={"ledger": owner.ledger.model_copy(update={"url": url})})


def test_a_breach_ends_an_experiment_for_all_scorers_and_the_history_tells_it(
    owner: Settings, scorer: Settings
) -> None:
    run_experiments(owner, STRICT, MILD)
    other = LineUpInCharge(scorer, models=None)  # type: ignore[arg-type]  # it loads none here
    other.start()
    assert [one.name for one in other.line_up.experiments] == ["strict", "mild"]

    async def claim(runtime: ScoringRuntime) -> float:
        began = time.monotonic()
        await decide_on(runtime, [card(runtime, f"p{n}", n) for n in range(600)])
        await until(lambda: runtime.line_ups.line_up.find("strict") is None)
        seconds = time.monotonic() - began
        await until(lambda: len(runtime.writer.scorer.panel.others) == 1)
        later = await decide_on(runtime, [card(runtime, f"q{n}", n) for n in range(600)])
        assert {answer["model_version"] for answer in later} == {"1", "22"}
        return seconds

    assert within(scorer, claim) < 30
    assert other.look()  # a scorer that has seen no breach
    assert [one.name for one in other.line_up.experiments] == ["mild"]
    other.close()
    # Whoever looks at the line-up sees who stopped it, before and after it is written there.
    assert line_up_of(owner).find("strict") is None
    with pytest.raises(NotFound, match="Running: mild"):
        stop(owner, "strict", by="ann", why="too late")
    stop(owner, "mild", by="ann", why="enough")
    told = [(one.version, one.by, [e.name for e in one.experiments]) for one in history(owner, 9)]
    assert told == [
        (3, "ann", []),
        (2, STOPPED_BY, ["mild"]),
        (1, "ann", ["strict", "mild"]),
    ]
    assert "payments that it decided were stopped" in history(owner, 9)[1].why


def test_an_experiment_of_the_same_name_may_start_again(owner: Settings, scorer: Settings) -> None:
    run_experiments(owner, STRICT)
    store = open_line_ups(scorer)
    stored = store.stored()
    assert stored is not None
    said = Stop(name="strict", started_at_us=STRICT.started_at_us, why="a breach", at_us=9)
    store.stop(said)
    store.stop(said)  # as another process does that has seen it, too
    assert store.in_force(stored).experiments == ()
    assert [(one.version, one.why) for one in store.history(9)] == [(2, "a breach"), (1, "a test")]
    again = msgspec.structs.replace(STRICT, started_at_us=77)
    change_line_up(owner, lambda now: started(now, again), by="ann", why="mended", at_us=78)
    running = store.read()
    assert running is not None
    assert [one.started_at_us for one in running.experiments] == [77]
    store.close()


def test_a_canary_grows_for_all_scorers_and_the_history_tells_it(
    owner: Settings, scorer: Settings
) -> None:
    canary = msgspec.structs.replace(
        MILD,
        share=0.04,
        started_at_us=time.time_ns() // 1_000 - 3_600_000_000,
        canary=Canary(hold_seconds=0.5, growth=2.0, grew_at_us=()),
    )
    run_experiments(owner, canary)

    async def claim(runtime: ScoringRuntime) -> None:
        await until(lambda: runtime.writer.scorer.panel.others[0].share == 0.04)

    within(scorer, claim)
    assert line_up_of(owner).experiments[0].share_at(time.time_ns() // 1_000) == 0.04
    stop(owner, "mild", by="ann", why="enough")
    assert [one.by for one in history(owner, 9)] == ["ann", "canaries", "ann"]


def test_a_scorer_can_start_and_change_nothing(owner: Settings, scorer: Settings) -> None:
    run_experiments(owner, STRICT)
    with pytest.raises(LedgerUnavailable, match="lacks a right"):
        change_line_up(scorer, lambda _: LineUp(), by="me", why="mine", at_us=1)
    with pytest.raises(LedgerUnavailable, match="nothing was promoted"):
        promote_experiment(scorer, "strict", by="me", why="mine")
    assert line_up_of(owner).find("strict") is not None


def test_a_ledger_that_was_not_migrated_yet_has_no_stops(owner: Settings, scorer: Settings) -> None:
    run_experiments(owner, STRICT)
    with psycopg.connect(owner.ledger.url, autocommit=True) as connection:
        name = sql.Identifier(owner.ledger.namespace, "line_up_stops")
        connection.execute(sql.SQL("DROP TABLE {}").format(name))
    store = open_line_ups(scorer)
    found = store.read()
    store.close()
    assert found is not None
    assert found.find("strict") is not None


def test_a_scorer_that_may_not_read_stops_yet_follows_the_line_up_without_them(
    owner: Settings, scorer: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The first change after an upgrade makes their table; rights come with `ledger migrate`."""
    run_experiments(owner, STRICT)
    with psycopg.connect(owner.ledger.url, autocommit=True) as connection:
        name = sql.Identifier(owner.ledger.namespace, "line_up_stops")
        role = sql.Identifier(owner.ledger.scorer_role)
        connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(name, role))
    line_ups = LineUpInCharge(scorer, models=None)  # type: ignore[arg-type]  # it loads none here
    line_ups.start()
    run_experiments(owner, STRICT, MILD)
    assert line_ups.look()
    assert [one.name for one in line_ups.line_up.experiments] == ["strict", "mild"]
    assert len([r for r in caplog.records if "sentinel ledger migrate" in r.getMessage()]) == 1
    said = Stop(name="mild", started_at_us=MILD.started_at_us, why="a breach", at_us=9)
    store = open_line_ups(scorer)
    with pytest.raises(LedgerUnavailable, match="lacks a right"):
        store.stop(said)
    grant_to_scorers(owner)
    store.stop(said)
    store.close()
    assert line_ups.look()
    assert [one.name for one in line_ups.line_up.experiments] == ["strict"]
    line_ups.close()
