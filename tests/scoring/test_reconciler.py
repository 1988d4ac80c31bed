"""What dead scorers, lost records and voids leave in shared state is put right by the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sentinel.domain import Transaction, Verdict
from sentinel.features.plan.plan import MINUTE_US
from sentinel.ledger.base import StateRebuild
from sentinel.log.entries import (
    FLAG_DEGRADED,
    GroupKind,
    encode_group,
)
from sentinel.scoring import reconciler
from sentinel.scoring.replayed_state import ReplayedState
from sentinel.state.base import Reading
from sentinel.state.redis.layout import EPOCHS_OF_A_LOAD, Record, state_name
from sentinel.state.redis.records import Loaded
from sentinel.state.redis.reloading import ReplayedRecord
from testkit.servers import wait_until
from testkit.shared_records import reload_record
from tests.features.worlds import START_US
from tests.scoring.followed_log import (
    PLAN,
    Log,
    fill,
    log,
    mended,
    postgres,
    some,
    verified,
    wait_for,
)
from tests.state.test_contract import decisions_of
from tests.state.test_shared_records import payment, words_of

__all__ = ["log", "postgres"]  # fixtures


def test_what_a_dead_scorer_left_is_settled_by_the_log(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "ABANDONED_SECONDS", 0.2)
    monkeypatch.setattr(reconciler, "_INTENTS_SECONDS", 0.05)
    dead = log.shared.features()
    recorded, lost = dead.next_ticket(), dead.next_ticket()
    group = some(0, 4)
    added = dead.add(group, recorded)
    flags = np.zeros(2, dtype=np.uint8)
    # Half of the group was recorded by another scorer a moment before; then this one died.
    half = Reading(added.vectors[:2], flags, added.positions[:2].astype("<i8").tobytes())
    payload = encode_group(decisions_of(PLAN, group[:2], half))
    log.ledger.append(GroupKind.DECISIONS, 2, START_US, payload, token=recorded)
    dead.add(some(4, 8), lost)
    assert set(log.features.records.intents()) == {recorded, lost}
    state = log.state()
    try:
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
        # An append that comes after that finds its token given up.
        with pytest.raises(Exception, match="given up"):
            log.ledger.append(GroupKind.DECISIONS, 2, START_US, payload, token=lost)
        voids = [r for r in log.ledger.rebuilds(state_name(PLAN.hash)) if r.through_sequence < 0]
        assert len(voids) == 2 * 2 + 4 * 2
    finally:
        state.reconciler.close()


def test_what_a_dead_scorer_decided_without_hearing_from_redis_counts_once(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "ABANDONED_SECONDS", 0.2)
    monkeypatch.setattr(reconciler, "_INTENTS_SECONDS", 0.05)
    dead, group = log.shared.features(), some(0, 3)
    ticket = dead.next_ticket()
    dead.add(group, ticket)  # the answer came too late, and then it died
    vectors = np.zeros((3, len(PLAN.feature_names)), dtype=np.float32)
    reading = Reading(vectors, np.full(3, FLAG_DEGRADED, dtype=np.uint8), b"")
    payload = encode_group(decisions_of(PLAN, group, reading))
    log.ledger.append(GroupKind.DECISIONS, 3, START_US, payload, token=ticket)
    state = log.state()
    try:
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
    finally:
        state.reconciler.close()


def test_what_never_became_durable_is_taken_back(log: Log) -> None:
    state = log.state()
    try:
        group = some(0, 5)
        reading = state.add(group)
        # Two are durable, one the log holds from elsewhere, two nobody will ever hear of.
        log.decide(group[2:3], held=False, flags=FLAG_DEGRADED)
        kept = Reading(
            reading.vectors[:2],
            reading.flags[:2],
            np.frombuffer(reading.positions, "<i8").reshape(5, -1)[:2].tobytes(),
        )
        payload = encode_group(decisions_of(PLAN, group[:2], kept))
        appended = log.ledger.append(
            GroupKind.DECISIONS, 2, START_US, payload, token=reading.ticket
        )
        assert appended.first_sequence == 2
        state.settle(reading.ticket, group, None, group[2:3])
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
        again = state.add(group[3:])
        assert again.repeated == ()
    finally:
        state.reconciler.close()


def test_records_that_lost_their_latest_events_are_put_in_place_anew(log: Log) -> None:
    fill(log)
    log.follow()
    expected = log.expected()
    records = log.features.records
    every = [record for some_records in records.every() for record in some_records]
    # As if a server had come back without the end of its file.
    for view, key in every[::2]:
        where = records.layout.key(view, key)
        records.wire.call(where, "DEL", where)
    log.features.forget()
    assert words_of(log.shared) != expected
    under_way = log.features.next_ticket()
    log.features.add([payment(500, 900_000_000)], under_way)
    records.notes.doubt(every)
    state = log.state()
    try:
        deadline = time.monotonic() + 60
        while records.notes.doubts():
            assert time.monotonic() < deadline, state.problem
            time.sleep(0.01)
        assert words_of(log.shared) != expected
        state.settle(under_way, [payment(500, 900_000_000)], None)
        wait_for(log, state)
        assert words_of(log.shared) == expected
    finally:
        state.reconciler.close()


def test_a_record_doubted_again_while_it_is_put_in_place_is_put_in_place_once_more(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.decide(some(0, 6))
    late = payment(9, 9_000_000, 90, customer="c0")
    ticket = log.features.next_ticket()
    added = log.features.add([late], ticket)
    records = log.features.records
    for view, key, _ in log.shared.effects().touched_by([late]):
        where, width = records.layout.key(view, key), records.layout.widths[view]
        held = records.wire.call(where, "GET", where)
        records.wire.call(where, "SET", where, held[:-width])  # a server came back without it

    replayed, read, recorded = log.replayed(), threading.Event(), threading.Event()
    read_records = replayed.records

    def slow(records: Sequence[Record]) -> list[ReplayedRecord]:
        found = read_records(records)
        read.set()
        assert recorded.wait(60)
        return found

    monkeypatch.setattr(replayed, "records", slow)
    state = log.state(replayed)
    try:
        state.reconciler.doubt_records([late])
        assert read.wait(60)
        reading = Reading(added.vectors, added.flags[:, 0], added.positions.astype("<i8").tobytes())
        payload = encode_group(decisions_of(PLAN, [late], reading))
        log.ledger.append(GroupKind.DECISIONS, 1, START_US, payload, token=ticket)
        log.features.settled(ticket)
        state.reconciler.doubt_records([late])
        wait_until(lambda: not state.reconciler._doubts, 60, "the second doubt to be noted")
        recorded.set()
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
    finally:
        recorded.set()
        state.reconciler.close()


def one_of(replayed: ReplayedState) -> Callable[[int, str], ReplayedRecord]:
    return lambda view, key: replayed.records([(view, key)])[0]


def read_before(log: Log, payment: Transaction) -> Callable[[int, str], ReplayedRecord]:
    """A record of the log as it was read just before a payment was decided on."""
    replayed = log.replayed()

    def read(view: int, key: str) -> ReplayedRecord:
        (found,) = replayed.records([(view, key)])
        log.decide([payment])
        return found

    return read


def put_in_place(log: Log, record: Record, replayed: Callable[[int, str], ReplayedRecord]) -> None:
    """Put a record in place anew, and note it as the scorer does whose turn it is."""
    name, (view, key) = state_name(PLAN.hash), record
    before = log.ledger.rebuilt_position(name, PLAN.views[view].name, key)
    anew = reload_record(log.shared.effects(), record, replayed, before)
    assert anew is not None
    log.ledger.record_rebuild(StateRebuild(name, PLAN.views[view].name, key, *anew))


def test_what_a_record_served_before_a_takeover_forgot_that_it_was_put_in_place_stays_provable(
    log: Log,
) -> None:
    def some(first: int, end: int) -> list[Transaction]:
        times = range(2 * MINUTE_US * first, 2 * MINUTE_US * end, 2 * MINUTE_US)
        return [
            payment(n, at, customer=f"c{n % 3}")
            for n, at in zip(range(first, end), times, strict=True)
        ]

    log.decide(some(0, 6))
    log.load(2)
    log.decide(some(6, 12))
    records, replayed = log.features.records, log.replayed()
    touched = [(view, key) for view, key, _ in log.shared.effects().touched_by(some(0, 3))]
    keys = [records.layout.key(*record) for record in touched]
    missed = [(key, records.wire.call(key, "GET", key)) for key in keys]
    for record in touched:
        put_in_place(log, record, one_of(replayed))
    log.label((7, Verdict.FRAUD))
    log.follow(Loaded(2 * EPOCHS_OF_A_LOAD, 6))
    log.decide(some(12, 18))

    # As if a replica had taken over that was behind by all this.
    for key, value in missed:
        records.wire.call(key, "SET", key, value)
    log.features.forget()
    records.set_followed(6)
    log.decide(some(18, 21))
    log.label((8, Verdict.FRAUD))
    log.follow(Loaded(2 * EPOCHS_OF_A_LOAD, 6))
    log.decide(some(21, 24))
    for record in touched:
        put_in_place(log, record, one_of(replayed))
    log.decide(some(24, 30))
    assert words_of(log.shared) == log.expected()
    decisions, mismatches, unverifiable = verified(log)
    assert (decisions, mismatches) == (24, 0)
    assert unverifiable > 0, "what was decided without what the replica missed"


def test_what_is_decided_while_a_record_is_put_in_place_counts_once(log: Log) -> None:
    log.decide(some(0, 12))
    log.load(2)
    log.decide(some(12, 15))
    effects, replayed = log.shared.effects(), log.replayed()
    numbers = iter(range(100, 200))

    def decided_around(view: int, key: str) -> ReplayedRecord:
        """The log as it was read between two payments of the record's customer."""
        customer = key.partition("\x1f")[0]
        before, after = next(numbers), next(numbers)
        log.decide([payment(before, 1_000_000 * before, customer=customer)])
        (found,) = replayed.records([(view, key)])
        log.decide([payment(after, 1_000_000 * after, customer=customer)])
        return found

    for view, key, _ in effects.touched_by(some(0, 3)):
        put_in_place(log, (view, key), decided_around)
    log.decide(some(200, 206))
    assert words_of(log.shared) == log.expected()
    assert verified(log) == (21, 0, 0)


