"""Reading without an event is the same read, at now."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import Transaction
from sentinel.features.kernel.fold import fold
from sentinel.features.plan.program import KIND_PEEK, compile_program
from testkit.entry_fold import EntryFold
from testkit.oracle import Oracle
from tests.features.logs import bits_of, bits_of_values, keys_of
from tests.features.worlds import START_US, World, worlds


@given(
    worlds(),
    st.sampled_from(["c1", "c2", "new"]),
    st.sampled_from(["m1", None]),
    st.integers(-100, 10_000),
)
def test_reading_now_is_what_an_event_at_now_would_read_and_changes_nothing(
    world: World, customer: str, merchant: str | None, ahead_us: int
) -> None:
    program = compile_program(world.plan)
    folding = EntryFold(program, capacity=4)
    asked = Oracle(world.plan)
    folding.run(world.log)
    for entry in world.log:
        asked.tell(entry)
    newest = max(
        (e.event_time_us for e in world.log if isinstance(e, Transaction)), default=START_US
    )
    probe = Transaction(
        transaction_id="probe",
        event_time_us=newest + ahead_us,
        received_at_us=newest,
        amount_minor=123,
        customer_id=customer,
        merchant_id=merchant,
        device_id="d1",
    )
    before, entities = folding.arena.words.copy(), folding.arena.entities
    encoder, out = folding.encoder, np.zeros((2, program.n_features), dtype=np.float32)
    encoder.put(0, probe, KIND_PEEK)
    encoder.put_query(1, keys_of(probe), probe.event_time_us)
    fold(folding.arena.words, program.code, encoder.events, encoder.given, out, 2)

    assert np.array_equal(before, folding.arena.words)
    assert folding.arena.entities == entities
    read_now = [asked.ask_now(keys_of(probe), probe.event_time_us)]
    assert np.array_equal(bits_of(out[:1]), bits_of_values([asked.ask(probe)], out.shape[1]))
    assert np.array_equal(bits_of(out[1:]), bits_of_values(read_now, out.shape[1]))
    aggregates = sum(len(view.aggregates) for view in world.plan.views)
    assert np.array_equal(bits_of(out[0, :aggregates]), bits_of(out[1, :aggregates]))


@given(worlds(labels=False, max_entries=15))
def test_windows_run_empty_although_nothing_arrives(world: World) -> None:
    program = compile_program(world.plan)
    folding = EntryFold(program, capacity=4)
    folding.run(world.log)
    aggregates = [a for v in world.plan.views for a in v.aggregates]
    longest = max(a.window_us + a.offset_us + a.hop_us for a in aggregates)
    last = world.log[-1]
    assert isinstance(last, Transaction)
    now = max(e.event_time_us for e in world.log if isinstance(e, Transaction)) + longest
    out = np.zeros((1, program.n_features), dtype=np.float32)
    folding.encoder.put_query(0, keys_of(last), now)
    fold(folding.arena.words, program.code, folding.encoder.events, folding.encoder.given, out, 1)
    keys = keys_of(last)
    for view in world.plan.views:
        known = all(key in keys for key in view.keys)
        for a in view.aggregates:
            value = out[0, world.plan.feature_names.index(a.name)]
            if known and a.function in ("count", "sum", "fraud_count", "distinct_count"):
                assert value == 0.0
            else:
                assert np.isnan(value)
