"""Scorers that look after the same records at once, or were held up, do them no harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sentinel.domain import LedgerUnavailable, StateUnavailable, Verdict
from sentinel.features.arena import Arena
from sentinel.ledger.base import StateRebuild
from sentinel.log.entries import Group
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring import reconciler
from sentinel.scoring.follower import LogFollower
from sentinel.scoring.recovery import recover
from sentinel.scoring.replayed_state import ReplayedState
from sentinel.settings import LedgerSettings, Settings, StateSettings
from sentinel.state.redis.layout import EPOCHS_OF_A_LOAD, Record, state_name
from sentinel.state.redis.notes import Notes
from sentinel.state.redis.records import Loaded
from sentinel.state.redis.reloading import ReplayedRecord
from testkit.servers import Postgres, wait_until
from tests.scoring.followed_log import LOADED, PLAN, Log, log, mended, postgres, some, wait_for
from tests.scoring.test_redis_restarts import OTHER_PLAN, attached, record
from tests.state.shared_redis import shared_redis
from tests.state.test_shared_records import payment, words_in, words_of

__all__ = ["log", "postgres"]  # fixtures


@pytest.fixture
def settings(postgres: Postgres, tmp_path: Path) -> Settings:
    made = Settings(
        workspace=tmp_path / "w",
        ledger=LedgerSettings(url=postgres.make_database("o" + tmp_path.name.replace("-", "_"))),
        state=StateSettings(
            backend="redis", redis_url=shared_redis().url, redis_prefix=f"o-{tmp_path.name}"
        ),
    )
    made.workspace.mkdir()
    return made


class HeldUp:
    """A ledger that is asked once for standings, and answers when it may; then it is lost."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log.ledger, name)

    def verdicts(self, *ids: Any, **options: Any) -> Any:
        found = self._log.ledger.verdicts(*ids, **options)
        self.asked.set()
        assert self.go_on.wait(60)
        return found

    def record_label_effects(self, effects: Any) -> None:
        raise LedgerUnavailable("the connection is lost")


