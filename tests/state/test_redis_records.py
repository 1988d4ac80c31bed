"""Records in Redis are the kernel's, word for word."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import ConfigurationError, Transaction
from sentinel.features.arena import Arena
from sentinel.features.plan.program import KIND_FRAUD, compile_program
from sentinel.state.redis_features import Change, RedisFeatures
from sentinel.state.redis_records import FLAG_REPEATED, RedisState, label_hash
from testkit.online_fold import OnlineFold
from testkit.redis_fold import RedisFold
from tests.features.engines import Entry
from tests.features.logs import bits_of
from tests.features.plans import MINUTE_US, aggregate, every_function, plan_of
from tests.features.worlds import START_US, World, worlds
from tests.state.shared_redis import fresh_state


def differing_records(state: RedisState, arena: Arena) -> list[str]:
    """Records that are not the arena's, word for word."""
    found = []
    for view, keys in enumerate(arena.keys):
        for key in keys:
            (raw,) = state.read([(view, key)])
            expected = arena.record(view, key)
            words = np.frombuffer(raw, dtype="<i8") if raw else np.zeros_like(expected)
            wrong = np.flatnonzero(words != expected).tolist()
            if wrong:
                found.append(f"view {view}, {key!r}: words {wrong} of {len(expected)}")
    return found


def payment(n: int, time_us: int, amount: int = 100, merchant: str = "m1") -> Transaction:
    return Transaction(
        transaction_id=f"t{n}",
        event_time_us=time_us,
        received_at_us=START_US + n,
        amount_minor=amount,
        customer_id="c1",
        merchant_id=merchant,
    )


@given(worlds(), st.integers(0, 2**16))
def test_words_positions_and_flags_are_the_kernels(world: World, seed: int) -> None:
    online = OnlineFold(compile_program(world.plan))
    online.run(world.log)
    with fresh_state(world.plan) as state:
        shared = RedisFold(state, capacity=random.Random(seed).choice([1, 4, 64]))
        shared.run(world.log)
        assert differing_records(state, online.arena) == []
        assert shared.positions == online.positions
        assert shared.flags == online.flags


def test_sums_beyond_what_a_double_holds_are_exact() -> None:
    plan = every_function((10 * MINUTE_US, 100 * MINUTE_US))
    rng = random.Random(3)
    log: Sequence[Entry] = [
        payment(n, START_US + n * 1000, rng.choice((-1, 1)) * (10**12 - rng.randrange(3)))
        if n % 3
        else payment(n, START_US + n * 1000, 10**12 - n)
        for n in range(20_000)
    ]
    online = OnlineFold(compile_program(plan), capacity=256)
    expected = online.run(log)
    largest = np.abs(online.arena.words).max()
    assert largest > 2**53
    with fresh_state(plan) as state:
        shared = RedisFold(state, capacity=500)
        assert (bits_of(shared.run(log)) == bits_of(expected)).all()
        assert differing_records(state, online.arena) == []


def test_a_repeated_change_adds_nothing_and_names_its_position() -> None:
    plan = plan_of(aggregate("n"), aggregate("frauds", "fraud_count"), aggregate("s", "sum"))
    with fresh_state(plan) as state:
        features = RedisFeatures(state)
        log = [payment(n, START_US + n) for n in range(10)]
        first = features.add(log)
        assert first.positions[:, 0].tolist() == list(range(1, 11))
        assert not first.repeated.any()
        label = Change(log[3], KIND_FRAUD, label_hash("l1"))
        assert features.apply([label]).positions.tolist() == [[11]]
        before = state.read([(0, "c1")])
        again = features.add(log)
        assert again.positions.tolist() == first.positions.tolist()
        assert again.repeated.all()
        once_more = features.apply([label])
        assert once_more.positions.tolist() == [[11]]
        assert once_more.flags.tolist() == [[FLAG_REPEATED]]
        assert state.read([(0, "c1")]) == before


def test_a_label_and_a_transaction_of_the_same_id_are_two_changes() -> None:
    with fresh_state(plan_of(aggregate("frauds", "fraud_count"))) as state:
        features = RedisFeatures(state)
        transaction = payment(1, START_US)
        features.add([transaction])
        label = Change(transaction, KIND_FRAUD, label_hash(transaction.transaction_id))
        assert features.apply([label]).positions.tolist() == [[2]]


def test_the_latest_ids_are_remembered_and_older_ones_forgotten() -> None:
    with fresh_state(plan_of(aggregate("n"))) as state:
        features = RedisFeatures(state)
        log = [payment(n, START_US + n) for n in range(50)]
        features.add(log)
        again = features.add(log[-32:])
        assert again.positions[:, 0].tolist() == list(range(19, 51))
        assert again.repeated.all()
        assert not features.add(log[:1]).repeated.any()


def test_a_label_for_a_record_that_is_not_there_changes_nothing() -> None:
    with fresh_state(plan_of(aggregate("frauds", "fraud_count"))) as state:
        label = Change(payment(1, START_US), KIND_FRAUD, label_hash("l1"))
        applied = RedisFeatures(state).apply([label])
        assert applied.positions.tolist() == [[0]]
        assert state.read([(0, "c1")]) == [b""]


@given(worlds(max_entries=40))
def test_reading_changes_nothing_and_gives_what_memory_gives(world: World) -> None:
    online = OnlineFold(compile_program(world.plan))
    online.run(world.log)
    transactions = [entry for entry in world.log if isinstance(entry, Transaction)]
    probes = transactions[-5:]
    with fresh_state(world.plan) as state:
        shared = RedisFold(state, capacity=64)
        shared.run(world.log)
        peeked = shared.features.peek(probes)
        assert differing_records(state, online.arena) == []
    for probe, vector in zip(probes, peeked, strict=True):
        expected = OnlineFold(online.program, _copy(online.arena)).run([probe])
        assert (bits_of(vector[None]) == bits_of(expected)).all()


def _copy(arena: Arena) -> Arena:
    copy = Arena(arena.program)
    copy.words, copy.used = arena.words.copy(), arena.used
    for mine, theirs in zip(copy.keys, arena.keys, strict=True):
        mine.update(theirs)
    return copy


def test_a_loaded_state_goes_on_where_the_fold_ended() -> None:
    plan = every_function()
    log = [payment(n, START_US + n * MINUTE_US, n * 7, f"m{n % 3}") for n in range(60)]
    online = OnlineFold(compile_program(plan))
    online.run(log[:40])
    with fresh_state(plan) as state:
        assert state.loaded_through() is None
        RedisFeatures(state).add([payment(999, START_US, merchant="gone")])
        assert state.load(online.arena, 40) == online.arena.entities
        assert state.loaded_through() == 40
        assert state.count() == online.arena.entities, "nothing is left of what there was"
        shared = RedisFold(state, capacity=7)
        assert (bits_of(shared.run(log[40:])) == bits_of(online.run(log[40:]))).all()
        assert differing_records(state, online.arena) == []
        assert state.drop() == online.arena.entities + 1
        assert state.loaded_through() is None


@pytest.mark.parametrize("url", ["http://127.0.0.1", "nonsense"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="redis_url"):
        RedisState(compile_program(plan_of(aggregate("n"))), url)
