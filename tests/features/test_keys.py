"""Records of whole columns of keys, and the memory they lie in."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.features.arena import Arena
from sentinel.features.encode_batch import encode_batch
from sentinel.features.keys import KeyTable
from sentinel.features.pages import Pages
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from tests.features.plans import aggregate, plan_of

keys = st.lists(st.text(max_size=20), max_size=60)


def plan() -> Plan:
    return plan_of(aggregate("n"))


@given(st.lists(st.tuples(keys, keys), max_size=4))
def test_a_column_finds_what_a_dictionary_finds(steps: list[tuple[list[str], list[str]]]) -> None:
    """Also keys that others put into the dictionary between two columns."""
    table, known, expected = KeyTable(), dict[str, int](), dict[str, int]()
    for column, others in steps:
        start = 10 * len(expected)
        for key in dict.fromkeys(column):
            expected.setdefault(key, 10 * len(expected))
        found = table.locate(known, pa.array(column, pa.string()), start, 10)
        assert found.tolist() == [expected[key] for key in column]
        for key in others:
            known.setdefault(key, 10 * len(known))
            expected.setdefault(key, 10 * len(expected))
        assert list(known.items()) == list(expected.items())


def test_a_table_grows_with_its_keys() -> None:
    table, known = KeyTable(), dict[str, int]()
    names = [f"{'long ' * (i % 40)}{i}" for i in range(20_000)]
    for start in range(0, 20_000, 7_000):
        part = names[start : start + 7_000]
        assert table.locate(known, pa.array(part), start, 1).tolist() == [
            *range(start, start + len(part))
        ]
    everything = pa.array(names[::-1])
    assert table.locate(known, everything, 0, 1).tolist() == [*range(19_999, -1, -1)]
    assert table.locate(known, everything.slice(5, 3), 0, 1).tolist() == [19_994, 19_993, 19_992]
    assert list(known) == names


def test_rows_without_a_key_have_no_record() -> None:
    program = compile_program(plan())
    arena = Arena(program)
    batch = pa.record_batch(
        {
            "event_time_us": pa.array([1, 2, 3, 4], pa.int64()),
            "amount_minor": pa.array([1, 1, 1, 1], pa.int64()),
            "customer_id": pa.array([None, "a", None, "a"], pa.string()),
        }
    )
    events, _ = encode_batch(program, arena, batch)
    assert events[:, 4].tolist() == [-1, arena.find(0, "a"), -1, arena.find(0, "a")]
    assert arena.entities == 1


def test_events_go_where_they_are_told_to() -> None:
    program = compile_program(plan())
    batch = pa.record_batch(
        {
            "event_time_us": pa.array([1, 2], pa.int64()),
            "amount_minor": pa.array([1, 1], pa.int64()),
            "customer_id": pa.array(["a", "b"], pa.string()),
        }
    )
    room = np.full((2, program.event_width), -7, dtype=np.int64)
    events, _ = encode_batch(program, Arena(program), batch, events=room)
    assert events is room
    assert np.array_equal(room, encode_batch(program, Arena(program), batch)[0])


def test_pages_grow_with_what_they_hold_unless_they_are_held() -> None:
    pages = Pages(1_000)
    words = pages.words()
    words[:] = np.arange(1_000)
    assert not pages.grow(2_000)
    del words
    assert pages.grow(1 << 20)
    words = pages.words()
    assert len(words) == 1 << 20
    assert np.array_equal(words[:1_000], np.arange(1_000))
    assert not words[1_000:].any()


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("movable", [True, False])
def test_an_arena_grows_whoever_looks_at_it(
    held: bool, movable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not movable:
        monkeypatch.setattr(Pages, "grow", lambda _pages, _words: False)
    program = compile_program(plan())
    arena = Arena(program, capacity_words=1)
    size = program.record_words[0]
    looked_at = []
    for i in range(300):
        offset = arena.locate(0, f"k{i}")
        arena.words[offset : offset + size] = i + 1
        looked_at += [arena.record(0, f"k{i}")] if held else []
    for i in range(300):
        assert (arena.record(0, f"k{i}") == i + 1).all()
    for i, record in enumerate(looked_at):
        assert (record == i + 1).all()
    assert not arena.words[: arena.empty + size].any()
    assert not arena.words[arena.used :].any()


def test_an_arena_whose_words_were_replaced_grows_from_those() -> None:
    program = compile_program(plan())
    arena = Arena(program, capacity_words=1)
    arena.words = np.full(arena.used, 5, dtype=np.int64)
    arena.locate(0, "a")
    assert (arena.words[: arena.program.record_words[0]] == 5).all()
    assert not arena.record(0, "a").any()


def test_a_few_keys_are_looked_up_without_taking_all_over() -> None:
    table, known = KeyTable(), {f"old-{i}": 10 * i for i in range(1_000)}
    column = pa.array(["old-7", "new", "old-999", "new", "newer"])
    assert table.locate(known, column, 50_000, 10).tolist() == [70, 50_000, 9_990, 50_000, 50_010]
    assert known["newer"] == 50_010
    many = pa.array([f"old-{i}" for i in range(1_000)] + ["new", "newest"])
    found = table.locate(known, many, 60_000, 10).tolist()
    assert found == [10 * i for i in range(1_000)] + [50_000, 60_000]


def test_a_table_that_was_interrupted_starts_over() -> None:
    table = KeyTable()
    known: dict[str, int] = {}
    table.locate(known, pa.array(["a", "b"]), 0, 10)
    known.pop("b")  # as if it had never arrived there
    assert table.locate(known, pa.array(["b", "a"]), 40, 10).tolist() == [40, 0]
    assert known == {"a": 0, "b": 40}


def test_an_arena_that_finds_no_more_memory_stays_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arena = Arena(compile_program(plan()))
    offset = arena.locate(0, "a")
    arena.words[offset] = 7
    before = arena.words.copy()

    def no_memory(_: object, words: int) -> bool:
        raise MemoryError(words)

    monkeypatch.setattr(Pages, "grow", lambda *_: False)
    monkeypatch.setattr(Pages, "__init__", no_memory)
    with pytest.raises(MemoryError):
        arena.locate_column(0, pa.array([f"k-{i}" for i in range(10**5)]))
    assert np.array_equal(arena.words, before)
