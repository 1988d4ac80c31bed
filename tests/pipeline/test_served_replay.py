"""Scorers that share state are held to the positions they recorded, not to the log's order."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.fold import fold
from sentinel.features.plan.plan import HOUR_US, Plan
from sentinel.features.plan.program import (
    EVENT_VIEWS,
    KIND_ADD,
    KIND_FRAUD,
    POSITION_MASK,
    compile_program,
)
from sentinel.ledger.log import append_import, read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.columns import NO_COLUMNS, with_untracked
from sentinel.log.entries import (
    FLAG_DEGRADED,
    GROUP_FORMAT,
    LABEL_FORMAT,
    N_REASONS,
    DecisionGroup,
    GroupKind,
    LabelGroup,
    encode_group,
    partly_tracked,
)
from sentinel.pipeline.served_changes import Effect, Rebuilt
from sentinel.pipeline.served_replay import ServedReplay, replay_served
from sentinel.pipeline.verify import transactions_of
from tests.features.logs import batch_of
from tests.features.plans import every_function

START_US = 1_709_294_400_000_000
HISTORY = 40
LIVE = 200


class World:
    """Shared state: payments reach it in one order, their records reach the log in another."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.plan = plan
        self.program = compile_program(plan)
        self.arena = Arena(self.program)
        self.encoder = EventEncoder(self.program, self.arena)
        self.ledger = SqliteLedger.open_writer(path)
        self.rng = random.Random(5)
        self.now = START_US
        self.number = 0
        self.effects: list[Effect] = []
        self.rebuilds: list[Rebuilt] = []
        self.history = [self.payment() for _ in range(HISTORY)]
        append_import(self.ledger, batch_of(self.history))
        for transaction in self.history:
            self.add(transaction)
        self.loaded_through = self.ledger.last_sequence()

    def payment(self, customer_id: str | None = None) -> Transaction:
        self.number += 1
        self.now += self.rng.randrange(HOUR_US // 20)
        late = self.rng.randrange(4 * HOUR_US) if self.rng.random() < 0.2 else 0
        return Transaction(
            transaction_id=f"t{self.number}",
            event_time_us=self.now - late,
            received_at_us=self.now,
            amount_minor=self.rng.randrange(-500, 5_000),
            customer_id=customer_id or f"c{self.rng.randrange(3)}",
            merchant_id=self.rng.choice((None, "m1", "m2")),
            attributes={"channel": "web"},
        )

    def add(self, transaction: Transaction, kind: int = KIND_ADD) -> tuple[np.ndarray, np.ndarray]:
        """Read and add; the vector, and the positions of the change."""
        self.encoder.put(0, transaction, kind)
        out = np.empty((1, self.program.n_features), dtype=np.float32)
        fold(self.arena.words, self.program.code, self.encoder.events, self.encoder.given, out, 1)
        first = EVENT_VIEWS + len(self.plan.views)
        placed = self.encoder.events[0, first : first + len(self.plan.views)] & POSITION_MASK
        return out[0], placed.copy()

    def record(
        self, decided: list[tuple[Transaction, np.ndarray, np.ndarray]], flags: int = 0
    ) -> int:
        """Append a group of decisions."""
        n = len(decided)
        self.now += 1_000
        payload = encode_group(
            DecisionGroup(
                format=GROUP_FORMAT,
                plan_hash=self.plan.hash,
                model_name="m",
                model_version="1",
                transactions=[transaction for transaction, _, _ in decided],
                vectors=np.stack([vector for _, vector, _ in decided]).astype("<f4").tobytes(),
                scores=np.zeros(n).tobytes(),
                probabilities=np.zeros(n).tobytes(),
                flags=np.full(n, flags, "<u4").tobytes(),
                reason_features=np.full((n, N_REASONS), -1, "<i2").tobytes(),
                reason_contributions=np.zeros((n, N_REASONS), "<f4").tobytes(),
                latencies_us=np.zeros(n, "<u4").tobytes(),
                positions=np.stack([placed for _, _, placed in decided]).astype("<i8").tobytes(),
                columns=with_untracked(NO_COLUMNS, [one.untracked for one, _, _ in decided]),
            )
        )
        return self.ledger.append(GroupKind.DECISIONS, n, self.now, payload).first_sequence

    def label(self, transaction: Transaction) -> None:
        """A chargeback: first durable, then in the state."""
        self.now += 1_000
        labels = [
            Label(
                label_id=f"l-{transaction.transaction_id}",
                transaction_id=transaction.transaction_id,
                verdict=Verdict.FRAUD,
                received_at_us=self.now,
            )
        ]
        payload = encode_group(LabelGroup(format=LABEL_FORMAT, labels=labels))
        sequence = self.ledger.append(GroupKind.LABELS, 1, self.now, payload).first_sequence
        _, placed = self.add(transaction, KIND_FRAUD)
        positions = tuple(placed.tolist())
        self.effects.append(Effect(transaction.transaction_id, KIND_FRAUD, positions, sequence))

    def rebuild(self, customer_id: str) -> None:
        """Make every record of a customer anew from what is durable."""
        shared, through = self.arena, self.ledger.last_sequence()
        self.arena = Arena(self.program)
        self.encoder = EventEncoder(self.program, self.arena)
        labelled = {effect.transaction_id for effect in self.effects}
        for _, batch in read_log(self.ledger):
            for transaction in transactions_of(batch):
                self.add(transaction)
                if transaction.transaction_id in labelled:
                    self.add(transaction, KIND_FRAUD)
        for view, keys in enumerate(shared.keys):
            for key in keys:
                if key.startswith(customer_id):
                    record = shared.record(view, key)
                    position = int(record[1]) + 1
                    record[:] = self.arena.record(view, key)
                    record[1] = position
                    self.rebuilds.append(Rebuilt(view, key, position, through))
        self.arena = shared
        self.encoder = EventEncoder(self.program, shared)

    def replay(self) -> ServedReplay:
        return replay_served(
            self.ledger, self.plan, self.loaded_through, self.rebuilds, self.effects
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "ledger.db", every_function())


def run(world: World) -> None:
    """Three scorers whose groups reach the log in another order than the state."""
    held: list[list[tuple[Transaction, np.ndarray, np.ndarray]]] = [[], [], []]
    for number in range(LIVE):
        transaction = world.payment()
        held[number % 3].append((transaction, *world.add(transaction)))
        if number % 10 == 9:
            group = world.rng.choice([g for g in held if g])
            world.record(group)
            labelled = group[0][0]
            group.clear()
            if world.rng.random() < 0.5:
                world.label(labelled)
    for group in reversed(held):
        if group:
            world.record(group)


def test_a_replay_by_position_gives_every_served_vector(world: World) -> None:
    run(world)
    result = world.replay()
    assert world.effects
    assert (result.decisions, result.degraded, result.unverifiable) == (LIVE, 0, 0)
    assert result.values == LIVE * len(world.plan.feature_names)
    assert result.mismatches == 0, result.examples


def test_a_replay_in_another_order_would_be_noticed(world: World) -> None:
    run(world)
    first, second = world.payment("c0"), world.payment("c0")
    one = (first, *world.add(first))
    two = (second, *world.add(second))
    world.record([(first, one[1], two[2]), (second, two[1], one[2])])  # positions exchanged
    assert world.replay().mismatches > 0


def test_a_label_of_a_payment_in_the_loaded_history_is_replayed(world: World) -> None:
    world.label(world.history[-1])
    run(world)
    result = world.replay()
    assert (result.decisions, result.mismatches) == (LIVE, 0)


def test_what_a_phantom_touched_is_unverifiable_until_its_record_is_rebuilt(world: World) -> None:
    run(world)
    phantom = world.payment("c1")
    world.add(phantom)  # in the state, never in the log
    after = world.payment("c1")
    world.record([(after, *world.add(after))])
    result = world.replay()
    assert result.mismatches == 0
    assert 0 < result.unverifiable < len(world.plan.feature_names)

    world.rebuild("c1")
    later = world.payment("c1")
    world.record([(later, *world.add(later))])
    again = world.replay()
    assert (again.mismatches, again.unverifiable) == (0, result.unverifiable), again.examples


def test_records_that_could_not_be_made_hold_nothing_in_a_replay(world: World) -> None:
    """What is compared are the payments after it."""
    world.encoder.known_only = (0,)
    without = world.payment("new")
    vector, placed = world.add(without)
    untracked = partly_tracked(without, [view.entity for view in world.plan.views])
    world.encoder.known_only = ()
    world.record([(untracked, vector, placed)], FLAG_DEGRADED)
    for _ in range(3):
        after = world.payment("new")
        world.record([(after, *world.add(after))])
    result = world.replay()
    assert (result.decisions, result.degraded, result.mismatches) == (3, 1, 0), result.examples
    assert result.unverifiable == 0


def test_degraded_decisions_are_counted_not_compared(world: World) -> None:
    transaction = world.payment()
    nothing = np.full(world.program.n_features, np.nan, dtype=np.float32)
    world.record(
        [(transaction, nothing, np.zeros(len(world.plan.views), dtype=np.int64))], FLAG_DEGRADED
    )
    result = world.replay()
    assert (result.decisions, result.degraded, result.mismatches) == (0, 1, 0)
