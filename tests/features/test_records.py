"""A record is an order-free function of the events within its retention."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import Arena
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import (
    FLAG_EXPIRED,
    FLAG_LATE,
    SECTION_RINGS,
    SECTION_VIEWS,
    WIDTHS,
    Program,
    compile_program,
)
from testkit.entry_fold import EntryFold
from testkit.oracle import Oracle, entity_of
from tests.features.plans import aggregate, every_function, plan_of
from tests.features.worlds import START_US, Entry, World, plans, worlds

Records = dict[tuple[str, str], list[int]]


def records(arena: Arena) -> Records:
    """The words of every record by view and entity key."""
    return {
        (view.name, key): arena.record(i, key).tolist()
        for i, view in enumerate(arena.program.plan.views)
        for key in arena.keys[i]
    }


def records_after(program: Program, entries: Sequence[Entry]) -> Records:
    folding = EntryFold(program, capacity=8)
    folding.run(entries)
    return records(folding.arena)


def without_position(found: Records) -> Records:
    return {key: [*words[:1], *words[2:]] for key, words in found.items()}


@given(worlds(labels=False), st.randoms(use_true_random=False))
def test_any_order_of_the_same_events_gives_the_same_bytes(
    world: World, chance: random.Random
) -> None:
    program = compile_program(world.plan)
    shuffled = list(world.log)
    chance.shuffle(shuffled)
    assert records_after(program, shuffled) == records_after(program, world.log)


def test_of_values_tied_at_the_edge_of_a_full_set_the_same_stay_in_any_order() -> None:
    plan = plan_of(
        aggregate("merchants", "distinct_count", column="merchant_id", capacity=2),
    )
    program = compile_program(plan)
    tied = [
        Transaction(
            transaction_id=name,
            event_time_us=START_US,
            received_at_us=START_US,
            amount_minor=1,
            customer_id="c",
            merchant_id=name,
        )
        for name in "wxyz"
    ]
    found = [records_after(program, order) for order in itertools.permutations(tied)]
    assert all(other == found[0] for other in found)


@given(worlds(), st.randoms(use_true_random=False))
def test_labels_may_come_at_any_time_as_long_as_each_transaction_keeps_its_last_verdict(
    world: World, chance: random.Random
) -> None:
    program = compile_program(world.plan)
    transactions = [entry for entry in world.log if isinstance(entry, Transaction)]
    labels = [entry for entry in world.log if isinstance(entry, Label)]
    mixed: list[Entry] = list(transactions)
    chance.shuffle(mixed)
    places = sorted(chance.randrange(len(mixed) + 1) for _ in labels)
    for moved, (place, label) in enumerate(zip(places, labels, strict=True)):
        mixed.insert(place + moved, label)
    # A verdict that is taken back counts as two entries if its transaction was there meanwhile.
    assert without_position(records_after(program, mixed)) == without_position(
        records_after(program, world.log)
    )


@given(worlds(labels=False, max_entries=25))
def test_a_record_is_rebuilt_from_what_is_within_retention(world: World) -> None:
    """Events older than every ring of a record, as of its newest event, leave no trace in it."""
    program = compile_program(world.plan)
    expected = records_after(program, world.log)
    for v, view in enumerate(world.plan.views):
        entities: dict[tuple[str, ...], list[Transaction]] = {}
        for e in world.log:
            if isinstance(e, Transaction) and (entity := entity_of(e, view)) is not None:
                entities.setdefault(entity, []).append(e)
        for entity, events in entities.items():
            newest = max(e.event_time_us for e in events)
            horizon = newest - retention_us(program, v)
            kept = [e for e in events if e.event_time_us >= horizon]
            key = (view.name, "\x1f".join(entity))
            rebuilt = without_position(records_after(program, kept))[key]
            assert rebuilt == without_position(expected)[key]


def retention_us(program: Program, view: int) -> int:
    """How far back any tile, last time or distinct value of a view's record may reach."""
    reach = [a.window_us + a.offset_us + 2 * a.hop_us for a in program.plan.views[view].aggregates]
    return max(reach)


