"""Statistics of entities, and what is said of definitions that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from feast import Entity, FeatureView, Field
from feast.types import Float32, Int64, String
from feast.value_type import ValueType

from sentinel.domain import DefinitionError
from sentinel.feast_plugin import profiles
from sentinel.feast_plugin.source import EntityProfiles
from sentinel.pipeline.verify_sample import clopper_pearson

pytestmark = pytest.mark.filterwarnings("ignore")


def view(*schema: Field, key: str = "customer_id") -> FeatureView:
    entity = Entity(name="it", join_keys=[key], value_type=ValueType.STRING)
    return FeatureView(
        name="profile",
        entities=[entity],
        source=EntityProfiles("profiles"),
        schema=[Field(name=key, dtype=String), *schema],
    )


def test_a_view_is_read_back_as_it_was_written() -> None:
    profile = profiles.read_profile(
        view(profiles.usual("mcc", "mcc"), profiles.amount_quantile("p90", 0.9))
    )
    assert profile.keys == ("customer_id",)
    assert {(s.name, s.kind, s.column, s.level) for s in profile.statistics} == {
        ("mcc", "usual", "mcc", 0.0),
        ("p90", "amount_quantile", "", 0.9),
    }


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Field(name="x", dtype=Int64), "says no statistic"),
        (Field(name="x", dtype=Int64, tags={"statistic": "usuall"}), "Did you mean 'usual'"),
        (Field(name="x", dtype=Int64, tags={"statistik": "usual"}), "Did you mean 'statistic'"),
        (Field(name="x", dtype=Float32, tags={"statistic": "transactions"}), "is of type"),
        (profiles.usual("x", ""), "names the column"),
        (profiles.amount_quantile("x", 1.5), "from 0 to 1"),
    ],
)
def test_a_field_that_is_not_understood_says_why(field: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        profiles.read_profile(view(field))


def test_a_profile_is_of_an_entity_of_the_log() -> None:
    with pytest.raises(DefinitionError, match="customer_id"):
        profiles.read_profile(view(profiles.transactions("n"), key="customer"))


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 1000, 0.0, 0.003682), (5, 100, 0.016432, 0.112835), (10, 10, 0.691503, 1.0)],
)
def test_the_interval_is_the_exact_one(hits: int, n: int, low: float, high: float) -> None:
    """Values of R's binom.test."""
    assert clopper_pearson(hits, n) == pytest.approx((low, high), abs=1e-5)
