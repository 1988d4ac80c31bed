"""A record of shared state is rebuilt from the log while it goes on changing; nothing is lost."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import KEY_SEPARATOR
from sentinel.features.plan.plan import Plan, View
from sentinel.features.plan.program import KIND_FRAUD, compile_program
from sentinel.state.redis_features import Change, RedisFeatures
from sentinel.state.redis_marks import RedisMarks
from sentinel.state.redis_records import RedisState, label_hash
from sentinel.state.redis_repair import History, Rebuilt, Repairer, history_of
from testkit.online_fold import OnlineFold
from testkit.redis_fold import RedisFold
from tests.features.plans import aggregate, every_function, plan_of
from tests.features.worlds import START_US, World, worlds
from tests.state.shared_redis import fresh_state, second_state

Entry = Transaction | Label


def payment(n: int, amount: int = 100) -> Transaction:
    return Transaction(
        transaction_id=f"t{n}",
        event_time_us=START_US + 1_000_000 * n,
        received_at_us=START_US + n,
        amount_minor=amount + n,
        customer_id="c1",
        merchant_id=f"m{n % 3}",
    )


def fraud(n: int) -> Label:
    return Label(
        label_id=f"l{n}", transaction_id=f"t{n}", verdict=Verdict.FRAUD, received_at_us=START_US
    )


def key_of(view: View, transaction: Transaction) -> str | None:
    parts = [getattr(transaction, name) for name in view.keys]
    return None if None in parts else KEY_SEPARATOR.join(parts)


def entries_of(log: Sequence[Entry], view: View, key: str) -> list[Entry]:
    """What a ledger says of a record: its transactions, and the labels about them."""
    own = {t.transaction_id for t in log if isinstance(t, Transaction) and key_of(view, t) == key}
    return [entry for entry in log if entry.transaction_id in own]


def reader(plan: Plan, log: Sequence[Entry]) -> Callable[[int, str], History]:
    program = compile_program(plan)

    def read(view: int, key: str) -> History:
        now = list(log)
        entries = entries_of(now, plan.views[view], key)
        return history_of(program, view, key, entries, len(now))

    return read


def words_of(state: RedisState, view: int, key: str) -> list[int]:
    """A record without its position."""
    (raw,) = state.read([(view, key)])
    words = np.frombuffer(raw, dtype="<i8").tolist()
    return [*words[:1], *words[2:]]


def expected_words(plan: Plan, log: Sequence[Entry], view: int, key: str) -> list[int]:
    online = OnlineFold(compile_program(plan))
    online.run(log)
    words = online.arena.record(view, key).tolist()
    return [*words[:1], *words[2:]]


@given(worlds(max_entries=40), st.data())
def test_a_rebuilt_record_is_what_the_fold_says(world: World, data: st.DataObject) -> None:
    online = OnlineFold(compile_program(world.plan))
    online.run(world.log)
    records = [(view, key) for view, keys in enumerate(online.arena.keys) for key in keys]
    if not records:
        return
    with fresh_state(world.plan) as state:
        RedisFold(state, capacity=64).run(world.log)
        view, key = data.draw(st.sampled_from(records))
        (before,) = state.read([(view, key)])
        # Whatever is wrong with a record, or with its having been lost:
        where = state.key(view, key)
        state.wire.call(
            where,
            *data.draw(
                st.sampled_from(
                    [
                        ("DEL", where),
                        ("SETRANGE", where, 24, b"\xff" * 16),
                        ("SET", where, before),
                    ]
                )
            ),
        )
        at = int(np.frombuffer(before, dtype="<i8")[1])
        repairer = Repairer(state, RedisMarks(state), reader(world.plan, world.log), print)
        rebuilt = repairer.rebuild(view, key)
        assert rebuilt is not None
        assert rebuilt.through_sequence == len(world.log)
        assert rebuilt.position in (at + 1, 1)
        assert words_of(state, view, key) == expected_words(world.plan, world.log, view, key)


def test_changes_during_a_rebuild_are_in_the_record_exactly_once() -> None:
    plan = every_function()
    log: list[Entry] = [payment(n) for n in range(10)]
    with fresh_state(plan) as state, second_state(state) as other:
        features = RedisFeatures(other)
        features.add([t for t in log if isinstance(t, Transaction)])
        phantom = payment(99, amount=10**9)  # added, and never to become durable
        features.add([phantom])
        read = reader(plan, log)

        def read_amid_changes(view: int, key: str) -> History:
            log.append(payment(10))
            features.add([payment(10)])  # in the ledger before it is read
            label = fraud(4)
            log.append(label)
            features.apply([Change(payment(4), KIND_FRAUD, label_hash("l4"))])
            history = read(view, key)
            features.add([payment(11)])  # in the ledger only after it was read
            features.apply([Change(payment(5), KIND_FRAUD, label_hash("l5"))])
            return history

        repairer = Repairer(state, RedisMarks(state), read_amid_changes, print)
        rebuilt = repairer.rebuild(0, "c1")
        # Ten, the phantom, four changes meanwhile, and the rebuild itself.
        assert rebuilt == Rebuilt(0, "c1", 16, 12)
        log += [payment(11), fraud(5)]
        assert words_of(state, 0, "c1") == expected_words(plan, log, 0, "c1")
        # What comes late is known for what it is; what was lost may come again.
        assert features.add([payment(11)]).flags[0, 0] & 4
        again = features.add([phantom])
        assert not again.flags[0, 0] & 4
        assert again.positions[0, 0] == 17


def test_a_swap_needs_the_fence_that_it_put_up() -> None:
    plan = plan_of(aggregate("n"))
    with fresh_state(plan) as state:
        features = RedisFeatures(state)
        features.add([payment(1)])
        (record,) = state.read([(0, "c1")])
        assert state.function("swap", 0, "c1", b"a" * 16, record, b"") == -1
        assert state.function("fence", 0, "c1", b"a" * 16, 10**9) == 1
        assert state.function("fence", 0, "c1", b"b" * 16, 10**9) == -1, "one at a time"
        assert state.function("swap", 0, "c1", b"b" * 16, record, b"") == -1
        assert state.function("fence", 0, "c1", b"b" * 16, 0) == 1, "a stale one is replaced"
        assert state.function("swap", 0, "c1", b"a" * 16, record, b"") == -1
        assert state.function("unfence", 0, "c1", b"a" * 16) == 0
        assert state.function("unfence", 0, "c1", b"b" * 16) == 1
        assert features.add([payment(1)]).repeated.all(), "its ids are still there"


def test_a_fence_that_nobody_takes_down_falls_by_itself() -> None:
    plan = plan_of(aggregate("n"))
    with fresh_state(plan) as state:
        features = RedisFeatures(state)
        assert state.function("fence", 0, "c1", b"a" * 16, 10**9) == 0
        log = [payment(n) for n in range(4_200)]
        for start in range(0, len(log), 300):
            features.add(log[start : start + 300])
        assert state.function("swap", 0, "c1", b"a" * 16, b"", b"") == -1
        assert len(state.get_range(0, "c1", 0)) == state.library.head_bytes[0]
        assert words_of(state, 0, "c1") == expected_words(plan, log, 0, "c1")


def test_a_rebuild_waits_for_the_work_under_way() -> None:
    plan = plan_of(aggregate("n"), aggregate("s", "sum"))
    log: list[Entry] = [payment(n) for n in range(3)]
    with fresh_state(plan) as state, second_state(state) as other:
        features = RedisFeatures(other)
        features.add([t for t in log if isinstance(t, Transaction)])
        token = b"w" * 16
        features.add([payment(3)], token)  # changed, not durable yet
        marks = RedisMarks(state)
        assert marks.intents_of((0, "c1")) == {token}
        assert marks.intents_of((0, "c2")) == set()
        impatient = Repairer(state, marks, reader(plan, log), print, patience_seconds=0.05)
        assert impatient.rebuild(0, "c1") is None
        reading = threading.Event()
        found: list[Rebuilt | None] = []

        def read(view: int, key: str) -> History:
            reading.set()
            return reader(plan, log)(view, key)

        repairer = Repairer(state, marks, read, print, patience_seconds=20)
        thread = threading.Thread(target=lambda: found.append(repairer.rebuild(0, "c1")))
        thread.start()
        assert not reading.wait(0.2), "the ledger is not read before the work is over"
        log.append(payment(3))
        assert features.marks.finish([token]) == [True]
        thread.join(300)
        assert found == [Rebuilt(0, "c1", 5, 4)]
        assert words_of(state, 0, "c1") == expected_words(plan, log, 0, "c1")


def test_a_label_that_is_durable_before_its_change_is_counted_once() -> None:
    plan = plan_of(aggregate("n"), aggregate("frauds", "fraud_count"))
    log: list[Entry] = [payment(n) for n in range(3)]
    with fresh_state(plan) as state, second_state(state) as other:
        features = RedisFeatures(other)
        features.add([t for t in log if isinstance(t, Transaction)])
        marks = RedisMarks(state)
        read = reader(plan, log)
        token = b"l" * 16

        def read_between(view: int, key: str) -> History:
            # A label is announced and becomes durable; its change comes after the ledger is read.
            other.exchange([features.marks.intent(token, [(0, "c1")])])
            log.append(fraud(1))
            history = read(view, key)

            def change_late() -> None:
                features.apply([Change(payment(1), KIND_FRAUD, label_hash("l1"))])
                features.marks.finish([token])

            threading.Timer(0.1, change_late).start()
            return history

        repairer = Repairer(state, marks, read_between, print, patience_seconds=20)
        assert repairer.rebuild(0, "c1") == Rebuilt(0, "c1", 5, 4)
        assert words_of(state, 0, "c1") == expected_words(plan, log, 0, "c1")


def test_marks_outlive_the_scorer_that_made_them() -> None:
    plan = every_function()
    log: list[Entry] = [payment(n) for n in range(5)]
    recorded: list[Rebuilt] = []
    with fresh_state(plan) as state:
        with second_state(state) as scorer:
            features = RedisFeatures(scorer)
            features.add([t for t in log if isinstance(t, Transaction)])
            # It ends between its changes and its commit.
            features.add([payment(5)], b"x" * 16)
        marks = RedisMarks(state)
        read = reader(plan, log)
        repairer = Repairer(state, marks, read, recorded.append, patience_seconds=0.05)
        assert repairer.run() == [], "it may still be alive"
        repairer = Repairer(state, marks, read, recorded.append, abandon_seconds=0)
        done = repairer.run()
        assert {(r.view, r.key) for r in done} == {(0, "c1"), (1, f"c1{KEY_SEPARATOR}m2")}
        assert recorded == done
        assert marks.marks() == []
        for view, key in [(0, "c1"), (1, f"c1{KEY_SEPARATOR}m2")]:
            assert words_of(state, view, key) == expected_words(plan, log, view, key)
        assert marks.finish([b"x" * 16]) == [False], "it hears of it, should it wake up"


def test_a_mark_that_is_renewed_during_a_rebuild_stays() -> None:
    plan = plan_of(aggregate("n"))
    with fresh_state(plan) as state:
        marks = RedisMarks(state)
        assert marks.mark([(0, "c1"), (0, "{c2}:\x1f")])
        assert [(m.view, m.key) for m in marks.marks()] == [(0, "c1"), (0, "{c2}:\x1f")]
        first, _ = marks.marks()
        assert marks.mark([(0, "c1")])
        assert not marks.unmark(first)
        assert [m.key for m in marks.marks()] == ["{c2}:\x1f", "c1"]
        assert all(marks.unmark(mark) for mark in marks.marks())


def test_a_ledger_that_cannot_be_read_leaves_the_mark_and_no_fence() -> None:
    plan = plan_of(aggregate("n"))

    def read(view: int, key: str) -> History:
        raise OSError("no ledger")

    with fresh_state(plan) as state:
        marks = RedisMarks(state)
        marks.mark([(0, "c1")])
        with pytest.raises(OSError, match="no ledger"):
            Repairer(state, marks, read, print).run()
        assert len(marks.marks()) == 1
        assert state.function("fence", 0, "c1", b"a" * 16, 10**9) == 0


def test_rebuilds_amid_a_stream_of_changes_lose_nothing() -> None:
    plan = every_function()
    log: list[Entry] = []
    with fresh_state(plan) as state, second_state(state) as other:
        features = RedisFeatures(other)
        stop = threading.Event()

        def stream() -> None:
            for n in itertools.count():
                if stop.is_set():
                    return
                token = n.to_bytes(16, "big")
                features.add([payment(n)], token)
                if n % 5:  # every fifth is lost
                    log.append(payment(n))
                elif n:
                    features.marks.mark([(0, "c1")])
                features.marks.finish([token])

        thread = threading.Thread(target=stream)
        thread.start()
        marks = RedisMarks(state)
        repairer = Repairer(state, marks, reader(plan, log), print, patience_seconds=20)
        rebuilt: list[Rebuilt] = []
        deadline = time.monotonic() + 300
        while len(rebuilt) < 5 and time.monotonic() < deadline:
            rebuilt += repairer.run()
        stop.set()
        thread.join()
        rebuilt += repairer.run()
        assert len(rebuilt) >= 5
        assert marks.marks() == []
        positions = [r.position for r in rebuilt]
        assert positions == sorted(set(positions))
        assert words_of(state, 0, "c1") == expected_words(plan, log, 0, "c1")
