"""Each decision of the log is counted once, whatever happens to the process that counts."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sentinel.domain import LedgerUnavailable
from sentinel.drift import following
from sentinel.drift.counting import count_cells
from sentinel.drift.following import DriftFollower
from sentinel.drift.notices import HOUR_US, Notice
from sentinel.drift.open_streams import FindModel, FollowedModel
from sentinel.drift.rows import Step, Tally
from sentinel.drift.segments import members
from sentinel.drift.store import DriftStore, open_drift
from sentinel.ledger.base import Ledger
from sentinel.ledger.open import open_reader, open_writer
from sentinel.log.entries import FLAG_DEGRADED
from sentinel.settings import LedgerSettings, Settings
from sentinel.settings.drift import DriftSettings
from testkit.drifting_log import (
    MODEL,
    SEGMENTS,
    START_HOUR,
    decisions_in,
    fill_hours,
    followed,
    reference_of,
)

REFERENCE = reference_of()
REPOSITORY = Path(__file__).parents[2]
_numbers = itertools.count()
_opened: list[DriftStore | Ledger] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Connections do not outlive their test."""
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A deployment with each kind of ledger in turn."""
    ledger = LedgerSettings()
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
        ledger = LedgerSettings(url=url, namespace=f"drift_{next(_numbers)}")
    return Settings(workspace=tmp_path / "workspace", ledger=ledger)


@pytest.fixture
def log(settings: Settings) -> Iterator[Ledger]:
    with open_writer(settings) as ledger:
        yield ledger


def find_first(name: str, version: str) -> FollowedModel | str:
    assert name == MODEL
    return followed(REFERENCE) if version == "1" else "it has none"


class Following:
    """A follower with its own connections."""

    def __init__(self, settings: Settings, find: FindModel = find_first, **drift: Any) -> None:
        self.store = open_drift(settings)
        self.reader = open_reader(settings)
        _opened.extend((self.store, self.reader))
        self.follower = DriftFollower(self.store, self.reader, find, DriftSettings(**drift))

    def to_the_end(self) -> int:
        taken = 0
        while step := self.follower.step():
            taken += step
        return taken


def record_of(store: DriftStore) -> dict[str, Any]:
    """All that is kept of the log."""
    streams = store.streams()
    return {
        "through": store.progress()[1:],
        "streams": streams,
        "states": [store.state(stream.id) for stream in streams],
        "hours": [
            (stream.id, row.first_hour, row.hours, row.events.tolist(), row.counts.tolist())
            for stream in streams
            for row in store.hours(stream.id)
        ],
        "tallies": store.tallies(),
        "changes": store.changes(0),
    }


def recounted(ledger: Ledger, version: str = "1") -> dict[int, tuple[list[int], list[list[int]]]]:
    """Events and counts by hour, from the log alone, one decision at a time."""
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    bins = REFERENCE.bins
    for group in decisions_in(ledger):
        flags = group.flag_array()
        for row, payment in enumerate(group.transactions):
            if group.model_version != version or flags[row] & FLAG_DEGRADED:
                continue
            score = np.frombuffer(group.probabilities)[row]
            X = np.append(group.vector_array()[row], np.float32(score))[None, :]
            hour = payment.event_time_us // HOUR_US
            empty = np.zeros(3, np.int64), np.zeros((3, bins.cells), np.uint32)
            events, counts = found.setdefault(hour, empty)
            member = members(SEGMENTS, X.astype(np.float32), bins.names)
            count_cells(bins, X.astype(np.float32), member, counts)
            events += member.sum(axis=0)
    return {hour: (e.tolist(), c.tolist()) for hour, (e, c) in found.items()}


def test_every_decision_is_counted_once_in_the_hour_of_its_payment(
    settings: Settings, log: Ledger
) -> None:
    decisions = fill_hours(log, range(START_HOUR, START_HOUR + 30))
    one = Following(settings)
    assert one.to_the_end() == log.last_sequence() == decisions
    (stream,) = one.store.streams()
    kept = {
        row.first_hour: (row.events.tolist(), row.counts.tolist())
        for row in one.store.hours(stream.id)
    }
    assert kept == recounted(log)
    assert (stream.first_sequence, stream.last_sequence) == (1, decisions)
    assert stream.tested_hour == START_HOUR + 28  # the last hour is not over
    tallies = one.store.tallies().values()
    assert sum(tally.counted + tally.degraded for tally in tallies) == decisions
    assert sum(tally.degraded for tally in tallies) == decisions // 10
    outcomes = [(t.approved, t.reviewed, t.declined) for t in tallies]
    assert np.sum(outcomes) == decisions
    assert one.to_the_end() == 0


def test_the_record_is_the_same_however_the_log_was_read(
    settings: Settings, log: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 60))
    fill_hours(log, range(START_HOUR + 60, START_HOUR + 96), shift=0.8)
    one = Following(settings)
    monkeypatch.setattr(following, "BATCH_ROWS", 170)
    while one.follower.step():
        one.follower.forget()  # as a new process would
    in_parts = record_of(one.store)
    one.store.forget_counts()
    monkeypatch.setattr(following, "BATCH_ROWS", 1 << 30)
    monkeypatch.setattr(following, "BATCH_SECONDS", 60.0)
    again = Following(settings)
    assert again.to_the_end() == log.last_sequence()
    assert record_of(again.store) == in_parts
    assert {one.change.feature for one in in_parts["changes"]} == {"risk"}


KILLED = """
import sys
from pathlib import Path
from sentinel.drift import following
from sentinel.settings import Settings, LedgerSettings
from tests.drift.test_following import Following
following.BATCH_ROWS = 200
settings = Settings(
    workspace=Path(sys.argv[1]), ledger=LedgerSettings(url=sys.argv[2], namespace=sys.argv[3])
)
one = Following(settings)
print("ready", flush=True)
while True:
    one.follower.step()