def test_a_label_that_waited_for_a_payment_under_way_counts_when_the_log_is_followed(
    log: Log,
) -> None:
    log.decide(some(0, 12))
    loaded = log.load(2)
    log.label((100, Verdict.FRAUD))
    log.follow(loaded)
    log.decide(some(12, 15))
    # That payment was called fraud before.
    put_in_place(log, (0, "c0"), read_before(log, payment(100, 100_000_000, customer="c0")))
    log.decide([payment(101, 101_000_000, customer="c0")])
    log.follow(loaded)
    log.decide([payment(102, 102_000_000, customer="c0")])
    assert words_of(log.shared) == log.expected()
    assert verified(log) == (6, 0, 0)


def test_what_a_label_did_before_a_record_was_put_in_place_from_a_log_that_corrects_it_is_gone(
    log: Log,
) -> None:
    log.decide(some(0, 12))
    loaded = log.load(2)
    log.decide([payment(100, 100_000_000, customer="c0")])
    log.label((100, Verdict.FRAUD))
    log.follow(loaded)
    log.label((100, Verdict.LEGITIMATE))
    # The correction is read, and not followed yet.
    put_in_place(log, (0, "c0"), read_before(log, payment(101, 101_000_000, customer="c0")))
    log.decide([payment(102, 102_000_000, customer="c0")])
    log.follow(loaded)
    log.decide([payment(103, 103_000_000, customer="c0")])
    assert words_of(log.shared) == log.expected()
    assert verified(log) == (4, 0, 0)


