"""Each row of the table of aggregates is computed, defined by the oracle, and has words."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest
from feast import Entity, FeatureService, FeatureView, PushSource, StreamFeatureView

from sentinel.domain import DefinitionError, Transaction
from sentinel.feast_plugin import families
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.features.plan.functions import (
    AMOUNT,
    FUNCTIONS,
    AggregateFunction,
    Function,
    Section,
    Takes,
)
from sentinel.features.plan.parts import Aggregate, Filter
from sentinel.features.plan.plan import DAY_US, HOUR_US
from sentinel.models.explanations import compile_words
from tests.features.engines import ENGINES, oracle
from tests.features.logs import bits_of, bits_of_values
from tests.features.plans import aggregate, plan_of
from tests.features.worlds import START_US, Entry, log_of

EVERY_FUNCTION = pytest.mark.parametrize("row", FUNCTIONS.values(), ids=list(FUNCTIONS))


def of(row: AggregateFunction, name: str = "feature", window_us: int = HOUR_US) -> Aggregate:
    """An aggregate with as much as its row says that it takes."""
    return aggregate(
        name,
        row.name,
        window_us,
        column={Takes.AMOUNTS: AMOUNT, Takes.VALUES: "merchant_id"}.get(row.takes, ""),
        capacity=3 if row.capacity else 0,
        offset_us=HOUR_US if row.offset and window_us != HOUR_US else 0,
        filters=(Filter(AMOUNT, ">", 0),) if row.filters and window_us != HOUR_US else (),
    )


def payments(n: int) -> list[Entry]:
    """Payments of one customer, a minute apart, and one more to look back from."""
    return [
        Transaction(
            transaction_id=f"t{i}",
            event_time_us=START_US + i * 60_000_000,
            received_at_us=START_US + i,
            amount_minor=100 + i,
            customer_id="c",
            merchant_id=f"m{i}",
        )
        for i in range(n + 1)
    ]


def test_the_table_has_a_row_for_each_name_that_a_plan_may_use() -> None:
    assert list(FUNCTIONS) == list(get_args(Function))


def test_codes_of_rings_and_names_for_feast_are_unique() -> None:
    codes = [row.code for row in FUNCTIONS.values() if row.section is Section.RINGS]
    assert sorted(codes) == list(range(len(codes)))
    assert all(row.code == -1 for row in FUNCTIONS.values() if row.section is not Section.RINGS)
    assert len({(row.feast, row.takes) for row in FUNCTIONS.values()}) == len(FUNCTIONS)


@EVERY_FUNCTION
def test_the_kernel_computes_what_the_oracle_defines(row: AggregateFunction) -> None:
    plan = plan_of(of(row), of(row, "longer", DAY_US))
    chance = random.Random(row.name)
    log = log_of(plan, [_entry(chance) for _ in range(400)])
    by_definition = oracle(plan, log)
    for place in range(2):
        assert len({vector[place] for vector in by_definition}) > 2, "a log that says nothing"
    expected = bits_of_values(by_definition, 2)
    for name, engine in ENGINES.items():
        vectors = engine(plan, log, random.Random(0))
        assert np.array_equal(bits_of(vectors), expected), name


def _entry(chance: random.Random) -> tuple[int, ...]:
    if chance.random() < 0.35:
        return (1, chance.randrange(400), chance.random() < 0.8)
    return (0, *(chance.randrange(256) for _ in range(6)))


@EVERY_FUNCTION
def test_a_value_is_null_below_as_many_payments_as_the_row_says(row: AggregateFunction) -> None:
    plan = plan_of(of(row))
    for n in range(4):
        log = payments(n)
        vectors = ENGINES["one_at_a_time"](plan, log, random.Random(0))
        assert np.isnan(vectors[-1, 0]) == (n < row.least), n
        assert np.array_equal(bits_of(vectors), bits_of_values(oracle(plan, log), 1))


@EVERY_FUNCTION
def test_a_plan_refuses_what_the_row_does_not_take(row: AggregateFunction) -> None:
    column, capacity = of(row).column, of(row).capacity
    given = {"column": column, "capacity": capacity}
    for allowed, more in (
        (row.offset, {"offset_us": HOUR_US}),
        (row.filters, {"filters": (Filter(AMOUNT, ">", 0),)}),
        (row.takes is not Takes.AMOUNTS, {"column": "merchant_id"}),
        (row.takes is not Takes.VALUES, {"column": ""}),
        (not row.capacity, {"capacity": 0}),
    ):
        made = aggregate("feature", row.name, **(given | more))  # type: ignore[arg-type]
        if allowed or made.column == AMOUNT:
            plan_of(made)
        else:
            with pytest.raises(DefinitionError, match=row.name):
                plan_of(made)


@EVERY_FUNCTION
def test_the_rows_example_is_a_line_of_definitions(row: AggregateFunction) -> None:
    card: Entity = families.entity("card")
    source: PushSource = families.payments()
    family = eval(row.example, vars(families))
    view: StreamFeatureView | FeatureView = families.entity_view(
        "card", card, family, source=source
    )
    service: FeatureService = families.vector("v", view)
    ((found,),) = [
        v.aggregates for v in compile_definitions([card, view, service], service="v").views
    ]
    assert found.function == row.name


@dataclass(frozen=True)
class Euros:
    currency: str = "EUR"
    scale: int = 2


@EVERY_FUNCTION
def test_every_value_has_words(row: AggregateFunction) -> None:
    (words,) = compile_words(plan_of(of(row)), Euros())
    sentences = [words(value) for value in (None, 0.0, 1.0, 2.0)]
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence
        assert not set("{}") & set(sentence)
