"""An alert is pending, fires and is resolved, and a storm of them has a bound."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sentinel.alerts.catalogue import ALERTS
from sentinel.alerts.conditions import CONDITIONS, ScorerSeen, Seen, judge
from sentinel.alerts.scraped import Growth, Looks, scraped
from sentinel.alerts.states import KEEP_RESOLVED_US, MOST_ALERTS, Found, Held, Pace, moved_on
from sentinel.alerts.store import Acknowledgement, AlertStore
from sentinel.domain import LedgerUnavailable, WorkspaceError

S = 1_000_000
PACE = Pace(page_us=60 * S, ticket_us=600 * S)
ILL = {"NoScorer": [Found("", "gone")]}
WELL: dict[str, list[Found]] = {"NoScorer": []}
KEY = ("NoScorer", "")


def test_an_alert_fires_once_its_condition_has_held_long_enough_and_is_resolved_after_it() -> None:
    held, _ = moved_on({}, ILL, 1_000 * S, PACE)
    assert held[KEY].state == "pending"
    held, _ = moved_on(held, ILL, 1_059 * S, PACE)
    assert held[KEY].state == "pending"
    held, _ = moved_on(held, ILL, 1_060 * S, PACE)
    assert (held[KEY].state, held[KEY].fired_at_us) == ("firing", 1_060 * S)
    held, _ = moved_on(held, WELL, 1_100 * S, PACE)
    assert (held[KEY].state, held[KEY].resolved_at_us) == ("resolved", 1_100 * S)
    assert moved_on(held, WELL, 1_100 * S + KEEP_RESOLVED_US, PACE)[0] == {}


def test_a_clock_that_is_set_back_keeps_no_alert_from_firing_or_from_being_forgotten() -> None:
    ahead = 100_000 * S
    held, _ = moved_on({}, ILL, ahead, PACE)
    held, _ = moved_on(held, ILL, 1_000 * S, PACE)
    assert held[KEY].state == "pending"
    held, _ = moved_on(held, ILL, 1_060 * S, PACE)
    assert held[KEY].state == "firing"
    held, _ = moved_on(held, WELL, ahead, PACE)
    held, _ = moved_on(held, WELL, 2_000 * S, PACE)
    assert moved_on(held, WELL, 2_000 * S + KEEP_RESOLVED_US, PACE)[0] == {}


def test_what_holds_for_a_moment_only_is_forgotten() -> None:
    held, _ = moved_on({}, ILL, 0, PACE)
    assert moved_on(held, WELL, 30 * S, PACE)[0] == {}


def test_an_alert_that_was_resolved_needs_as_long_to_fire_again() -> None:
    held = {KEY: Held(name="NoScorer", subject="", state="resolved", summary="", since_us=0,
                      fired_at_us=S, resolved_at_us=2 * S)}  # fmt: skip
    held, _ = moved_on(held, ILL, 100 * S, PACE)
    held, _ = moved_on(held, WELL, 130 * S, PACE)
    held, _ = moved_on(held, ILL, 170 * S, PACE)
    assert held[KEY].state == "resolved"
    held, _ = moved_on(held, ILL, 230 * S, PACE)
    assert (held[KEY].state, held[KEY].fired_at_us) == ("firing", 230 * S)


def test_a_condition_that_cannot_be_judged_leaves_its_alert_as_it_is() -> None:
    held, _ = moved_on({}, ILL, 0, PACE)
    held, _ = moved_on(held, ILL, 60 * S, PACE)
    assert moved_on(held, {}, 120 * S, PACE)[0] == held


def test_more_alerts_than_there_is_room_for_are_counted() -> None:
    many = {"DriftFound": [Found(str(n), "moved") for n in range(MOST_ALERTS + 7)]}
    held, left_out = moved_on({}, many, 0, PACE)
    assert (len(held), left_out) == (MOST_ALERTS, 7)


def test_every_alert_has_a_condition() -> None:
    assert list(CONDITIONS) == list(ALERTS)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("NoScorer", {"scorers": [ScorerSeen(address="a", problem="refused")]}),
        (
            "ScorerDown",
            {"scorers": [ScorerSeen(address="a", problem="refused"), ScorerSeen(address="b")]},
        ),
        ("RedisDown", {"redis_problem": "Redis does not answer"}),
        ("DiskNearlyFull", {"disk": ("/data", 0.91)}),
        ("LabelsStopped", {"labels_silent_us": 10 * S, "labels_accepted_us": 9 * S}),
        ("DriftFound", {"drift": {"amount": "moved"}}),
    ],
)
def test_what_is_ill_raises_its_alert_and_no_other(name: str, seen: dict) -> None:
    well: dict[str, Any] = {
        "at_us": S,
        "scorers": [ScorerSeen(address="a")],
        "redis_problem": "",
        "drift": {},
        "disk": ("/data", 0.5),
        "labels_silent_us": 0,
        "labels_accepted_us": S,
    }
    assert not any(judge(Seen(**well)).values())
    judged = judge(Seen(**(well | seen)))
    assert [other for other, found in judged.items() if found] == [name]


def figures(at: int, **totals: float) -> str:
    """What a scorer says that decides ten payments a second, all of them quick at first."""
    plain = {"start_time_seconds": 1.0} | totals
    lines = [f"sentinel_{name} {value}" for name, value in plain.items()]
    bucket = "sentinel_decision_latency_seconds_bucket"
    lines += [
        f'sentinel_decisions_total{{outcome="approve"}} {at * 10}',
        f'sentinel_decisions_total{{outcome="decline"}} {totals.get("declined", 0)}',
        f'sentinel_problems_total{{route="/predict",status="503"}} {totals.get("errors", 0)}',
        f'{bucket}{{le="0.1"}} {at * 10 - totals.get("slow", 0)}',
        f'{bucket}{{le="1.0"}} {at * 10}',
        f'{bucket}{{le="+Inf"}} {at * 10}',
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "later"),
    [
        ("DegradedDecisions", {"degraded_decisions_total": 3}),
        ("CommitFailures", {"commit_failures_total": 1}),
        ("ErrorAnswers", {"errors": 40}),
        ("SlowDecisions", {"slow": 100}),
        ("AlertShareJumped", {"declined": 300}),
        ("IndexBehind", {"ledger_sequence": 60_000}),
        ("StateNearlyFull", {"state_held_bytes": 90, "state_budget_bytes": 100}),
        ("SnapshotsOld", {"ledger_sequence": 4e6, "indexed_sequence": 4e6, "snapshot_sequence": 9}),
        ("ChampionRefused", {"model_problem": 1}),
        ("RegistryAway", {"registry_answered_time_seconds": 1.0}),
    ],
)
def test_figures_of_a_scorer_raise_their_alert_and_no_other(
    name: str, later: dict[str, float]
) -> None:
    def looked(second: dict[str, float]) -> list[str]:
        looks = Looks(300 * S)
        for at, totals in ((1_000, {}), (1_100, second)):
            text = figures(at, **dict.fromkeys(second, 0.0) | totals)
            looks.add(scraped(text, at * S))
        one = ScorerSeen(address="a", now=looks.last, growth=looks.growth())
        judged = judge(Seen(at_us=1_100 * S, scorers=[one], usual=(10_000, 100)))
        return [name for name, found in judged.items() if found]

    assert looked({}) == []
    assert looked(later) == [name]


@pytest.mark.parametrize(("stopped", "jumped"), [(4, False), (5, True)])
def test_a_few_stopped_payments_are_no_jump(stopped: int, jumped: bool) -> None:
    growth = Growth(seconds=300, decisions=60, stopped=stopped, degraded=0, errors=0,
                    commit_failures=0, latency_p99_seconds=0.01)  # fmt: skip
    one = ScorerSeen(address="a", now=scraped(figures(9), 9 * S), growth=growth)
    judged = judge(Seen(at_us=9 * S, scorers=[one], usual=(10_000, 100)))
    assert bool(judged["AlertShareJumped"]) is jumped


def test_a_scorer_that_starts_anew_is_not_taken_for_one_that_forgets() -> None:
    looks = Looks(300 * S)
    looks.add(scraped(figures(50), 50 * S))
    again = figures(60).replace("time_seconds 1.0", "time_seconds 9.0")
    assert looks.add(scraped(again, 60 * S)) is None  # more than before, of another process
    assert looks.add(scraped(figures(2), 70 * S)) is None
    assert looks.growth() is None


def test_acknowledging_ends_with_the_alert_and_a_strangers_file_is_refused(tmp_path: Path) -> None:
    store = AlertStore(tmp_path / "alerts.db")
    assert (store.held(), store.acknowledged(0), store.outcomes()) == ({}, {}, (0, 0))
    firing = Held(name="NoScorer", subject="", state="firing", summary="", since_us=1,
                  fired_at_us=2)  # fmt: skip
    store.keep({KEY: firing})
    store.acknowledge(
        Acknowledgement(name="NoScorer", by="ann", why="on it", at_us=3, until_us=100)
    )
    assert store.acknowledged(50)["NoScorer"].by == "ann"
    assert store.acknowledged(100) == {}
    assert AlertStore(tmp_path / "alerts.db").held() == {KEY: firing}
    assert (tmp_path / "alerts.db").stat().st_mode & 0o077 == 0
    resolved, _ = moved_on(store.held(), WELL, 60, PACE)
    store.keep(resolved)
    assert store.acknowledged(61) == {}
    other = tmp_path / "other.db"
    other.write_bytes(b"")
    with pytest.raises(WorkspaceError, match=r"no file of alerts"):
        AlertStore(other).held()


def test_a_full_disk_is_called_one(tmp_path: Path) -> None:
    store = AlertStore(tmp_path / "alerts.db")
    store.note_digest("the file is there", 0)
    with closing(sqlite3.connect(tmp_path / "alerts.db")) as file, file:
        file.execute(
            "CREATE TRIGGER full BEFORE INSERT ON acknowledged "
            "BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END"
        )
    with pytest.raises(LedgerUnavailable, match="disk is full"):
        store.acknowledge(Acknowledgement(name="A", by="ann", why="", at_us=3, until_us=100))


def test_outcomes_are_counted_by_the_hour_and_old_hours_forgotten(tmp_path: Path) -> None:
    store = AlertStore(tmp_path / "alerts.db")
    store.count_outcomes(10, 100, 4, keep_hours=3)
    store.count_outcomes(10, 50, 1, keep_hours=3)
    store.count_outcomes(12, 10, 0, keep_hours=3)
    assert store.outcomes() == (160, 5)
    store.count_outcomes(13, 1, 1, keep_hours=3)
    assert store.outcomes() == (11, 1)
