"""What may be in a line-up, and which payments its experiments take."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from sentinel.domain import ConfigurationError, NotFound, Transaction
from sentinel.experiments.assignment import draw, unit_of
from sentinel.experiments.conditions import compile_condition
from sentinel.experiments.lineup import (
    MOST_EXPERIMENTS,
    NO_LINE_UP,
    Canary,
    Experiment,
    LineUp,
    decode_line_up,
    started,
    stopped,
    with_share,
)

HOUR_US = 3_600_000_000
UNITS = [f"card/{number}" for number in range(100_000)]
AB = Experiment(name="ab", kind="challenger", version="2", share=0.5)


def payment(**fields: Any) -> Transaction:
    return Transaction(
        transaction_id="t", event_time_us=0, received_at_us=0, amount_minor=700, **fields
    )


def draws(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([draw(name, unit) for unit in UNITS])


def test_a_share_is_exact_and_its_draws_are_uniform() -> None:
    drawn = draws("ab")
    assert drawn.min() >= 0.0
    assert drawn.max() < 1.0
    counts, _ = np.histogram(drawn, bins=20, range=(0.0, 1.0))
    expected = len(UNITS) / 20
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 43.8  # 99.9 % quantile, 19 degrees of freedom
    for share in (0.01, 0.1, 0.5):
        deviation = (drawn < share).sum() - share * len(UNITS)
        assert abs(deviation) < 3.3 * np.sqrt(share * (1 - share) * len(UNITS))


def test_experiments_of_different_names_split_independently() -> None:
    one, other = draws("first") < 0.5, draws("second") < 0.5
    table = np.array([[(one & other).sum(), (one & ~other).sum()],
                      [(~one & other).sum(), (~one & ~other).sum()]])  # fmt: skip
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    assert float(((table - expected) ** 2 / expected).sum()) < 10.8  # 99.9 %, 1 degree


def test_a_share_that_grows_keeps_what_it_had() -> None:
    drawn = draws("grows")
    assert not ((drawn < 0.1) & ~(drawn < 0.3)).any()


def test_a_payment_is_drawn_by_its_card_else_its_customer_else_itself() -> None:
    assert unit_of(payment(card_id="1", customer_id="2")) == "card/1"
    assert unit_of(payment(customer_id="1")) == "customer/1"
    assert unit_of(payment()) == "payment/t"


def test_a_canary_begins_with_a_hundredth_for_an_hour_and_grows_to_its_share() -> None:
    steps = (11 * HOUR_US, 12 * HOUR_US, 13 * HOUR_US)
    canary = msgspec.structs.replace(
        AB, canary=Canary(grew_at_us=steps), started_at_us=10 * HOUR_US
    )
    at = [canary.share_at(10 * HOUR_US + minutes * 60_000_000) for minutes in (0, 59, 60, 120, 999)]
    assert at == [0.01, 0.01, 0.05, 0.25, 0.5]
    assert canary.share_at(0) == 0.01  # a clock that is behind
    with pytest.raises(ConfigurationError, match=r"at most 0\.01"):
        msgspec.structs.replace(AB, canary=Canary(first_share=0.2)).check()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "Champion!"}, "is no name"),
        ({"name": "champion"}, "is no name"),
        ({"version": "../1"}, "is no version"),
        ({"share": 0.0}, "more than 0 and at most 0.95"),
        ({"share": 1.0}, "so that the champion decides on the others"),
        ({"kind": "shadow"}, "only a challenger has a share"),
        ({"kind": "shadow", "share": 0.0, "sample": 0.0}, "the sample is 0"),
        ({"sample": 0.5}, "others are not sampled"),
        ({"kind": "segment", "share": 0.0}, "needs a condition"),
        ({"condition": 'card_id == "1"'}, "no other role has one"),
        ({"kind": "segment", "share": 0.0, "condition": "card =="}, "cannot be read"),
    ],
)
def test_an_experiment_that_cannot_be_is_refused(changed: dict[str, object], message: str) -> None:
    AB.check()
    with pytest.raises(ConfigurationError, match=message):
        msgspec.structs.replace(AB, **changed).check()


def test_experiments_start_change_and_stop_by_name() -> None:
    line_up = started(NO_LINE_UP, AB)
    with pytest.raises(ConfigurationError, match="runs already, with version 2"):
        started(line_up, AB)
    assert with_share(line_up, "ab", 0.2).experiments[0].share == 0.2
    assert stopped(line_up, "ab") == NO_LINE_UP
    with pytest.raises(NotFound, match="No experiment 'other' runs"):
        stopped(line_up, "other")
    assert decode_line_up(msgspec.json.encode(line_up)) == line_up
    newer = msgspec.structs.replace(line_up, format=9)
    with pytest.raises(ConfigurationError, match="has format 9, this Sentinel reads up to 1"):
        decode_line_up(msgspec.json.encode(newer))


def test_no_more_experiments_run_than_may() -> None:
    line_up = LineUp()
    for number in range(MOST_EXPERIMENTS):
        line_up = started(line_up, msgspec.structs.replace(AB, name=f"e{number}"))
    with pytest.raises(ConfigurationError, match="9 experiments would run at once; at most 8"):
        started(line_up, AB)


ONLINE = {"channel": "online", "risk": 0.7}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ('attributes.channel == "online"', True),
        ("attributes.channel != 'online'", False),
        ("attributes.risk > 0.5 and amount_minor >= 700", True),
        ('merchant_id in ("M1", "M2")', True),
        ("amount_minor in (1, 700)", True),
        ('not (merchant_id == "M1") or card_id == "C"', False),
        # What is unknown, or of another kind, satisfies no comparison.
        ('attributes.nothing != "x"', False),
        ("attributes.channel > 3", False),
        ('attributes.risk == "0.7"', False),
        # `and` binds closer than `or`.
        ("amount_minor == 1 and amount_minor == 2 or amount_minor == 700", True),
    ],
)
def test_a_condition_holds_or_not(condition: str, holds: bool) -> None:
    found = payment(merchant_id="M1", attributes=ONLINE)
    assert compile_condition(condition)(found) is holds


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "it ends where a field should follow"),
        ("amount == 3", "'amount' is no field; those are amount_minor, customer_id"),
        ('card_id > "C"', "a text is compared by ==, !=, in, not by >"),
        ("card_id == C", "texts are in quotes"),
        ("card_id in ('a'", "'\\)' is missing"),
        ("amount_minor > 1 amount_minor", "'amount_minor' is left over"),
        ("__import__('os')", "'__import__' is no field"),
        ("amount_minor; 1", "'; 1' is not understood"),
        ("(" * 50 + "amount_minor > 1" + ")" * 50, "more than 20 parentheses"),
    ],
)
def test_what_is_no_condition_is_refused_and_nothing_of_it_is_run(
    condition: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compile_condition(condition)


def test_a_later_challenger_has_its_share_of_what_earlier_ones_left() -> None:
    first, second = draws("first") < 0.3, draws("second") < 0.3
    left = ~first
    share = (second & left).sum() / left.sum()
    assert abs(share - 0.3) < 3.3 * np.sqrt(0.3 * 0.7 / left.sum())
