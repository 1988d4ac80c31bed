"""Two models are of one procedure if nobody chose anything differently."""

from __future__ import annotations

import msgspec
import pytest

from sentinel.models.procedure import Procedure

ONE = Procedure(
    trainer="lightgbm",
    parameters={"num_leaves": 31, "learning_rate": 0.05},
    plan_hash="a" * 16,
    window_days=0.0,
    max_rows=400_000,
    maturity_days=None,
    alerts_per_1000=5.0,
    decline_precision=0.8,
)


@pytest.mark.parametrize(
    "change",
    [
        {"trainer": "random_forest"},
        {"parameters": {"num_leaves": 15, "learning_rate": 0.05}},
        {"plan_hash": "b" * 16},
        {"window_days": 90.0},
        {"max_rows": 1_000},
        {"maturity_days": 30.0},
        {"alerts_per_1000": 6.0},
        {"decline_precision": 0.9},
        {"state_dropout": 0.02},
        {"window_searched": True},
    ],
)
def test_every_choice_makes_another_procedure(change: dict[str, object]) -> None:
    other = msgspec.structs.replace(ONE, **change)
    assert not ONE.is_that_of(other)
    assert ONE.hash != other.hash


def test_its_hash_does_not_depend_on_the_order_of_parameters() -> None:
    turned = dict(reversed(ONE.parameters.items()))
    assert msgspec.structs.replace(ONE, parameters=turned).hash == ONE.hash


def test_a_length_of_history_that_grew_with_the_log_is_the_same_choice() -> None:
    forty = msgspec.structs.replace(ONE, window_days=40.0)
    assert forty.is_that_of(msgspec.structs.replace(ONE, window_days=45.0))
    assert not forty.is_that_of(msgspec.structs.replace(ONE, window_days=80.0))
    assert not forty.is_that_of(ONE)


def test_a_length_that_a_search_found_is_nobodys_choice() -> None:
    searched = msgspec.structs.replace(ONE, window_searched=True)
    assert searched.is_that_of(msgspec.structs.replace(searched, window_days=60.0))
    assert not searched.is_that_of(msgspec.structs.replace(ONE, window_days=60.0))
