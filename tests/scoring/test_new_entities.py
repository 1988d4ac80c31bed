"""A flood of made-up ids fills no memory, and costs nobody else a decision."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from sentinel.access.principals import NOBODY
from sentinel.api.large import LARGE_BYTES, LargeBodies
from sentinel.api.routes.payments import Intake
from sentinel.domain import Overloaded, StateUnavailable, Transaction, Verdict
from sentinel.features.arena import Arena
from sentinel.features.as_of import RowsAsOf, features_as_of
from sentinel.features.offline import OfflineFold
from sentinel.features.plan.plan import DAY_US, HOUR_US
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.log import read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import FLAG_DEGRADED, decode_decisions, encode_group
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.new_entities import MINUTES_OF_BUDGET, MINUTES_SAVED, NewEntities
from sentinel.scoring.pending import FutureReceiver, Pending
from sentinel.scoring.recovery import recover
from sentinel.scoring.reserved import Reserved
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from sentinel.state.embedded import EmbeddedState
from tests.features.logs import bits_of
from tests.features.plans import every_function
from tests.scoring.one_scorer import PLAN, decide, label, made, payment, settings, within

__all__ = ["made", "settings"]

START_US = 1_700_000_000_000_000


Records = list[dict[str, bytes]]


def records_of(state: EmbeddedState) -> Records:
    """By view, the record of each key."""
    return [
        {key: state.arena.record(view, key).tobytes() for key in keys}
        for view, keys in enumerate(state.arena.keys)
    ]


def state_of(budget_bytes: int) -> EmbeddedState:
    state = EmbeddedState.empty(compile_program(every_function((HOUR_US, DAY_US))))
    state.budget_bytes = budget_bytes
    return state


def new_payment(n: int, merchant: str = "m") -> Transaction:
    return Transaction(
        transaction_id=f"t{n}",
        event_time_us=START_US + n,
        received_at_us=START_US + n,
        amount_minor=100,
        customer_id=f"c{n}",
        merchant_id=merchant,
    )


async def pending(sender: str, n: int = 0) -> Pending:
    return Pending(new_payment(n), FutureReceiver(), 0, dry_run=False, called_by=sender)


def test_a_batch_beyond_the_quota_is_told_when_to_come_again() -> None:
    now = [0.0]
    quota = NewEntities(60, ScoringMetrics(), lambda: now[0])
    state = state_of(1 << 30)
    group = [asyncio.run(pending("a"))]
    quota.check("a", 60 * MINUTES_SAVED, state)
    quota.charge(group, [0] * 60 * MINUTES_SAVED, state)
    with pytest.raises(Overloaded, match=r"state\.new_entities_per_minute") as refused:
        quota.check("a", 120, state)
    assert refused.value.retry_after_seconds == pytest.approx(120)
    quota.check("a", 0, state)  # of known entities it may send any number
    quota.check("b", 120, state)  # and nobody else is concerned
    now[0] = 121.0
    quota.check("a", 120, state)
    with pytest.raises(Overloaded, match="at most 6,000 new entities at once"):
        quota.check("b", 6_001, state)


def test_by_default_one_sender_needs_most_of_a_day_to_fill_the_budget() -> None:
    state = state_of(1_000_000_000)
    rate = NewEntities(0, ScoringMetrics()).per_minute(state)
    assert rate * state.entity_bytes * MINUTES_OF_BUDGET == pytest.approx(1e9)
    assert MINUTES_OF_BUDGET / 60 > 16
    assert NewEntities(7, ScoringMetrics()).per_minute(state) == 7
    assert NewEntities(0, ScoringMetrics()).per_minute(state_of(0)) == float("inf")


def test_the_upper_half_is_left_to_those_within_their_quota() -> None:
    quota = NewEntities(1, ScoringMetrics(), lambda: 0.0)
    state = state_of(0)
    group = [asyncio.run(pending(sender)) for sender in ("flood", "shop")]
    quota.charge(group, [0] * 1_000, state)
    state.budget_bytes = 2 * state.held_bytes + 1
    assert not quota.known_only(group, state)
    state.budget_bytes = 2 * state.held_bytes
    assert list(quota.known_only(group, state)) == [0]
    state.budget_bytes = state.held_bytes
    assert list(quota.known_only(group, state)) == [0, 1]


def test_what_a_batch_would_add_is_counted_before_it_is_taken() -> None:
    state = state_of(0)
    batch = [new_payment(n, merchant=f"m{n % 3}") for n in range(10)]
    expected = state.new_entities(batch)
    assert expected == len(state.add(batch).new_records) > 10
    assert state.new_entities(batch) == 0


def test_a_refused_batch_leaves_nothing_behind_and_single_payments_pass(
    settings: Settings,
) -> None:
    quota = settings.state.model_copy(update={"new_entities_per_minute": 1})
    settings = settings.model_copy(update={"state": quota})

    async def claim(runtime: ScoringRuntime) -> None:
        intake = Intake(runtime, LargeBodies())

        async def send(first: int, n: int) -> None:
            rows = [
                {"transaction_id": f"t{i}", "amount_minor": 1, "customer_id": f"c{i}"}
                for i in range(first, first + n)
            ]
            receiver = FutureReceiver()
            body = msgspec.json.encode({"transactions": rows})
            intake.predict_batch(body, False, receiver, NOBODY)
            await receiver.future

        await send(0, MINUTES_SAVED - 10)
        await send(0, MINUTES_SAVED - 10)  # a repeat names nobody new
        with pytest.raises(Overloaded, match=r"may add 10 now and 1 a minute"):
            await send(1_000, 12)  # small bodies are read at once
        with pytest.raises(Overloaded, match=r"at most 100 new entities at once"):
            await send(1_000, 2_000)  # large ones in a thread
        assert runtime.writer.last_sequence == MINUTES_SAVED - 10
        assert runtime.metrics.batches_over_quota == 2
        for n in range(20):
            await decide(runtime, payment(runtime, f"single{n}", n=n))
        assert runtime.writer.last_sequence == MINUTES_SAVED + 10

    within(settings, claim)


def test_what_a_waiting_batch_would_add_counts_until_it_is_charged_or_given_up() -> None:
    now = [0.0]
    quota = NewEntities(60, ScoringMetrics(), lambda: now[0])
    state = state_of(1 << 30)
    most = 60 * MINUTES_SAVED
    batch = Reserved("a", 0, most - 100)
    quota.check("a", batch.entities, state)
    quota.reserve(batch)
    assert (quota.left("a", state), quota.left("b", state)) == (100, most)
    with pytest.raises(Overloaded, match=r"may add 100 now .* wait may add 5,900") as refused:
        quota.check("a", 101, state)
    assert refused.value.retry_after_seconds == 1, "the batch may add none after all"
    one = asyncio.run(pending("a"))
    one.batch = batch
    quota.charge([one], [0] * 900, state)
    assert (quota.left("a", state), batch.entities) == (100, most - 1_000), "it counts once"
    quota.give_back(batch, batch.entities)
    assert quota.left("a", state) == most - 900
    quota.charge([one], [0] * 10, state)  # more than was thought
    quota.give_back(batch, batch.entities)
    assert quota.left("a", state) == most - 910


def batch_of(names: str, first: int, n: int, *, large: bool = False) -> bytes:
    rows = [
        {"transaction_id": f"{names}{i}", "amount_minor": 1, "customer_id": f"c{i}"}
        for i in range(first, first + n)
    ]
    return b" " * LARGE_BYTES * large + msgspec.json.encode({"transactions": rows})


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_of_batches_sent_at_once_only_those_within_the_quota_are_taken(
    settings: Settings, large: bool
) -> None:
    quota = settings.state.model_copy(update={"new_entities_per_minute": 1})
    settings = settings.model_copy(update={"state": quota})

    async def claim(runtime: ScoringRuntime) -> None:
        intake = Intake(runtime, LargeBodies())

        async def send(body: bytes, dry_run: bool = False) -> bytes:
            receiver = FutureReceiver()
            intake.predict_batch(body, dry_run, receiver, NOBODY)
            return await receiver.future

        bodies = [batch_of("t", 40 * k, 40, large=large) for k in range(6)]
        tried = await asyncio.gather(*map(send, bodies), return_exceptions=True)
        assert [isinstance(one, Overloaded) for one in tried] == [False] * 2 + [True] * 4
        assert runtime.metrics.new_entities == 80
        left = runtime.writer.entities_left("")
        assert left == pytest.approx(20, abs=1)
        # What adds none, or is not recorded, takes nothing for long.
        repeated = [send(bodies[0]), send(batch_of("again", 0, 40, large=large))]
        await asyncio.gather(*repeated, send(batch_of("dry", 900, 40, large=large), dry_run=True))
        assert runtime.writer.entities_left("") == pytest.approx(left, abs=1)
        runtime.writer.unavailable = "The ledger is away."
        with pytest.raises(StateUnavailable):
            await send(batch_of("refused", 300, 15, large=large))
        runtime.writer.unavailable = None
        assert runtime.writer.entities_left("") == pytest.approx(left, abs=1)
        await send(batch_of("t", 400, 15, large=large))

    within(settings, claim)


@pytest.mark.parametrize("fault", [RuntimeError("a fault"), asyncio.CancelledError()])
def test_a_batch_that_fails_on_its_way_into_the_queue_keeps_no_room(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    few = settings.scoring.model_copy(update={"waiting_batched": 600})
    quota = settings.state.model_copy(update={"new_entities_per_minute": 12})
    settings = settings.model_copy(update={"scoring": few, "state": quota})

    async def claim(runtime: ScoringRuntime) -> None:
        intake = Intake(runtime, LargeBodies())
        enqueue, begun = Intake._enqueue, []

        def failing(self: Intake, *rest: Any) -> None:
            begun.append(rest)
            if len(begun) == 2:
                raise fault
            enqueue(self, *rest)

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(Intake, "_enqueue", failing)
            receiver = FutureReceiver()
            intake.predict_batch(batch_of("t", 0, 600, large=True), False, receiver, NOBODY)
            while len(begun) < 2 or not runtime.writer.turn.is_idle:
                await asyncio.sleep(0.001)
        if isinstance(fault, RuntimeError):
            with pytest.raises(RuntimeError):
                await receiver.future
        assert runtime.metrics.new_entities == 256
        assert runtime.writer.entities_left("") == pytest.approx(12 * MINUTES_SAVED - 256, abs=3)
        receiver = FutureReceiver()
        intake.predict_batch(batch_of("again", 0, 600, large=True), False, receiver, NOBODY)
        assert await receiver.future

    within(settings, claim)


def test_at_the_budget_payments_are_decided_and_state_grows_no_more(settings: Settings) -> None:
    settings = settings.model_copy(
        update={"state": settings.state.model_copy(update={"max_mb": 1})}, deep=True
    )

    async def flood(runtime: ScoringRuntime) -> tuple[int, Records, list[bytes]]:
        state = runtime.writer.scorer.state
        assert isinstance(state, EmbeddedState)
        state.budget_bytes = 100 * state.entity_bytes  # a megabyte takes long to fill
        now = runtime.writer.receive_time_us()
        payments = [
            Transaction(
                transaction_id=f"t{n}",
                event_time_us=now + n,
                received_at_us=now + n,
                amount_minor=100,
                customer_id=f"c{n}",
                merchant_id=f"m{n % 2}",
            )
            for n in range(300)
        ]
        answers = [await decide(runtime, payment) for payment in payments[:200]]
        held = state.held_bytes
        answers += [await decide(runtime, payment) for payment in payments[200:]]
        assert state.held_bytes == held
        # A label about a payment that no record holds changes none.
        await runtime.labels.submit([label(runtime, 1, "t250", Verdict.FRAUD)])
        again = msgspec.structs.replace(payments[250], received_at_us=now + 1_000)
        assert await decide(runtime, again) == answers[250]
        now = runtime.writer.receive_time_us()
        last = msgspec.structs.replace(
            payments[250], transaction_id="last", event_time_us=now, received_at_us=now
        )
        await decide(runtime, last)
        assert runtime.metrics.new_entities < 110
        return held, records_of(state), answers

    held, records, answers = within(settings, flood)
    degraded = [msgspec.json.decode(answer)["degraded"] for answer in answers]
    assert not any(degraded[:45])  # each makes two records
    assert all(degraded[55:])

    # The log says who made no records, so a restart, a backfill and a question give the same.
    program = compile_program(PLAN)
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        groups = [decode_decisions(group.payload) for group in ledger.groups() if group.kind == 1]
        assert decode_decisions(encode_group(groups[-1])) == groups[-1]
        served = np.concatenate([group.vector_array() for group in groups])
        flags = np.concatenate([group.flag_array() for group in groups])
        assert [bool(flag & FLAG_DEGRADED) for flag in flags[:300]] == degraded
        with closing(LedgerIndex(settings.index_path, ledger)) as index:
            index.catch_up()
            found = index.transaction("t250")
            assert found is not None
            assert found.untracked
            state = recover(program, ledger, settings.workspace / "nowhere", index.transaction)
        assert state.held_bytes == held
        assert records_of(state) == records
        fold = OfflineFold(program, Arena(program))
        batches = [batch for _, batch in read_log(ledger)]
        fold.book.scan(batches)
        assert (bits_of(np.concatenate(list(fold.run(batches)))) == bits_of(served)).all()
        # Asked about now, an entity that a payment did not track is one without history.
        last = groups[-1].transactions[-1]
        asked = RowsAsOf(
            np.array([last.received_at_us + 1] * 2),
            np.array([last.event_time_us] * 2),
            {"customer_id": pa.array(["c1", "c250"])},
        )
        answer = features_as_of(PLAN, lambda: iter(batches), asked)
        count = PLAN.feature_names.index("customer_60min_count")
        assert answer[:, count].tolist() == [1.0, 0.0]
