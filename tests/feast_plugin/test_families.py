"""Families of features: what they are called, what they compile to, and what is refused."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from feast import Entity, FeatureService, Field, PushSource, StreamFeatureView
from feast.aggregation import Aggregation
from feast.types import Float32
from feast.value_type import ValueType

from sentinel.domain import DefinitionError
from sentinel.feast_plugin import families
from sentinel.feast_plugin.compile import category_columns, compile_definitions
from sentinel.feast_plugin.families import (
    DAY,
    HOUR,
    MONTH,
    WEEK,
    Family,
    RatioFamily,
    amount,
    count,
    distinct,
    entity,
    entity_view,
    fraud_count,
    fraud_rate,
    payments,
    ratio,
    request_view,
    since_last,
    vector,
)
from sentinel.feast_plugin.source import TransactionLog
from sentinel.feast_plugin.tags import fields, windowed
from sentinel.feast_plugin.tags import ratio as ratio_tags
from sentinel.features.plan.functions import FUNCTIONS
from sentinel.features.plan.plan import DAY_US, Plan


def card_plan(*families: Family | RatioFamily) -> Plan:
    card = entity("card")
    view = entity_view("card", card, *families, source=payments())
    return compile_definitions([card, view, vector("fraud_detection_v1", view)])


def names(*families: Family | RatioFamily) -> list[str]:
    return list(card_plan(*families).feature_names)


def test_the_default_definitions_compile_to_the_plan_that_models_have_learnt(root: Path) -> None:
    """A champion only meets vectors of the plan that it was trained with."""
    repo = root / "feature_store"
    learned = {column: ["b", "a", column] for column in category_columns(repo)}
    assert compile_definitions(repo).hash == "54c7f00c3fce554d"
    assert compile_definitions(repo, learned).hash == "1c2e06a3594b8813"


@pytest.mark.filterwarnings("ignore:Stream feature views are experimental")
def test_a_family_is_what_feasts_own_objects_written_out_would_be() -> None:
    online = [("channel", "==", "online")]
    windows = [
        Aggregation(
            name="card_online_count_1d",
            function="count",
            column="transaction_id",
            time_window=timedelta(days=1),
        ),
        Aggregation(
            name="card_fraud_rate_2_weeks_ago",
            function="mean",
            column="is_fraud",
            time_window=timedelta(days=7),
            slide_interval=timedelta(days=1),
        ),
        Aggregation(
            name="card_merchants_30d",
            function="count_distinct",
            column="merchant_id",
            time_window=timedelta(days=30),
        ),
    ]
    tags = {
        "card_online_count_1d": windowed(where=online),  # type: ignore[arg-type]
        "card_fraud_rate_2_weeks_ago": windowed(offset=timedelta(days=14)),
        "card_merchants_30d": windowed(capacity=32),
    }
    share = Field(
        name="card_online_count_1d_to_merchants_30d",
        dtype=Float32,
        tags=ratio_tags("card_online_count_1d", "card_merchants_30d"),
    )
    card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
    view = StreamFeatureView(
        name="card",
        entities=[card],
        source=PushSource(name="transactions", batch_source=TransactionLog()),
        timestamp_field="event_timestamp",
        aggregations=windows,
        schema=[*fields(windows, tags), share],
    )
    service = FeatureService(name="fraud_detection_v1", features=[view])
    short = card_plan(
        count(DAY, name="online_count", where=[("channel", "==", "online")]),
        fraud_rate(WEEK, offset=2 * WEEK, hop=DAY, span="2_weeks_ago"),
        distinct("merchant_id", MONTH, capacity=32),
        ratio("online_count_1d", to="merchants_30d"),
    )
    assert short == compile_definitions([card, view, service])


def test_names_are_put_together_from_view_family_and_window() -> None:
    assert names(
        count(HOUR, DAY, timedelta(minutes=90)),
        amount("mean", WEEK),
        amount("mean", MONTH, offset=WEEK, span="usual"),
        since_last(MONTH),
        distinct("ip_address", DAY),
        distinct("Merchant Country", DAY),
        fraud_count(MONTH),
    ) == [
        "card_count_1h",
        "card_count_1d",
        "card_count_90m",
        "card_amount_mean_7d",
        "card_amount_mean_usual",
        "card_seconds_since_last",
        "card_ips_1d",
        "card_Merchant_Countries_1d",
        "card_frauds_known_30d",
    ]


def test_a_ratio_says_what_both_sides_share_only_once() -> None:
    windows = [count(DAY, MONTH), amount("mean", WEEK), amount("max", WEEK, MONTH)]
    plan = card_plan(
        *windows,
        ratio("amount", to=["amount_mean_7d", "amount_max_30d"]),
        ratio("count_1d", to="count_30d"),
        ratio("amount_max_7d", "amount_mean_7d", to="amount_max_30d", called="most"),
    )
    assert {r.name: (r.numerator, r.denominator) for r in plan.ratios} == {
        "card_amount_to_mean_7d": ("amount_minor", "card_amount_mean_7d"),
        "card_amount_to_max_30d": ("amount_minor", "card_amount_max_30d"),
        "card_count_1d_to_30d": ("card_count_1d", "card_count_30d"),
        "card_max_7d_to_most": ("card_amount_max_7d", "card_amount_max_30d"),
        "card_mean_7d_to_most": ("card_amount_mean_7d", "card_amount_max_30d"),
    }


def test_a_view_of_a_pair_divides_by_what_one_of_the_two_does() -> None:
    source = payments()
    customer, merchant = entity("customer"), entity("merchant")
    usual = entity_view("customer", customer, count(MONTH), source=source)
    pair = entity_view(
        "pair",
        [customer, merchant],
        count(MONTH, hop=WEEK),
        ratio("count_30d", to="customer_count_30d"),
        source=source,
    )
    service = vector("fraud_detection_v1", usual, pair)
    plan = compile_definitions([customer, merchant, usual, pair, service])
    (share,) = plan.ratios
    assert (share.numerator, share.denominator) == ("pair_count_30d", "customer_count_30d")
    assert plan.view("pair").aggregates[0].hop_us == 7 * DAY_US


def test_a_request_view_has_a_feature_for_each_kind_of_attribute() -> None:
    view = request_view(
        "request",
        "amount",
        "hour_of_day",
        categories=["Merchant City"],
        numbers=["account_age_seconds"],
        booleans=["is_recurring"],
        source=payments(),
    )
    plan = compile_definitions([view, vector("fraud_detection_v1", view)])
    assert [(f.name, f.kind, f.column) for f in plan.request] == [
        ("amount", "amount", ""),
        ("hour_of_day", "hour_of_day", ""),
        ("Merchant_City", "category", "Merchant City"),
        ("account_age_seconds", "number", "account_age_seconds"),
        ("is_recurring", "category", "is_recurring"),
    ]


def test_mistakes_are_named_with_what_would_be_right() -> None:
    with pytest.raises(DefinitionError, match=r"two features named 'card_count_1d'.*`name`"):
        names(count(DAY), count(DAY, where=[("channel", "==", "online")]))
    with pytest.raises(DefinitionError, match=r"two features named 'a_b'.*`prefix`"):
        request_view("request", numbers=["a b", "a-b"], source=payments())
    with pytest.raises(DefinitionError, match="has no window"):
        count()
    with pytest.raises(DefinitionError, match="2 windows and the one span 'usual'"):
        amount("mean", DAY, WEEK, span="usual")
    with pytest.raises(DefinitionError, match="Did you mean 'card'"):
        entity("crad")
    with pytest.raises(DefinitionError, match="Did you mean 'card_count_1d'"):
        card_plan(count(DAY), ratio("count_1d", to="card_count_1"))
    with pytest.raises(DefinitionError, match="one or more numerators"):
        ratio("count_1d", to=[])


def test_the_page_names_the_feature_that_each_family_makes(root: Path) -> None:
    page = (root / "docs" / "feature-store.md").read_text()
    rows = re.findall(r"^\| `(\w+\(.*?\))` \| `(\w+)` \|", page, re.MULTILINE)
    assert len(rows) == len(FUNCTIONS) + 1
    for family, name in rows:
        made = eval(family, vars(families))
        needed = [count(DAY, WEEK)] if family.startswith("ratio") else []
        assert names(*needed, made)[-1] == name


def test_the_examples_of_the_page_compile(root: Path) -> None:
    page = (root / "docs" / "feature-store.md").read_text()
    examples = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "_view(" in b]
    assert len(examples) == 3
    scope = {**vars(families), "card": entity("card"), "transactions": payments()}
    exec("\n".join(examples), scope)
    views = [scope["card_features"], scope["request_features"]]
    service = vector("fraud_detection_v1", *views)
    plan = compile_definitions([scope["card"], *views, scope["card_profile"], service])
    assert {"card_online_count_1d", "card_amount_to_mean_usual", "is_recurring"} <= set(
        plan.feature_names
    )
