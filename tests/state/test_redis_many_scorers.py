"""Eight processes change the same hot record; no change is lost, and each served what it should."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.fold import fold
from sentinel.features.plan.plan import Plan, View
from sentinel.features.plan.program import (
    EVENT_KIND,
    KIND_ADD,
    KIND_FRAUD,
    KIND_RETRACT,
    compile_program,
)
from sentinel.state.redis_features import Change, RedisFeatures
from sentinel.state.redis_records import RedisState, label_hash
from tests.features.logs import bits_of
from tests.features.plans import every_function
from tests.features.worlds import START_US
from tests.state.shared_redis import fresh_state, shared_redis

SCORERS = 8
CHANGES = 150


def hot_plan() -> Plan:
    """Everything there is, by merchant."""
    plan = every_function()
    view = plan.views[0]
    return Plan((View(view.name, ("merchant_id",), view.aggregates),), plan.request)


def changes_of(scorer: int) -> list[Change]:
    """Payments at one merchant, some late, some of them labelled; the same every time."""
    chance = random.Random(scorer)
    changes: list[Change] = []
    payments: list[Transaction] = []
    time = START_US
    for n in range(CHANGES):
        if payments and chance.random() < 0.15:
            kind = chance.choice([KIND_FRAUD, KIND_RETRACT])
            about = chance.choice(payments)
            changes.append(Change(about, kind, label_hash(f"{scorer}-{n}")))
            continue
        time += chance.randrange(60_000_000)
        payments.append(
            Transaction(
                transaction_id=f"{scorer}-{n}",
                event_time_us=time - (chance.random() < 0.1) * chance.randrange(10**11),
                received_at_us=START_US,
                amount_minor=chance.randrange(-(10**12), 10**12),
                customer_id=f"c{chance.randrange(5)}",
                merchant_id="hot",
            )
        )
        changes.append(Change(payments[-1]))
    return changes


def score(scorer: int, url: str, prefix: str, target: Path, start: object) -> None:
    """One scorer: groups of random size, what it got into a file."""
    chance = random.Random(scorer)
    state = RedisState(compile_program(hot_plan()), url, timeout_seconds=60, prefix=prefix)
    features = RedisFeatures(state)
    changes = changes_of(scorer)
    positions, vectors, at = [], [], 0
    start.wait()  # type: ignore[attr-defined]
    while at < len(changes):
        size = chance.choice([1, 1, 2, 5])
        applied = features.apply(changes[at : at + size])
        positions.append(applied.positions)
        vectors.append(applied.vectors)
        at += size
    state.close()
    np.savez(target, positions=np.concatenate(positions), vectors=np.concatenate(vectors))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_hot_record_loses_no_change_and_replays_by_position(tmp_path: Path) -> None:
    plan = hot_plan()
    program = compile_program(plan)
    with fresh_state(plan) as state:
        RedisFeatures(state).read([{}], 0)  # loads the kernels before the fork
        prefix = state.base.split(":", 1)[0]
        context = multiprocessing.get_context("fork")
        start = context.Barrier(SCORERS)
        crew = [
            context.Process(
                target=score,
                args=(i, shared_redis().url, prefix, tmp_path / f"{i}.npz", start),
            )
            for i in range(SCORERS)
        ]
        for process in crew:
            process.start()
        for process in crew:
            process.join(200)
            assert process.exitcode == 0
        (raw,) = state.read([(0, "hot")])

    changes, positions, served = [], [], []
    for scorer in range(SCORERS):
        changes += changes_of(scorer)
        with np.load(tmp_path / f"{scorer}.npz") as found:
            positions.append(found["positions"][:, 0])
            served.append(found["vectors"])
    places = np.concatenate(positions)
    vectors = np.concatenate(served)
    first = np.flatnonzero(places == 1)
    assert len(first) == 1
    assert sorted(places.tolist()) == list(range(1, SCORERS * CHANGES + 1)), "no hole, no repeat"
    runs = np.flatnonzero(np.diff(np.argsort(places) // CHANGES))
    assert len(runs) > SCORERS, "they did interleave"

    order = np.argsort(places)
    arena = Arena(program)
    encoder = EventEncoder(program, arena, len(order))
    for row, i in enumerate(order):
        encoder.put(row, changes[i].transaction)
        encoder.events[row, EVENT_KIND] = changes[i].kind
    out = np.zeros((len(order), program.n_features), dtype=np.float32)
    fold(arena.words, program.code, encoder.events, encoder.given, out, len(order))
    payments = np.array([changes[i].kind == KIND_ADD for i in order])
    assert (bits_of(vectors[order][payments]) == bits_of(out[payments])).all()
    assert np.frombuffer(raw, "<i8").tolist() == arena.record(0, "hot").tolist()