def test_a_record_whose_base_moves_while_the_log_is_read_is_tried_again(log: Log) -> None:
    fill(log)
    log.follow()
    effects, replayed = log.shared.effects(), log.replayed()
    record = (0, "c1")

    def compacted_behind(view: int, key: str) -> ReplayedRecord:
        (found,) = replayed.records([(view, key)])
        log.decide([payment(100 + n, 10**9 + n) for n in range(20)])
        log.features.say_settled(effects.records)
        assert effects.compact([record], log.ledger.last_sequence()) == []
        return found

    assert reload_record(effects, record, compacted_behind) is None
    assert words_of(log.shared) == log.expected()
    assert reload_record(effects, record, one_of(replayed)) is not None
    assert words_of(log.shared) == log.expected()


def test_a_void_takes_its_payment_out_of_the_records_and_every_vector_stays_provable(
    log: Log,
) -> None:
    log.decide(some(0, 12))
    log.label((3, Verdict.FRAUD), (4, Verdict.FRAUD))
    log.load(2)
    state = log.state()
    try:
        log.decide(some(12, 20))
        log.label((14, Verdict.FRAUD), (1, Verdict.FRAUD))
        wait_for(log, state)
        log.void(4, 14)
        log.decide(some(20, 24))  # before or after the records are in place
        log.label((4, Verdict.LEGITIMATE), (4, Verdict.FRAUD), (14, Verdict.FRAUD))
        log.label((13, Verdict.FRAUD), (3, Verdict.LEGITIMATE))
        mended(log, state)
        log.decide(some(24, 30))
        log.void(5, 21, 4)
        mended(log, state)
        log.label((5, Verdict.FRAUD), (6, Verdict.FRAUD))
        log.decide(some(30, 34))
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
        assert verified(log) == (22, 0, 0)
    finally:
        state.reconciler.close()