@given(worlds())
def test_events_that_come_late_and_too_late_are_flagged(world: World) -> None:
    program = compile_program(world.plan)
    folding = EntryFold(program)
    asked = Oracle(world.plan)
    for entry in world.log:
        folding.run([entry])
        if isinstance(entry, Transaction):
            flags = folding.flags[-1]
            for view, flag in zip(world.plan.views, flags, strict=True):
                known = entity_of(entry, view) is not None
                assert bool(flag & FLAG_LATE) == (known and asked.late(entry, view))
                assert bool(flag & FLAG_EXPIRED) == (
                    known and asked.late(entry, view) and asked.expired(entry, view)
                )
        asked.tell(entry)


@given(worlds())
def test_an_expired_event_changes_no_feature_now_or_later(world: World) -> None:
    """The same log without its expired events gives the other events the same vectors."""
    program = compile_program(world.plan)
    folding = EntryFold(program)
    vectors = dict(
        zip(
            [e.transaction_id for e in world.log if isinstance(e, Transaction)],
            folding.run(world.log),
            strict=True,
        )
    )
    transactions = [e for e in world.log if isinstance(e, Transaction)]
    expired = {
        e.transaction_id
        for e, flags in zip(transactions, folding.flags, strict=True)
        if all(
            flag & FLAG_EXPIRED or entity_of(e, view) is None
            for flag, view in zip(flags, world.plan.views, strict=True)
        )
    }
    kept = [e for e in world.log if e.transaction_id not in expired]
    again = EntryFold(program).run(kept)
    names = [e.transaction_id for e in kept if isinstance(e, Transaction)]
    for name, vector in zip(names, again, strict=True):
        np.testing.assert_array_equal(vector, vectors[name])


@given(worlds(labels=False))
def test_positions_count_the_events_of_each_entity(world: World) -> None:
    program = compile_program(world.plan)
    folding = EntryFold(program, capacity=5)
    folding.run(world.log)
    seen: dict[tuple[str, tuple[str, ...]], int] = {}
    transactions = [e for e in world.log if isinstance(e, Transaction)]
    for event, positions in zip(transactions, folding.positions, strict=True):
        for view, position in zip(world.plan.views, positions, strict=True):
            entity = entity_of(event, view)
            if entity is None:
                assert position == 0
            else:
                seen[view.name, entity] = seen.get((view.name, entity), 0) + 1
                assert position == seen[view.name, entity]


@given(plans())
def test_rings_hold_exactly_the_tiles_that_their_longest_window_can_cover(plan: Plan) -> None:
    program = compile_program(plan)
    code = program.code
    for v, view in enumerate(plan.views):
        row = code[code[2 * SECTION_VIEWS] + WIDTHS[SECTION_VIEWS] * v :]
        for ring in range(row[1], row[2]):
            at = code[2 * SECTION_RINGS] + WIDTHS[SECTION_RINGS] * ring
            _, hop, tiles, _, bit = code[at : at + 5].tolist()
            filters = plan.filter_sets[bit] if bit >= 0 else ()
            longest = max(
                a.window_us + a.offset_us
                for a in view.aggregates
                if (a.hop_us, a.filters) == (hop, filters)
                and a.function not in ("distinct_count", "time_since_last")
            )
            first = START_US // hop * hop
            covered = {now // hop - (now - longest) // hop + 1 for now in range(first, first + hop)}
            assert tiles == max(covered)


def test_a_correction_compensates() -> None:
    """Fraud, then legitimate: the bytes are those of a transaction never called fraud."""
    program = compile_program(every_function())
    event = Transaction(
        transaction_id="t",
        event_time_us=START_US,
        received_at_us=START_US,
        amount_minor=5,
        customer_id="c",
    )

    def label(name: str, verdict: Verdict) -> Label:
        return Label(label_id=name, transaction_id="t", verdict=verdict, received_at_us=START_US)

    called: list[Entry] = [event, label("1", Verdict.FRAUD), label("2", Verdict.LEGITIMATE)]
    assert without_position(records_after(program, called)) == without_position(
        records_after(program, [event])
    )
    assert records_after(program, called[:2]) != records_after(program, [event])
