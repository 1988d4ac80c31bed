"""Extremes of arithmetic and time, which random logs rarely meet."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import MAX_AMOUNT_MINOR, Transaction
from sentinel.features.arena import Arena
from sentinel.features.kernel.deviation import standard_deviation
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Ratio
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.features.plan.program import compile_program
from testkit.entry_fold import EntryFold
from tests.features.engines import oracle
from tests.features.logs import bits_of, bits_of_values
from tests.features.plans import aggregate, every_function, plan_of
from tests.features.worlds import START_US

AMOUNT_EDGE = st.one_of(
    st.integers(-MAX_AMOUNT_MINOR, MAX_AMOUNT_MINOR),
    st.sampled_from([0, 1, -1, MAX_AMOUNT_MINOR, -MAX_AMOUNT_MINOR, MAX_AMOUNT_MINOR - 1]),
)


def payment(time_us: int, amount_minor: int, **more: str) -> Transaction:
    return Transaction(
        transaction_id=f"t{time_us}",
        event_time_us=time_us,
        received_at_us=time_us,
        amount_minor=amount_minor,
        customer_id="c",
        **more,  # type: ignore[arg-type]
    )


def limbs(squares: int) -> tuple[int, int]:
    return squares >> 40, squares & ((1 << 40) - 1)


@given(st.integers(2, 1 << 22), AMOUNT_EDGE, st.lists(AMOUNT_EDGE, max_size=5))
def test_standard_deviations_are_exact_until_the_last_three_roundings(
    count: int, common: int, others: list[int]
) -> None:
    """As many equal amounts as a window can hold, and a few others."""
    n = count + len(others)
    total = count * common + sum(others)
    squares = count * common * common + sum(x * x for x in others)
    spread = n * squares - total * total
    expected = math.sqrt(float(spread) / float(n * (n - 1)))
    assert standard_deviation(n, total, *limbs(squares)) == expected
    exact = Fraction(spread, n * (n - 1))
    assert abs(Fraction(expected) ** 2 - exact) <= exact * Fraction(1, 2**50)


@st.composite
def nearly_halfway(draw: st.DrawFn) -> int:
    """A number whose 54th bit is its last but for some far below, up to 2^104."""
    leading = (1 << 52) | draw(st.integers(0, (1 << 52) - 1))
    below = draw(st.integers(12, 50))
    return (leading << (below + 1)) + (1 << below) + draw(st.sampled_from([-2, 0, 2]))


@given(st.one_of(st.integers(0, (1 << 104) - 1), nearly_halfway()))
def test_a_spread_is_rounded_once(spread: int) -> None:
    """Two amounts whose total is 0: the spread is twice the squares, whatever its low bits."""
    squares = spread // 2
    expected = math.sqrt(float(2 * squares) / 2.0)
    assert standard_deviation(2, 0, *limbs(squares)) == expected


def test_amounts_at_the_bound_are_summed_exactly() -> None:
    plan = plan_of(
        aggregate("sum", "sum"),
        aggregate("mean", "mean"),
        aggregate("std", "std"),
        aggregate("min", "min"),
        aggregate("max", "max"),
    )
    log = [
        payment(START_US + i, (MAX_AMOUNT_MINOR - i) * (-1 if i % 3 == 0 else 1))
        for i in range(400)
    ]
    vectors = EntryFold(compile_program(plan), capacity=64).run(log)
    assert np.array_equal(bits_of(vectors), bits_of_values(oracle(plan, log), 5))


def test_no_spread_is_a_zero_and_one_amount_has_none() -> None:
    plan = plan_of(aggregate("std", "std"))
    vectors = EntryFold(compile_program(plan)).run(
        [payment(START_US + i, 999_999_999_999) for i in range(4)]
    )
    assert np.isnan(vectors[:2]).all()
    assert vectors[2:].tolist() == [[0.0], [0.0]]


def test_a_sum_beyond_2_to_the_53_is_rounded_as_a_double_and_then_as_a_float32() -> None:
    """2^54 + 2^30 + 1: rounding at once would go up, the double drops the 1 and ties to even."""
    total = (1 << 54) + (1 << 30) + 1
    assert np.float32(np.float64(total)) == np.float32(1 << 54)
    n, rest = divmod(total, MAX_AMOUNT_MINOR)
    plan = plan_of(aggregate("sum", "sum"))
    amounts = [MAX_AMOUNT_MINOR] * n + [rest, 0]
    log = [payment(START_US + i, amount) for i, amount in enumerate(amounts)]
    vectors = EntryFold(compile_program(plan), capacity=512).run(log)
    assert vectors[-1, 0] == np.float32(1 << 54)


def test_a_ratio_divides_the_amount_and_not_its_float32() -> None:
    amount, below = (1 << 24) + 5, 3
    assert np.float32(amount / below) != np.float32(float(np.float32(amount)) / below)
    plan = Plan(plan_of(aggregate("mean", "mean")).views, (), (Ratio("to_mean", AMOUNT, "mean"),))
    log = [payment(START_US, below), payment(START_US, amount)]
    vectors = EntryFold(compile_program(plan)).run(log)
    assert vectors[1, 1] == np.float32(amount / below)


@pytest.mark.parametrize("around_us", [-1, 0, 1])
@pytest.mark.parametrize("window_us", [HOUR_US, HOUR_US + 1, HOUR_US - 1, DAY_US])
def test_a_window_ends_at_its_tile_to_the_microsecond(window_us: int, around_us: int) -> None:
    hop = 5 * 60 * 1_000_000
    plan = plan_of(aggregate("n", window_us=window_us, hop_us=hop))
    border = START_US // hop * hop
    now = border + window_us  # from here the window begins exactly at the border
    log = [payment(border + around_us, 1), payment(now, 1)]
    vectors = EntryFold(compile_program(plan)).run(log)
    assert vectors[1, 0] == (1.0 if around_us >= 0 else 0.0)


def test_ties_are_in_the_window_and_the_event_itself_is_not() -> None:
    plan = plan_of(aggregate("n"), aggregate("since", "time_since_last"))
    log = [payment(START_US, 1), payment(START_US, 2), payment(START_US, 3)]
    vectors = EntryFold(compile_program(plan)).run(log)
    assert vectors[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert vectors[1:, 1].tolist() == [0.0, 0.0]


def test_time_begins_at_1970() -> None:
    plan = every_function()
    log = [payment(time, 7, merchant_id="m") for time in (0, 0, 1, HOUR_US, 3 * DAY_US, 2)]
    vectors = EntryFold(compile_program(plan)).run(log)
    bits = bits_of_values(oracle(plan, log), len(plan.feature_names))
    assert np.array_equal(bits_of(vectors), bits)


def test_a_count_without_history_is_zero_and_a_mean_is_null() -> None:
    plan = every_function()
    (vector,) = EntryFold(compile_program(plan)).run([payment(START_US, 7, merchant_id="m")])
    for view in plan.views:
        for a in view.aggregates:
            value = vector[plan.feature_names.index(a.name)]
            zero = a.function in ("count", "sum", "fraud_count", "distinct_count")
            assert value == 0.0 if zero else np.isnan(value), a.name


def test_without_an_entity_everything_of_its_view_is_null() -> None:
    plan = every_function()
    log = [payment(START_US, 7), payment(START_US, 7)]  # no merchant: no pair
    vectors = EntryFold(compile_program(plan)).run(log)
    names = plan.feature_names
    assert np.isnan(vectors[:, [i for i, n in enumerate(names) if n.startswith("pair")]]).all()
    assert vectors[1, names.index("customer_10min_count")] == 1.0


def test_growing_state_moves_no_record() -> None:
    plan: Plan = plan_of(aggregate("n"))
    program = compile_program(plan)
    arena = Arena(program, capacity_words=1)
    folding = EntryFold(program, arena, capacity=3)
    log = [
        Transaction(
            transaction_id=f"t{i}",
            event_time_us=START_US + i,
            received_at_us=START_US + i,
            amount_minor=1,
            customer_id=f"c{i % 50}",
        )
        for i in range(100)
    ]
    vectors = folding.run(log)
    assert vectors[:50, 0].tolist() == [0.0] * 50
    assert vectors[50:, 0].tolist() == [1.0] * 50
    assert not arena.words[: max(program.record_words)].any(), "the empty record stays empty"
