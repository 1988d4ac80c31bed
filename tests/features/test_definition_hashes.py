"""A feature keeps its hash as long as its definition is the same, whatever is around it."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from sentinel.features.plan.definition_hashes import definition_hashes, matching_columns
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Filter, Ratio, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from tests.features.plans import aggregate, every_function
from tests.golden.make import FILES


def test_the_hashes_of_a_plan_never_change() -> None:
    """They are in data sets and in code that reads old ones."""
    plan = Plan.load(FILES / "plan.json")
    found = dict(zip(plan.feature_names, definition_hashes(plan), strict=True))
    assert {name: found[name] for name in ("card_count_1d", "hour_of_day", "channel")} == {
        "card_count_1d": "8349a79e3d205847",
        "hour_of_day": "67c794cb0d3096ea",
        "channel": "ed6c3801a4bd346e",
    }
    assert len(set(found.values())) == len(found)


def test_names_and_neighbours_are_no_part_of_a_definition() -> None:
    plan = every_function()
    known = dict(zip(plan.feature_names, definition_hashes(plan), strict=True))
    fewer = msgspec.structs.replace(plan, views=plan.views[1:], ratios=())
    for name, definition in zip(fewer.feature_names, definition_hashes(fewer), strict=True):
        assert definition == known[name]
    view = plan.views[0]
    renamed = View("another", view.keys, tuple(
        msgspec.structs.replace(a, name=f"new_{a.name}") for a in view.aggregates
    ))  # fmt: skip
    again = Plan((renamed,), ())
    assert definition_hashes(again) == definition_hashes(Plan((view,), ()))


@pytest.mark.parametrize(
    "changed",
    [
        {"function": "fraud_count"},
        {"window_us": 2 * DAY_US},
        {"hop_us": HOUR_US},
        {"offset_us": DAY_US},
        {"filters": (Filter(AMOUNT, ">", 5),)},
    ],
)
def test_everything_that_a_value_depends_on_is_part_of_it(changed: dict[str, object]) -> None:
    plain = aggregate("n", "count", DAY_US)
    other = msgspec.structs.replace(plain, **changed)
    one, two = (Plan((View("v", ("card_id",), (a,)),), ()) for a in (plain, other))
    assert definition_hashes(one) != definition_hashes(two)
    by_customer = Plan((View("v", ("customer_id",), (plain,)),), ())
    assert definition_hashes(one) != definition_hashes(by_customer)


def test_a_ratio_is_what_its_parts_are() -> None:
    def plan(window_us: int, name: str) -> Plan:
        view = View("v", ("card_id",), (aggregate(name, "mean", window_us),))
        return Plan((view,), (), (Ratio("share", AMOUNT, name),))

    day, renamed, hour = plan(DAY_US, "a"), plan(DAY_US, "b"), plan(HOUR_US, "a")
    assert definition_hashes(day)[1] == definition_hashes(renamed)[1]
    assert definition_hashes(day)[1] != definition_hashes(hour)[1]


def test_vectors_of_an_old_plan_give_the_columns_that_a_new_one_shares() -> None:
    old = every_function()
    draw = random.Random(1)
    kept = tuple(draw.sample(old.views[0].aggregates, 6))
    view = View("card", old.views[0].keys, (aggregate("fresh", "count", 3 * DAY_US), *kept))
    new = Plan((view, old.views[1]), old.request[1:])
    columns = matching_columns(old, new)
    names = [old.feature_names[column] if column >= 0 else None for column in columns]
    assert names == [None, *new.feature_names[1:]]
    vectors = np.arange(3 * len(old.feature_names), dtype=np.float32).reshape(3, -1)
    taken = np.where(columns >= 0, vectors[:, columns], np.nan)
    at = old.feature_names.index(kept[2].name)
    assert taken[:, 3].tolist() == vectors[:, at].tolist()
    assert np.isnan(taken[:, 0]).all()
