"""A plan is checked before it is used, and its hash names it for ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from sentinel.domain import DefinitionError
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Filter, Ratio, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, SECOND_US, Plan, default_hop_us
from sentinel.features.plan.program import RECORD_WARNING_BYTES, compile_program
from tests.features.plans import aggregate, every_function, plan_of, view
from tests.features.worlds import plans


@pytest.mark.parametrize(
    ("window_us", "hop_us"),
    [
        (MINUTE_US, 5 * SECOND_US),
        (2 * MINUTE_US - 1, 5 * SECOND_US),
        (2 * MINUTE_US, 10 * SECOND_US),
        (10 * MINUTE_US, 30 * SECOND_US),
        (12 * MINUTE_US, MINUTE_US),
        (HOUR_US, 5 * MINUTE_US),
        (3 * HOUR_US, 15 * MINUTE_US),
        (12 * HOUR_US, HOUR_US),
        (DAY_US, 2 * HOUR_US),
        (3 * DAY_US, 6 * HOUR_US),
        (7 * DAY_US, 12 * HOUR_US),
        (12 * DAY_US, DAY_US),
        (365 * DAY_US, DAY_US),
    ],
)
def test_default_hops(window_us: int, hop_us: int) -> None:
    assert default_hop_us(window_us) == hop_us


def test_a_window_below_a_minute_needs_a_hop() -> None:
    with pytest.raises(DefinitionError, match="shorter than a minute"):
        default_hop_us(MINUTE_US - 1)


WRONG: dict[str, tuple[Callable[[], Plan], str]] = {
    "two features of one name": (
        lambda: plan_of(aggregate("a"), aggregate("a", "sum")),
        "Two features are named 'a'",
    ),
    "feature named like a request feature": (
        lambda: Plan((view(aggregate("a")),), (RequestFeature("a", "amount"),)),
        "Two features are named 'a'",
    ),
    "two views of one name": (
        lambda: Plan((view(aggregate("a")), view(aggregate("b"))), ()),
        "Two views are named 'customer'",
    ),
    "no key": (lambda: Plan((View("v", (), ()),), ()), "has no entity key"),
    "same key twice": (
        lambda: Plan((View("v", ("card_id", "card_id"), ()),), ()),
        "names a key twice",
    ),
    "key that is no identifier": (
        lambda: Plan((View("v", ("amount_minor",), ()),), ()),
        "a key is one of customer_id, card_id",
    ),
    "no window": (lambda: plan_of(aggregate("a", window_us=0, hop_us=1)), "above 0"),
    "no hop": (lambda: plan_of(aggregate("a", window_us=10, hop_us=-1)), "above 0"),
    "offset into the future": (
        lambda: plan_of(aggregate("a", offset_us=-1)),
        "an offset of 0 or more",
    ),
    "hop above window": (
        lambda: plan_of(aggregate("a", window_us=10, hop_us=11)),
        "hop longer than its window",
    ),
    "sum of text": (
        lambda: plan_of(aggregate("a", "sum", column="channel")),
        "sum works on 'amount_minor', not 'channel'",
    ),
    "distinct without a column": (
        lambda: plan_of(aggregate("a", "distinct_count", capacity=3)),
        "needs a column",
    ),
    "distinct without a capacity": (
        lambda: plan_of(aggregate("a", "distinct_count", column="channel")),
        "capacity of 1 to 256",
    ),
    "distinct of too many": (
        lambda: plan_of(aggregate("a", "distinct_count", column="channel", capacity=257)),
        "capacity of 1 to 256",
    ),
    "distinct with an offset": (
        lambda: plan_of(
            aggregate("a", "distinct_count", column="channel", capacity=3, offset_us=1)
        ),
        "takes no offset",
    ),
    "time since last with an offset": (
        lambda: plan_of(aggregate("a", "time_since_last", offset_us=1)),
        "takes no offset",
    ),
    "text compared by order": (
        lambda: plan_of(aggregate("a", filters=(Filter("channel", "<", "web"),))),
        "text is compared by == or !=",
    ),
    "amount compared with text": (
        lambda: plan_of(aggregate("a", filters=(Filter(AMOUNT, "==", "5"),))),
        "compare it with a number",
    ),
    "filter that nothing can meet": (
        lambda: plan_of(aggregate("a", filters=(Filter("risk", "<", float("nan")),))),
        "a finite number",
    ),
    "attribute as number and as text": (
        lambda: Plan(
            (view(aggregate("a", filters=(Filter("risk", ">", 1.0),))),),
            (RequestFeature("r", "category", "risk", ("low",)),),
        ),
        "'risk' is used as a number and as text",
    ),
    "identifier as a number": (
        lambda: Plan((view(aggregate("a")),), (RequestFeature("r", "number", "card_id"),)),
        "it cannot be used as a number",
    ),
    "category of nothing": (
        lambda: Plan((view(aggregate("a")),), (RequestFeature("r", "category"),)),
        "needs a column",
    ),
    "category twice": (
        lambda: Plan(
            (view(aggregate("a")),), (RequestFeature("r", "category", "channel", ("x", "x")),)
        ),
        "names a category twice",
    ),
    "ratio of nothing": (
        lambda: Plan((view(aggregate("a")),), (), (Ratio("r", "a", "b"),)),
        "'b', which is not an aggregate",
    ),
    "ratio to the amount": (
        lambda: Plan((view(aggregate("a")),), (), (Ratio("r", "a", AMOUNT),)),
        "'amount_minor', which is not an aggregate",
    ),
    "aggregate named like the amount": (
        lambda: plan_of(aggregate(AMOUNT)),
        "cannot be named 'amount_minor'",
    ),
    "too many filters": (
        lambda: plan_of(
            *(aggregate(f"a{i}", filters=(Filter(AMOUNT, ">", i),)) for i in range(63))
        ),
        "at most 62",
    ),
    "another format": (lambda: Plan((), (), (), 2), "sentinel features apply"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_definition_is_refused_in_words(what: str) -> None:
    make, words = WRONG[what]
    with pytest.raises(DefinitionError, match=words):
        make()


def test_as_many_filters_as_there_are_bits_work() -> None:
    plan = plan_of(*(aggregate(f"a{i}", filters=(Filter(AMOUNT, ">", i),)) for i in range(62)))
    assert len(plan.filter_sets) == 62


def test_the_hash_of_a_plan_never_changes() -> None:
    """Models and snapshots are bound to it. A new hash here orphans every model in the field."""
    assert every_function().hash == "d1388c0e659e249b"


def test_every_word_of_a_plan_is_in_its_hash() -> None:
    base = plan_of(aggregate("a", filters=(Filter("channel", "==", "x"),)))
    others = [
        plan_of(aggregate("b", filters=(Filter("channel", "==", "x"),))),
        plan_of(aggregate("a", filters=(Filter("channel", "!=", "x"),))),
        plan_of(aggregate("a", filters=(Filter("channel", "==", "y"),))),
        plan_of(aggregate("a", "fraud_count", filters=(Filter("channel", "==", "x"),))),
        plan_of(aggregate("a", window_us=HOUR_US, filters=(Filter("channel", "==", "x"),))),
        plan_of(aggregate("a", hop_us=HOUR_US, filters=(Filter("channel", "==", "x"),))),
        plan_of(aggregate("a", offset_us=1, filters=(Filter("channel", "==", "x"),))),
        plan_of(aggregate("a")),
    ]
    assert len({plan.hash for plan in [base, *others]}) == 1 + len(others)


def test_a_number_in_a_filter_may_be_written_with_or_without_a_point() -> None:
    assert (
        plan_of(aggregate("a", filters=(Filter("risk", ">", 5),))).hash
        == plan_of(aggregate("a", filters=(Filter("risk", ">", 5.0),))).hash
    )


@given(plan=plans())
def test_a_saved_plan_is_the_same_plan(
    plan: Plan, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "plan.json"
    plan.save(path)
    loaded = Plan.load(path)
    assert loaded == plan
    assert loaded.hash == plan.hash
    assert compile_program(loaded).code.tolist() == compile_program(plan).code.tolist()


def test_a_missing_plan_and_a_broken_plan_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    with pytest.raises(DefinitionError, match="Run `sentinel features apply` first"):
        Plan.load(path)
    for content in (b"{", b"{}", b'{"views": [], "request": [], "format": 9}', b"\xff"):
        path.write_bytes(content)
        with pytest.raises(DefinitionError, match="sentinel features apply"):
            Plan.load(path)


def test_a_large_record_draws_a_warning() -> None:
    assert compile_program(every_function()).warnings() == []
    large = plan_of(aggregate("a", window_us=DAY_US, hop_us=DAY_US // 600))
    (warning,) = compile_program(large).warnings()
    assert "'customer'" in warning
    assert "4,8" in warning.replace(f"{RECORD_WARNING_BYTES:,}", "")


def test_a_view_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(DefinitionError, match=r"no view 'card'.*It has: customer, pair"):
        every_function().view("card")
