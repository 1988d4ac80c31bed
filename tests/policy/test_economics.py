"""With costs, every payment gets its cheapest outcome, and the lines follow from the amounts."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import ConfigurationError, Transaction
from sentinel.log.entries import FLAG_DEGRADED, FLAG_IS_FRAUD, outcome_codes
from sentinel.models.thresholds import Thresholds
from sentinel.policy.economics import NO_REVIEWS, Costs, Economics, Segment, shadow_price
from sentinel.policy.ruling import Policy

LINES = Thresholds(fraud=0.4, review=0.3, decline=0.8)
COSTS = Costs(
    lost_share=0.9,
    fee_minor=2_000,
    false_decline_minor=1_500,
    false_decline_share=0.03,
    review_minor=400,
    missed_share=0.1,
    stopped_share=0.02,
)
ONLINE = Segment(
    name="online",
    field="attributes.channel",
    values=("online", "app"),
    costs=msgspec.structs.replace(COSTS, false_decline_minor=6_000),
)
WHOLESALE = Segment(
    name="wholesale",
    field="merchant_id",
    values=("m-1",),
    costs=msgspec.structs.replace(COSTS, review_minor=50),
)
_shares = st.floats(0, 1)
_money = st.floats(0.0, 1e5)
_costs = st.builds(
    Costs,
    lost_share=st.floats(0.01, 1),
    fee_minor=_money,
    false_decline_minor=st.floats(1, 1e5),
    false_decline_share=_shares,
    review_minor=_money,
    missed_share=_shares,
    stopped_share=_shares,
)


def payment(amount: int, channel: str = "pos", merchant: str = "m-9") -> Transaction:
    return Transaction(
        transaction_id="t",
        event_time_us=0,
        received_at_us=0,
        amount_minor=amount,
        merchant_id=merchant,
        attributes={"channel": channel},
    )


def ruled(economics: Economics, probability: np.ndarray, payments: list[Transaction]) -> np.ndarray:
    zeros = np.zeros(len(payments), np.uint8)
    return Policy(LINES, economics=economics).rule(probability, zeros, payments).flags


@given(
    st.lists(st.tuples(_shares, st.integers(-(10**6), 10**9), st.integers(0, 2)), min_size=1),
    st.tuples(_costs, _costs, _costs),
    st.one_of(st.just(NO_REVIEWS), _money),
)
def test_what_serves_and_what_counts_rule_alike(
    rows: list[tuple[float, int, int]], costs: tuple[Costs, Costs, Costs], price: float
) -> None:
    economics = Economics(
        costs=costs[0],
        segments=(
            msgspec.structs.replace(ONLINE, costs=costs[1]),
            msgspec.structs.replace(WHOLESALE, costs=costs[2]),
        ),
        shadow_price_minor=price,
    )
    economics.check()
    fields = [("pos", "m-9"), ("app", "m-1"), ("pos", "m-1")]  # of two segments, the first holds
    payments = [payment(amount, *fields[segment]) for _, amount, segment in rows]
    probability = np.array([p for p, _, _ in rows])
    segments = economics.segments_of(payments)
    assert segments.tolist() == [segment for _, _, segment in rows]
    amounts = np.array([amount for _, amount, _ in rows], dtype=np.float64)
    want = economics.outcomes(probability, amounts, segments)
    flags = ruled(economics, probability, payments)
    assert outcome_codes(flags).tolist() == want.tolist()
    assert ((flags & FLAG_IS_FRAUD) != 0).tolist() == (probability >= LINES.fraud).tolist()


@given(_costs, st.floats(0, 1e7), st.one_of(st.just(NO_REVIEWS), _money))
def test_between_two_lines_there_is_one_outcome(costs: Costs, amount: float, price: float) -> None:
    economics = Economics(costs=costs, shadow_price_minor=price)
    review, decline = (economics.line(code, amount) for code in (1, 2))
    assert review <= decline
    p = np.linspace(0.0, 1.0, 301)
    clear = (abs(p - review) > 1e-9) & (abs(p - decline) > 1e-9)
    many = np.zeros(len(p), np.int64)
    outcomes = economics.outcomes(p, np.full(len(p), amount), many)
    want = (p > review).astype(int) + (p > decline)
    assert outcomes[clear].tolist() == want[clear].tolist()


def test_a_dear_payment_is_stopped_at_a_lower_probability() -> None:
    economics = Economics(costs=COSTS)
    lines = [economics.line(1, amount) for amount in (500, 5_000, 50_000, 500_000)]
    assert lines == sorted(lines, reverse=True)
    assert lines[0] > 2 * lines[-1]
    assert economics.line(2, 50_000) > economics.line(1, 50_000)


def test_a_review_is_asked_for_where_its_price_is_below_its_gain() -> None:
    free = Economics(costs=COSTS)
    p, amount = np.array([0.2]), np.array([20_000.0])
    none = np.zeros(1, np.int64)
    assert free.outcomes(p, amount, none).tolist() == [1]
    (gain,) = free.review_gains(p, amount, none)
    dear = msgspec.structs.replace(free, shadow_price_minor=float(gain) + 1)
    assert dear.outcomes(p, amount, none).tolist() == [2]


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=60), st.floats(0, 70))
def test_at_its_shadow_price_no_more_reviews_are_asked_for_than_there_are(
    gains: list[float], capacity: float
) -> None:
    every = np.array(gains)
    price = shadow_price(every, capacity)
    assert np.count_nonzero(every > price) <= capacity
    if capacity > 0 and price > 0:  # and what is left of the capacity is less than one of a tie
        assert np.count_nonzero(every >= price) > capacity


def test_degraded_payments_keep_their_own_bands_whatever_is_lost() -> None:
    probability = np.array([0.99, 0.99])
    flags = np.array([FLAG_DEGRADED, 0], np.uint8)
    two = [payment(10**6), payment(10**6)]
    policy = Policy(LINES, economics=Economics(costs=COSTS))
    assert outcome_codes(policy.rule(probability, flags, two).flags).tolist() == [0, 2]


def test_a_policy_without_costs_is_named_as_before_there_were_any() -> None:
    assert Policy(LINES).hash == "eea12b4b8f2d4f3f"
    with_costs = Policy(LINES, economics=Economics(costs=COSTS))
    assert with_costs.hash != Policy(LINES).hash
    other = msgspec.structs.replace(COSTS, fee_minor=2_001)
    assert Policy(LINES, economics=Economics(costs=other)).hash != with_costs.hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lost_share": 1.2}, "lost_share is 1.2; it takes a share from 0 to 1"),
        ({"review_minor": -1.0}, "review_minor is -1; it takes 0 or more minor units"),
        ({"lost_share": 0.0, "fee_minor": 0.0}, "nothing would ever be declined"),
        ({"false_decline_minor": 0.0, "false_decline_share": 0.0}, "everything would be declined"),
        ({"fee_minor": float("nan")}, "fee_minor is nan"),
    ],
)
def test_costs_that_cannot_be_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Economics(costs=msgspec.structs.replace(COSTS, **change)).check()


def test_a_segment_of_no_field_is_refused() -> None:
    wrong = msgspec.structs.replace(ONLINE, field="amount")
    with pytest.raises(ConfigurationError, match=r"allowed are attributes\.NAME and customer_id"):
        Economics(costs=COSTS, segments=(wrong,)).check()
