"""One event and a batch of events are encoded alike."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder, text_hash
from sentinel.features.encode_batch import encode_batch
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Filter, RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import EVENT_FILTERS, KIND_ADD, KIND_PEEK, compile_program
from sentinel.ingest.values import as_text
from tests.features.logs import batch_of, bits_of
from tests.features.plans import aggregate, plan_of, view
from tests.features.worlds import START_US, World, worlds


@given(worlds(labels=False), st.sampled_from([KIND_ADD, KIND_PEEK]))
def test_put_and_encode_batch_are_twins(world: World, kind: int) -> None:
    program = compile_program(world.plan)
    arena = Arena(program)
    transactions = [entry for entry in world.log if isinstance(entry, Transaction)]
    events, given_values = encode_batch(program, arena, batch_of(transactions), kind)
    encoder = EventEncoder(program, arena, len(transactions))
    for row, transaction in enumerate(transactions):
        encoder.put(row, transaction, kind)
    assert np.array_equal(encoder.events, events)
    assert np.array_equal(bits_of(encoder.given), bits_of(given_values))


@given(worlds(labels=False))
def test_both_make_the_same_records(world: World) -> None:
    program = compile_program(world.plan)
    one, many = Arena(program, 1), Arena(program, 1)
    transactions = [entry for entry in world.log if isinstance(entry, Transaction)]
    encoder = EventEncoder(program, one)
    for transaction in transactions:
        encoder.put(0, transaction)
    encode_batch(program, many, batch_of(transactions))
    assert [set(keys) for keys in one.keys] == [set(keys) for keys in many.keys]
    assert one.used == many.used
    for arena in (one, many):
        places = sorted(
            (offset, program.record_words[v])
            for v, keys in enumerate(arena.keys)
            for offset in keys.values()
        )
        ends = [max(program.record_words), *(offset + size for offset, size in places)]
        assert [offset for offset, _ in places] == ends[:-1], "records lie one behind the other"
        assert ends[-1] == arena.used <= len(arena.words)


def test_an_unknown_value_satisfies_no_filter() -> None:
    plan = Plan(
        (
            view(
                aggregate("a", filters=(Filter("risk", "!=", 1.0),)),
                aggregate("b", filters=(Filter("channel", "!=", "web"),)),
                aggregate("c", filters=(Filter("device_id", "!=", "d"),)),
            ),
        ),
        (),
    )
    program = compile_program(plan)
    bare = _event()
    odd = _event(attributes={"risk": float("nan"), "channel": None})
    full = _event(device_id="e", attributes={"risk": 2.0, "channel": "pos"})
    for transactions, bits in (([bare], [0]), ([odd, bare], [0, 0]), ([odd, full], [0, 7])):
        arena = Arena(program)
        encoder = EventEncoder(program, arena, len(transactions))
        for row, transaction in enumerate(transactions):
            encoder.put(row, transaction)
        events, _ = encode_batch(program, arena, batch_of(transactions))
        assert encoder.events[:, EVENT_FILTERS].tolist() == bits
        assert events[:, EVENT_FILTERS].tolist() == bits


def test_a_number_beyond_float32_is_infinite() -> None:
    plan = Plan((view(aggregate("n")),), (RequestFeature("risk_value", "number", "risk"),))
    program = compile_program(plan)
    encoder = EventEncoder(program, Arena(program))
    largest = float(np.finfo(np.float32).max)
    for value, expected in (
        (largest, largest),
        (2.0**128 - 2.0**103, np.inf),
        (-1e300, -np.inf),
        (np.nextafter(2.0**128 - 2.0**103, 0), largest),
    ):
        encoder.put(0, _event(attributes={"risk": value}))
        assert encoder.given[0, 0] == expected


def test_text_of_numbers_is_what_a_person_would_write() -> None:
    assert [as_text(v) for v in (5411.0, -0.0, 0.5, 2.0**53, 1e22, 12)] == [
        "5411",
        "0",
        "0.5",
        "9007199254740992.0",
        "1e+22",
        "12",
    ]


def test_hashes_of_values_never_change() -> None:
    """They are part of the bytes of every record."""
    assert text_hash("") == 3244421341483603138
    assert text_hash("m1") == -797793860754255203


def test_amounts_can_be_counted_distinct() -> None:
    plan = plan_of(aggregate("amounts", "distinct_count", column=AMOUNT, capacity=4))
    program = compile_program(plan)
    arena = Arena(program)
    events, _ = encode_batch(program, arena, batch_of([_event(), _event(amount_minor=7)]))
    assert [int(h) for h in events[:, -1]] == [text_hash("5"), text_hash("7")]


def _event(**changes: object) -> Transaction:
    fields: dict[str, object] = {
        "transaction_id": "t",
        "event_time_us": START_US,
        "received_at_us": START_US,
        "amount_minor": 5,
        "customer_id": "c",
    }
    return Transaction(**{**fields, **changes})  # type: ignore[arg-type]


def test_true_and_false_are_one_value_in_any_letter_case() -> None:
    """Dictionaries and filters of long ago have "True", payments of today have "true"."""
    plan = Plan(
        (view(aggregate("a", filters=(Filter("new", "==", "True"),))),),
        (RequestFeature("is_new", "category", "new", ("False", "True")),),
    )
    program = compile_program(plan)
    arena = Arena(program)
    said = ["True", "true", "False", "false", "maybe"]
    transactions = [
        Transaction(
            transaction_id=f"t{i}",
            event_time_us=START_US + i,
            received_at_us=START_US + i,
            amount_minor=1,
            attributes={"new": word},
        )
        for i, word in enumerate(said)
    ]
    events, given_values = encode_batch(program, arena, batch_of(transactions))
    encoder = EventEncoder(program, arena, len(transactions))
    for row, transaction in enumerate(transactions):
        encoder.put(row, transaction)
    for found in (given_values, encoder.given):
        assert found[:, 0].tolist() == [2.0, 2.0, 1.0, 1.0, 0.0]
    for made in (events, encoder.events):
        assert made[:, EVENT_FILTERS].tolist() == [1, 1, 0, 0, 0]