"""


def test_a_follower_that_is_killed_again_and_again_counts_each_entry_once(
    settings: Settings, log: Ledger
) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 60), per_hour=200)
    store = open_drift(settings)
    _opened.append(store)
    kills = 0
    while store.progress().through < log.last_sequence():
        before = store.progress().through
        command = [
            *(sys.executable, "-c", KILLED, str(settings.workspace)),
            *(settings.ledger.url, settings.ledger.namespace),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                deadline = time.monotonic() + 120
                while store.progress().through < min(before + 2_400, log.last_sequence()):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            finally:
                os.kill(process.pid, signal.SIGKILL)
        kills += 1
    assert kills >= 3
    killed = record_of(store)
    (stream,) = store.streams()
    kept = {r.first_hour: (r.events.tolist(), r.counts.tolist()) for r in store.hours(stream.id)}
    assert kept == recounted(log)
    store.forget_counts()
    Following(settings).to_the_end()
    assert record_of(store) == killed


def test_two_followers_count_nothing_twice(settings: Settings, log: Ledger) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 4))
    one, other = Following(settings), Following(settings)
    one.follower.step()
    other.follower.step()
    begun = other.store.progress()
    fill_hours(log, range(START_HOUR + 4, START_HOUR + 8))
    assert one.to_the_end()
    late = Step(begun, begun.through + 20, begun.clock_us)
    late.tallies = {(MODEL, "1", START_HOUR): Tally(counted=20)}
    before = record_of(one.store)
    with pytest.raises(LedgerUnavailable, match="read anew"):
        other.store.keep(late)
    assert other.to_the_end() == 0
    assert record_of(one.store) == before
    (stream,) = one.store.streams()
    assert sum(int(row.events[0]) for row in one.store.hours(stream.id)) == 8 * 54


def test_a_new_champion_begins_new_streams_and_one_without_a_reference_is_named(
    settings: Settings, log: Ledger
) -> None:
    other = reference_of(seed=2)

    def find(name: str, version: str) -> FollowedModel | str:
        return {"1": followed(REFERENCE), "3": followed(other)}.get(version, "it has none")

    fill_hours(log, range(START_HOUR, START_HOUR + 5), version="1")
    fill_hours(log, range(START_HOUR + 5, START_HOUR + 8), version="2")
    fill_hours(log, range(START_HOUR + 8, START_HOUR + 12), version="3")
    one = Following(settings, find)
    one.to_the_end()
    streams = one.store.streams()
    assert [(s.model_version, s.reference, s.problem) for s in streams] == [
        ("1", REFERENCE.digest, ""),
        ("2", "", "it has none"),
        ("3", other.digest, ""),
    ]
    # The first one's hours go on with the features of what the others decided.
    assert [len(one.store.hours(stream.id)) for stream in streams] == [12, 0, 4]
    uncounted = {key[1]: t.uncounted for key, t in one.store.tallies().items() if t.uncounted}
    assert uncounted == {"2": 54}  # of an hour; the others are degraded
    assert one.follower.streams == 2  # what decides now, and what features are held against


def test_payments_of_hours_that_are_over_are_apart_and_those_within_the_wait_are_not(
    settings: Settings, log: Ledger
) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 2), degraded=False)
    day_us = 24 * HOUR_US
    fill_hours(log, [START_HOUR + 2], version="1", late_by_us=day_us, degraded=False, seed=8)
    one = Following(settings)
    one.to_the_end()
    tallies = {hour: t for (_, _, hour), t in one.store.tallies().items()}
    assert {hour: (t.counted, t.late) for hour, t in tallies.items()} == {
        START_HOUR: (60, 0),
        START_HOUR + 1: (60, 0),
        START_HOUR + 2: (0, 60),
    }
    one.store.forget_counts()
    patient = Following(settings, late_minutes=1440.0)
    patient.to_the_end()
    tallies = {hour: t for (_, _, hour), t in patient.store.tallies().items()}
    assert {hour: (t.counted, t.late) for hour, t in tallies.items()} == {
        START_HOUR - 22: (60, 0),
        START_HOUR: (60, 0),
        START_HOUR + 1: (60, 0),
    }


def test_payments_in_time_are_not_late_because_another_scorers_clock_was_ahead(
    settings: Settings, log: Ledger
) -> None:
    fill_hours(log, [START_HOUR], degraded=False)
    fill_hours(log, [START_HOUR + 6], per_hour=20, degraded=False)  # its clock is six hours ahead
    fill_hours(log, [START_HOUR + 1, START_HOUR + 2], degraded=False)
    day_us = 24 * HOUR_US
    fill_hours(log, [START_HOUR + 3], late_by_us=day_us, degraded=False, seed=8)  # really late
    one = Following(settings)
    one.to_the_end()
    tallies = {hour: t for (_, _, hour), t in one.store.tallies().items()}
    assert {hour: (t.counted, t.late) for hour, t in tallies.items()} == {
        START_HOUR: (60, 0),
        START_HOUR + 6: (20 + 2 * 60, 60),
    }
    before = record_of(one.store)
    one.store.forget_counts()
    again = Following(settings)
    again.to_the_end()
    assert record_of(again.store) == before


def test_hours_that_were_tested_stay_as_they_are_though_the_wait_is_made_longer(
    settings: Settings, log: Ledger
) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 5), degraded=False)
    one = Following(settings)
    one.to_the_end()
    (stream,) = one.store.streams()
    tested = {row.first_hour: row.counts.tolist() for row in one.store.hours(stream.id)}
    assert stream.tested_hour == START_HOUR + 3
    one.store.close()
    fill_hours(log, [START_HOUR + 5], late_by_us=3 * HOUR_US, degraded=False, seed=8)
    patient = Following(settings, late_minutes=1440.0)
    patient.to_the_end()
    kept = {row.first_hour: row.counts.tolist() for row in patient.store.hours(stream.id)}
    assert kept == tested
    assert patient.store.tallies()[MODEL, "1", START_HOUR + 5].late == 60


def test_a_change_is_recorded_silenced_explained_and_ended_with_its_model(
    settings: Settings, log: Ledger
) -> None:
    changed = START_HOUR + 48
    fill_hours(log, range(START_HOUR, changed), per_hour=120)
    fill_hours(log, range(changed, changed + 24), per_hour=120, shift=1.0)
    one = Following(settings)
    one.to_the_end()
    now_us = (changed + 30) * HOUR_US
    alarms = one.store.open_alarms(now_us)
    assert {alarm.change.feature for alarm in alarms} == {"risk"}
    assert all(abs(alarm.change.since_hour - changed) <= 2 for alarm in alarms)
    assert all(alarm.change.at_hour < changed + 12 for alarm in alarms)
    said: dict[str, Any] = {"by": "ann", "said_at_us": now_us, "why": "a new merchant"}
    plan = one.store.add_notice(
        Notice(kind="plan", from_us=changed * HOUR_US, until_us=(changed + 1) * HOUR_US, **said)
    )
    assert {alarm.plan for alarm in one.store.open_alarms(now_us)} == {plan}
    silence = one.store.add_notice(
        Notice(kind="silence", feature="ris?", from_us=now_us, until_us=now_us + HOUR_US, **said)
    )
    assert one.store.open_alarms(now_us) == []
    assert {alarm.silence for alarm in one.store.changes(now_us)} == {silence}
    assert one.store.open_alarms(now_us + HOUR_US) != []  # its window is over, the change is on
    one.store.end_notice(silence.id, now_us)
    assert one.store.open_alarms(now_us) != []
    one.store.forget_counts()
    assert [notice.id for notice in one.store.notices()] == [plan.id, silence.id]
    one.to_the_end()
    assert one.store.open_alarms(now_us) == alarms_with(alarms, plan)
    fill_hours(log, range(changed + 24, changed + 26), version="2")
    one.to_the_end()
    # Another model decides, and payments are no more like those of before.
    assert one.store.open_alarms(now_us) == alarms_with(alarms, plan)


def alarms_with(alarms: list[Any], plan: Notice) -> list[Any]:
    import msgspec

    return [msgspec.structs.replace(alarm, plan=plan) for alarm in alarms]


def test_old_hours_become_days_with_the_same_counts_and_older_ones_go(
    settings: Settings, log: Ledger
) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 80), per_hour=20)
    one = Following(settings)
    one.to_the_end()
    (stream,) = one.store.streams()
    before = one.store.hours(stream.id)
    while one.store.compact(stream, before_hour=START_HOUR + 60):
        pass
    after = one.store.hours(stream.id)
    assert [row.hours for row in after][:3] == [24, 24, 24]
    assert len(after) < len(before)
    for of in ("events", "counts"):
        total = [np.sum([getattr(row, of) for row in rows], axis=0) for rows in (before, after)]
        assert (total[0] == total[1]).all()
    fill_hours(log, range(START_HOUR + 80, START_HOUR + 83), per_hour=20)
    assert one.to_the_end() == 60
    one.store.drop_before(START_HOUR + 70)
    assert min(row.first_hour + row.hours for row in one.store.hours(stream.id)) > START_HOUR + 70
    assert min(hour for _, _, hour in one.store.tallies()) == START_HOUR + 70


def test_a_log_that_was_replaced_is_counted_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(workspace=tmp_path)
    with open_writer(settings) as ledger:
        fill_hours(ledger, range(START_HOUR, START_HOUR + 6))
    Following(settings).to_the_end()
    for path in tmp_path.glob("ledger.db*"):
        path.unlink()
    with open_writer(settings) as ledger:
        fill_hours(ledger, range(START_HOUR, START_HOUR + 2))
        one = Following(settings)
        one.to_the_end()
        (stream,) = one.store.streams()
        assert stream.last_sequence == one.store.progress().through == ledger.last_sequence()
    assert "counted anew" in caplog.text


def test_models_that_take_turns_are_held_in_memory_up_to_a_bound(
    settings: Settings, log: Ledger
) -> None:
    for turn in range(12):
        hour = START_HOUR + turn // 6
        fill_hours(log, [hour], per_hour=10, version=str(turn % 6), seed=turn, degraded=False)
    one = Following(settings, lambda *_: followed(REFERENCE))
    one.to_the_end()
    assert one.follower.streams <= 2 * following.MOST_STREAMS + 1
    told = {s.model_version: s.problem for s in one.store.streams() if s.problem}
    assert set(told) == {"4", "5"}
    assert all("more than 4 models" in problem for problem in told.values())
