"""The offline fold on longer logs: threads, batches, and what labels need."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import Arena
from sentinel.features.offline import OfflineFold, batch_rows
from sentinel.features.plan.plan import MINUTE_US, Plan
from sentinel.features.plan.program import compile_program
from testkit.entry_fold import EntryFold
from tests.features.engines import oracle
from tests.features.logs import batches_of, bits_of, bits_of_values
from tests.features.plans import aggregate, every_function, plan_of
from tests.features.worlds import START_US, Entry


def long_log(n: int, seed: int = 1) -> list[Entry]:
    """Payments of 60 customers at 25 merchants with late ones, ties and labels."""
    chance = random.Random(seed)
    log: list[Entry] = []
    time = START_US
    for i in range(n):
        time += chance.choice([0, 1_000_000, 30_000_000, 90_000_000])
        late = chance.choice([0, 0, 0, 0, MINUTE_US, 3_000 * MINUTE_US])
        log.append(
            Transaction(
                transaction_id=f"t{i}",
                event_time_us=time - late,
                received_at_us=time,
                amount_minor=chance.randrange(-500, 20_000),
                customer_id=f"c{chance.randrange(60)}",
                merchant_id=chance.choice([None, *(f"m{m}" for m in range(25))]),
                attributes={"channel": chance.choice(["pos", "web"]), "risk": chance.random()},
            )
        )
        if chance.random() < 0.05:
            log.append(
                Label(
                    label_id=f"l{i}",
                    transaction_id=f"t{chance.randrange(n)}",
                    verdict=chance.choice(list(Verdict)),
                    received_at_us=time,
                )
            )
    return log


def backfill(plan: Plan, log: Sequence[Entry], threads: int, rows: int) -> np.ndarray:
    batches = batches_of(log, range(0, len(log), rows))
    folding = OfflineFold(compile_program(plan), threads=threads)
    folding.book.scan(batches)
    return np.concatenate(list(folding.run(batches)))


def test_threads_and_batches_change_nothing() -> None:
    plan, log = every_function(), long_log(6_000)
    expected = bits_of(backfill(plan, log, 1, 6_000))
    for threads, rows in ((2, 6_000), (3, 2_500), (1, 617)):
        assert np.array_equal(bits_of(backfill(plan, log, threads, rows)), expected)
    assert np.array_equal(bits_of(EntryFold(compile_program(plan)).run(log)), expected)


def test_a_long_log_agrees_with_the_definition() -> None:
    plan, log = every_function(), long_log(1_500, seed=2)
    expected = bits_of_values(oracle(plan, log), len(plan.feature_names))
    assert np.array_equal(bits_of(backfill(plan, log, 2, 1_500)), expected)


@pytest.mark.parametrize("vectors", [True, False])
def test_a_batch_of_labels_only_and_an_empty_one_are_fine(vectors: bool) -> None:
    plan, log = every_function(), long_log(50)
    labels = [entry for entry in log if isinstance(entry, Label)]
    folding = OfflineFold(compile_program(plan), threads=1)
    for batch in (*batches_of(log), *batches_of(labels), *batches_of(log)):
        folding.book.scan([batch])
        found = folding.step(batch, vectors=vectors)
        assert found.shape[1] == len(plan.feature_names)
    empty = batches_of(log)[0].slice(0, 0)
    assert folding.step(empty, vectors=vectors).shape == (0, len(plan.feature_names))


def test_vectors_go_where_they_are_told_to() -> None:
    plan, log = every_function(), long_log(600)
    expected = backfill(plan, log, 1, 200)
    folding = OfflineFold(compile_program(plan), threads=1)
    batches = batches_of(log, range(200, len(log), 200))
    folding.book.scan(batches)
    out = np.empty((200, len(plan.feature_names)), dtype=np.float32)
    found = []
    for batch in batches:
        vectors = folding.step(batch, out=out)
        assert np.shares_memory(vectors, out)
        found.append(vectors.copy())
    with pytest.raises(ValueError, match="need room"):
        folding.step(batches[0], out=out[:3])
    assert np.array_equal(bits_of(np.concatenate(found)), bits_of(expected))


def test_moving_the_state_alone_leaves_the_same_state() -> None:
    plan, log = every_function(), long_log(1_200)
    arenas = []
    for vectors in (True, False):
        folding = OfflineFold(compile_program(plan), threads=2)
        batches = batches_of(log, [700])
        folding.book.scan(batches)
        for _ in folding.run(batches, vectors=vectors):
            pass
        arenas.append(folding.arena)
    assert np.array_equal(arenas[0].words, arenas[1].words)
    assert arenas[0].keys == arenas[1].keys


def fraud_plan() -> Plan:
    return plan_of(
        aggregate("n"), aggregate("frauds", "fraud_count"), aggregate("rate", "fraud_rate")
    )


def event(i: int) -> Transaction:
    return Transaction(
        transaction_id=f"t{i}",
        event_time_us=START_US + i,
        received_at_us=START_US + i,
        amount_minor=1,
        customer_id="c",
    )


def verdict(i: int, of: int, fraud: bool) -> Label:
    return Label(
        label_id=f"l{i}",
        transaction_id=f"t{of}",
        verdict=Verdict.FRAUD if fraud else Verdict.LEGITIMATE,
        received_at_us=START_US + i,
    )


def test_a_label_counts_from_its_arrival_and_a_correction_takes_it_back() -> None:
    log: list[Entry] = [
        event(0),
        event(1),
        verdict(2, 0, fraud=True),
        event(3),
        verdict(4, 0, fraud=True),  # told twice, counted once
        event(5),
        verdict(6, 0, fraud=False),
        event(7),
    ]
    vectors = backfill(fraud_plan(), log, 1, 3)
    assert vectors[:, 1].tolist() == [0, 0, 1, 1, 0]
    assert vectors[2:4, 2].tolist() == [np.float32(1 / 2), np.float32(1 / 3)]


def test_a_label_before_its_transaction_waits_for_it() -> None:
    log: list[Entry] = [event(0), verdict(1, 2, fraud=True), event(2), event(3)]
    for rows in (1, 2, 4):
        assert backfill(fraud_plan(), log, 1, rows)[:, 1].tolist() == [0, 0, 1]


def test_only_transactions_whose_labels_matter_are_kept_in_memory() -> None:
    log: list[Entry] = [event(i) for i in range(100)]
    log += [verdict(100 + i, i, fraud=i == 7) for i in range(100)]
    batches = batches_of(log)
    folding = OfflineFold(compile_program(fraud_plan()), threads=1)
    folding.book.scan(batches)
    assert folding.book.wanted == {"t7"}
    list(folding.run(batches))
    assert set(folding.book.encoded) == {"t7"}


def test_a_batch_has_room_whatever_the_plan() -> None:
    few, many = compile_program(fraud_plan()), compile_program(every_function())
    assert many.n_features > few.n_features
    budget = 64 << 20
    assert batch_rows(few, budget) > batch_rows(many, budget) > 1024
    assert batch_rows(many, budget) * 4 * many.n_features < budget
    assert batch_rows(many, 0) == 1024
    assert batch_rows(many, budget, log_row_bytes=30) > batch_rows(many, budget)


def test_keys_that_come_twice_are_one_record() -> None:
    arena = Arena(compile_program(fraud_plan()))
    arena.locate(0, "b")
    offsets = arena.locate_column(0, pa.array(["a", "b", "a", "c"]))
    assert offsets[0] == offsets[2]
    assert len(set(offsets.tolist())) == arena.entities == 3
    assert offsets.tolist() == [arena.locate(0, key) for key in "abac"]
    assert arena.used == max(offsets) + arena.program.record_words[0]
