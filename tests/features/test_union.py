"""Models of several plans are served by the union of them, each column to the bit."""

from __future__ import annotations

import random
from typing import Final

import msgspec
import numpy as np
import pytest

from sentinel.domain import DefinitionError, Transaction
from sentinel.features.arena import Arena
from sentinel.features.offline import OfflineFold
from sentinel.features.online import OnlineFold
from sentinel.features.plan.definition_hashes import definition_hashes, matching_columns
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Filter, Ratio, RequestFeature
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, Plan
from sentinel.features.plan.program import KIND_ADD, KIND_FRAUD, compile_program
from sentinel.features.plan.union import union_plan
from sentinel.log.entries import partly_tracked
from tests.features.logs import batch_of
from tests.features.plans import aggregate, every_function, view

CHAMPION: Final = every_function((HOUR_US, DAY_US))
LARGE: Final = (Filter(AMOUNT, ">", 5_000),)
OTHER: Final = Plan(
    (
        # Longer windows in rings that the champion has, another filter, larger sets, a new entity.
        view(
            aggregate("long", "count", 7 * DAY_US, HOUR_US),
            aggregate("customer_count_60m", "sum", 3 * HOUR_US, 5 * MINUTE_US),
            aggregate("large", "std", DAY_US, filters=LARGE),
            aggregate("shops", "distinct_count", 7 * DAY_US, column="merchant_id", capacity=64),
            name="by_customer",
        ),
        view(aggregate("of_card", "mean", HOUR_US), name="customer", keys=("card_id",)),
    ),
    (
        RequestFeature("hour", "hour_of_day"),
        RequestFeature("channel", "category", "channel", ("web", "atm")),
    ),
    (Ratio("share", AMOUNT, "long"), Ratio("of_shops", "large", "shops")),
)


def payments(n: int) -> list[Transaction]:
    """Some of them late, most of few customers."""
    draw = random.Random(7)
    made = []
    for i in range(n):
        late = draw.choice([0, 0, 0, HOUR_US, 2 * DAY_US])
        made.append(
            Transaction(
                transaction_id=f"t{i}",
                event_time_us=1_700_000_000_000_000 + i * 20 * MINUTE_US - late,
                received_at_us=1_700_000_000_000_000 + i * 20 * MINUTE_US,
                amount_minor=draw.randint(1, 20_000),
                customer_id=f"c{draw.randint(1, 5)}",
                merchant_id=f"m{draw.randint(1, 90)}",
                card_id=f"k{draw.randint(1, 9)}",
                attributes={"channel": draw.choice(["pos", "web", "atm"]), "risk": draw.random()},
            )
        )
    return made


def served(plan: Plan) -> np.ndarray:
    """The vectors of all payments, some of which are called fraud soon after."""
    program = compile_program(plan)
    folding = OnlineFold(program, Arena(program), 8)
    out = []
    for i, payment in enumerate(payments(900)):
        out.append(folding.run([payment], KIND_ADD)[0])
        if i % 11 == 0:
            folding.run([payment], KIND_FRAUD)
    return np.array(out)


def test_every_model_is_given_the_bits_of_its_own_plan() -> None:
    union = union_plan(CHAMPION, OTHER)
    together = served(union)
    for plan in (CHAMPION, OTHER):
        alone = served(plan)
        columns = matching_columns(union, plan)
        assert (columns >= 0).all()
        assert together[:, columns].tobytes() == alone.tobytes()
        assert np.isfinite(alone).any(axis=0).mean() > 0.9


def test_the_champions_names_stay_and_a_definition_is_there_once() -> None:
    union = union_plan(CHAMPION, OTHER)
    hashes = definition_hashes(union)
    assert len(set(hashes)) == len(hashes)
    known = dict(zip(union.feature_names, hashes, strict=True))
    for name, definition in zip(CHAMPION.feature_names, definition_hashes(CHAMPION), strict=True):
        assert known[name] == definition
    assert [one.name for one in union.views][: len(CHAMPION.views)] == [
        one.name for one in CHAMPION.views
    ]
    # A name that stands for something else in the champion's plan gets digits behind it.
    channels = [name for name in union.feature_names if name.startswith("channel")]
    assert len(channels) == 2


def test_what_a_union_had_no_room_for_is_left_out_by_each_of_its_plans() -> None:
    """The log of a union is replayed by the plan of a challenger that was promoted since."""
    union = union_plan(CHAMPION, OTHER)
    program = compile_program(union)
    folding = OnlineFold(program, Arena(program), 8)
    log: list[Transaction] = []
    rows: list[np.ndarray] = []
    for i, payment in enumerate(payments(600)):
        rows.append(folding.run([payment], KIND_ADD, (0,) if i % 3 else ())[0])
        left_out = folding.left_out.get(0)
        log.append(payment if left_out is None else partly_tracked(payment, left_out))
    assert {name for payment in log for name in payment.untracked} == {
        "card_id",
        "customer_id",
        "customer_id+merchant_id",
    }
    together = np.array(rows)
    for plan in (CHAMPION, OTHER):
        alone = compile_program(plan)
        online = OnlineFold(alone, Arena(alone), 8)
        columns = together[:, matching_columns(union, plan)].tobytes()
        assert np.array([online.run([one], KIND_ADD)[0] for one in log]).tobytes() == columns
        offline = OfflineFold(alone, Arena(alone))
        batch = batch_of(log)
        offline.book.scan([batch])
        assert np.concatenate(list(offline.run([batch]))).tobytes() == columns


def test_what_adds_nothing_changes_nothing() -> None:
    renamed = tuple(msgspec.structs.replace(v, name=f"x_{v.name}") for v in CHAMPION.views[1:])
    assert union_plan(CHAMPION, Plan(renamed, CHAMPION.request)) is CHAMPION
    union = union_plan(CHAMPION, OTHER)
    assert union_plan(union, OTHER, CHAMPION) is union
    assert union_plan(CHAMPION, OTHER).hash == union.hash


def test_a_number_in_one_plan_and_text_in_another_cannot_be_served_together() -> None:
    number = Plan((), (RequestFeature("risk", "number", "score"),))
    text = Plan((), (RequestFeature("band", "category", "score", ("high",)),))
    with pytest.raises(DefinitionError, match="'score' is used as a number and as text"):
        union_plan(number, text)