class AwayOnce:
    """A ledger whose entries cannot be read once, at a certain call."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.fails_in = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log.ledger, name)

    def groups(self, after: int = 0) -> Iterator[Group]:
        self.fails_in -= 1
        if self.fails_in == 0:
            raise LedgerUnavailable("the database was away for a moment")
        yield from self._log.ledger.groups(after)


def turn_of(log: Log) -> reconciler._Turn:
    effects = log.shared.effects()
    follower = LogFollower(effects, log.ledger, log.ledger, log.find, find_voids=log.find_voids)
    notes = reconciler._Notes(log.ledger, log.shared.program)
    return reconciler._Turn(effects, follower, notes, log.ledger, log.replayed(), ScoringMetrics())


def test_a_state_that_is_loaded_while_the_log_is_followed_takes_nothing_twice(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.features.use(LOADED)
    log.decide(some(0, 3))
    turn = turn_of(log)
    notes = turn._records.notes
    take_turn, turns = notes.take_turn, []

    def loaded_between(name: str, seconds: int) -> bool:
        turns.append(name)
        if len(turns) == 2:
            log.features.use(log.load(2))
            log.decide(some(3, 6))
        return take_turn(name, seconds)

    monkeypatch.setattr(notes, "take_turn", loaded_between)
    turn.work()
    assert len(turns) > 2
    turn.work()
    turn.close()
    assert words_of(log.shared) == log.expected()


def test_a_follower_that_knows_an_older_load_stops_at_a_newer_one(log: Log) -> None:
    log.decide(some(0, 3))
    log.features.use(log.load(2))
    log.decide(some(3, 6))
    follower = log.follower()
    with pytest.raises(StateUnavailable, match="loaded anew"):
        follower.step(LOADED)
    assert words_of(log.shared) == log.expected()


def test_what_else_is_to_be_done_gets_its_turn_while_payments_keep_coming(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "_STEPS_SECONDS", 0.2)
    log.features.use(LOADED)
    log.decide(some(0, 3))
    turn = turn_of(log)
    turn._records.notes.doubt([(0, "c1")])
    step, numbers = turn._follower.step, iter(range(10, 10_000))

    def another_comes(loaded: Loaded) -> bool:
        number = next(numbers)
        log.decide(some(number, number + 1))
        return step(loaded)

    monkeypatch.setattr(turn._follower, "step", another_comes)
    turn.work()
    assert turn._records.notes.doubts() == 0
    turn.close()


def test_a_doubt_that_another_scorer_took_meanwhile_stays_until_it_is_resolved(log: Log) -> None:
    log.decide(some(0, 6))
    first, second = log.shared.records().notes, log.shared.records().notes
    first.doubt([(0, "c1"), (0, "c2")])
    taken = first.doubted(10)
    assert set(taken) == {(0, "c1"), (0, "c2")}
    second.doubt([(0, "c1")])
    newer = second.doubted(10)
    first.resolve_doubts(taken)
    assert set(second.doubted(10)) == {(0, "c1")}
    second.resolve_doubts(newer)
    assert first.doubts() == 0


def test_doubts_of_an_earlier_version_are_taken_over(log: Log) -> None:
    records = log.features.records
    key = records.layout.beside("doubted")
    records.wire.call(key, "SADD", key, b"0:c1", b"1:c1\x1fm1")
    records.notes.take_in_older_doubts()
    assert set(records.notes.doubted(10)) == {(0, "c1"), (1, "c1\x1fm1")}
    assert records.wire.call(key, "SCARD", key) == 0


def test_a_turn_is_one_scorers_until_it_lets_go_of_it(log: Log) -> None:
    first, second = log.shared.records().notes, log.shared.records().notes
    assert first.take_turn("first", 10)
    assert not second.take_turn("second", 10)
    second.leave_turn("second")
    assert first.take_turn("first", 10)
    first.leave_turn("first")
    assert second.take_turn("second", 10)


def test_a_label_that_came_early_waits_no_longer_once_its_payment_was_followed(log: Log) -> None:
    notes = log.features.records.notes
    log.label((1, Verdict.FRAUD), (2, Verdict.FRAUD), (2, Verdict.LEGITIMATE))
    log.follow()
    assert (set(notes.waiting()), notes.waits()) == ({"t1"}, 1)
    log.decide(some(1, 3))
    log.follow()
    assert notes.waits() == 0
    assert words_of(log.shared) == log.expected()
    log.features.records.set_followed(0)
    log.follow()
    assert notes.waits() == 0
    assert words_of(log.shared) == log.expected()


def test_a_follower_that_comes_late_brings_no_label_back_that_was_taken_back(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.decide(some(0, 2))
    log.follow()
    log.label((9, Verdict.FRAUD), (0, Verdict.FRAUD))  # the ninth has not come yet
    late, held_up = log.follower(), HeldUp(log)
    monkeypatch.setattr(late, "_ledger", held_up)

    def follow_late() -> None:
        with pytest.raises(LedgerUnavailable):
            late.step(LOADED)

    thread = threading.Thread(target=follow_late)
    thread.start()
    assert held_up.asked.wait(60)
    log.follow()
    log.label((9, Verdict.LEGITIMATE))
    log.follow()
    held_up.go_on.set()
    thread.join(60)
    assert log.features.records.notes.waiting() == {}
    log.decide(some(9, 10))
    log.follow()
    assert words_of(log.shared) == log.expected()


@pytest.mark.parametrize("fails_in", [1, 2, 3])
def test_a_replayed_state_that_failed_half_way_is_not_used_again(log: Log, fails_in: int) -> None:
    away = AwayOnce(log)
    ledger: Any = away
    replayed = ReplayedState(log.shared.program, ledger, log.folder, log.find)
    log.decide(some(0, 3))
    log.follow()
    replayed.records([(0, "c1")])
    log.decide(some(3, 6))
    log.void(4)
    state = log.state(replayed)
    away.fails_in = fails_in
    try:
        mended(log, state)
        assert away.fails_in <= 0
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
    finally:
        state.reconciler.close()


def test_the_log_is_read_once_for_all_records_in_doubt(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.decide(some(0, 12))
    log.void(4, 5)
    log.decide(some(12, 15))
    log.void(0)
    replayed = log.replayed()
    read, asked = replayed.records, list[int]()

    def counted(records: Sequence[Record]) -> list[ReplayedRecord]:
        asked.append(len(records))
        return read(records)

    monkeypatch.setattr(replayed, "records", counted)
    state = log.state(replayed)
    try:
        mended(log, state)
        assert words_of(log.shared) == log.expected()
    finally:
        state.reconciler.close()
    assert len(asked) <= 2, "one for each time that the thread looked"
    assert max(asked) > 1


def test_a_void_among_others_costs_one_reading_of_the_log(log: Log) -> None:
    for number in range(6):
        log.decide(some(3 * number, 3 * number + 3))
        log.void(3 * number)
    readings = 0

    class Counted:
        def __getattr__(self, name: str) -> Any:
            return getattr(log.ledger, name)

        def groups(self, after: int = 0) -> Iterator[Group]:
            nonlocal readings
            readings += after == 0
            yield from log.ledger.groups(after)

    counted: Any = Counted()
    state = recover(log.shared.program, counted, log.folder, log.find)
    assert words_in(state.arena) == log.expected()
    assert state.void == {f"t{3 * number}" for number in range(6)}
    assert readings == 3, "labels are looked through, then the log is folded, then read for voids"


@pytest.mark.parametrize(
    "by_another", [False, True], ids=["others come", "put in place by another"]
)
def test_a_scorer_starts_while_records_come_to_be_in_doubt(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, by_another: bool
) -> None:
    with attached(settings) as first:
        state = first.open(PLAN)
        record(first, state, payment(1, 1), state.add([payment(1, 1)]))
        watcher = first._watcher(state.program)
        notes, name = watcher.notes, state_name(PLAN.hash)
        wait_until(lambda: watcher.followed() == 1, 60, "the log to be followed")
        first.close()
        assert notes.take_turn("whoever puts nothing in place", 60)
        if by_another:
            notes.doubt([(0, "c1")])
        all_doubted = Notes.all_doubted

        def then_others(self: Notes) -> set[Record]:
            found = all_doubted(self)
            notes.doubt([(0, "c1"), (0, "c2")])
            if by_another:
                first._ledger.record_rebuild(StateRebuild(name, PLAN.views[0].name, "c1", 9, 1))
            return found

        monkeypatch.setattr(Notes, "all_doubted", then_others)
        other = settings.model_copy(update={"workspace": settings.workspace.parent / "other"})
        other.workspace.mkdir()
        began = time.monotonic()
        with attached(other) as second:
            second.open(PLAN)
        assert time.monotonic() - began < 60
        assert notes.doubts() == 2


def test_only_who_holds_the_lock_says_that_a_state_is_loaded(log: Log) -> None:
    loaded = Loaded(2 * EPOCHS_OF_A_LOAD, 0)
    first, second = log.shared.records(), log.shared.records()
    first.unload()
    mine, others = first.lock(), second.lock()
    assert mine.take()
    assert not others.take()
    first.wire.call(mine.key, "DEL", mine.key)  # as if its time were over
    assert others.take()
    with pytest.raises(StateUnavailable, match="Another scorer loads"):
        first.load(Arena(log.shared.program), loaded, 0, lock=mine)
    assert second.loaded() is None
    mine.release()
    second.load(Arena(log.shared.program), loaded, 0, lock=others)
    assert first.loaded() == loaded


def test_a_lock_that_is_lost_at_the_very_end_loads_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = log.shared.records()
    records.unload()
    lock = records.lock()
    need_functions = records.need_functions

    def lose() -> None:
        need_functions()
        records.wire.call(lock.key, "SET", lock.key, "somebody else")

    monkeypatch.setattr(records, "need_functions", lose)
    with pytest.raises(StateUnavailable, match="Another scorer loads"):
        records.load(Arena(log.shared.program), Loaded(2 * EPOCHS_OF_A_LOAD, 0), 0, lock=lock)
    assert records.loaded() is None


def test_a_plan_that_could_not_be_opened_is_opened_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attached(settings) as states:
        state = states.open(PLAN)
        for number in range(1, 4):
            one = payment(number, number)
            record(states, state, one, state.add([one]))
        look_at_lost = states._doubt_lost

        def unavailable(_: object) -> None:
            raise StateUnavailable("Redis did not answer within 100 ms.")

        monkeypatch.setattr(states, "_doubt_lost", unavailable)
        with pytest.raises(StateUnavailable):
            states.open(OTHER_PLAN)
        monkeypatch.setattr(states, "_doubt_lost", look_at_lost)
        opened = states.open(OTHER_PLAN)
        with closing(states._connect(opened.program)) as records:
            loaded = records.loaded()
        assert loaded is not None
        assert opened.features.records.uses(loaded)
        assert states.open(OTHER_PLAN) is opened
        assert states._all_states() == [state, opened]


def test_a_restart_that_is_noticed_during_a_look_keeps_the_records_blocked(
    settings: Settings,
) -> None:
    with attached(settings) as states:
        state = states.open(PLAN)
        connect = states._watcher(state.program).loaded
        noticed: list[bool] = []

        def restarted_now() -> Loaded | None:
            found = connect()
            if not noticed:
                noticed.append(True)
                with pytest.raises(StateUnavailable):
                    states._note_restart("somewhere")
            return found

        states._watcher(state.program).loaded = restarted_now  # type: ignore[method-assign]
        states._watch(state)
        assert noticed
        assert state.blocked is not None
        states._watch(state)
        assert state.blocked is None


def test_ids_that_others_hear_of_while_a_plan_is_opened_are_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attached(settings) as states:
        state = states.open(PLAN)
        wait_for_doubts = states._wait_for_doubts

        def heard_meanwhile(program: Any) -> None:
            one = payment(1, 1)
            record(states, state, one, state.add([one]))
            states._index.catch_up()
            states._watch(state)
            wait_for_doubts(program)

        monkeypatch.setattr(states, "_wait_for_doubts", heard_meanwhile)
        opened = states.open(OTHER_PLAN)
        assert opened.known.holds_id("t1")
