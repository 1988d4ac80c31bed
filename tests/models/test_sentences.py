"""An explanation says what a value is, and what is usual for the same card."""

from __future__ import annotations

import pytest

from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, Plan
from sentinel.models.explanations import compile_words
from sentinel.models.sentences import compile_usual, say
from sentinel.settings import MoneySettings

MONTH = 30 * DAY_US
ONLINE = (Filter("channel", "==", "online"),)
PLAN = Plan(
    views=(
        View(
            "card",
            ("card_id",),
            (
                Aggregate("count_10m", "count", 10 * MINUTE_US, MINUTE_US),
                Aggregate("count_online_1h", "count", HOUR_US, 5 * MINUTE_US, filters=ONLINE),
                Aggregate("count_30d", "count", MONTH, DAY_US),
                Aggregate("sum_1d", "sum", DAY_US, HOUR_US, "amount_minor"),
                Aggregate("sum_30d", "sum", MONTH, DAY_US, "amount_minor"),
                Aggregate("mean_7d", "mean", 7 * DAY_US, DAY_US, "amount_minor"),
                Aggregate("mean_usual", "mean", MONTH, DAY_US, "amount_minor", 7 * DAY_US),
                Aggregate("max_7d", "max", 7 * DAY_US, DAY_US, "amount_minor"),
                Aggregate("max_30d", "max", MONTH, DAY_US, "amount_minor"),
                Aggregate("since", "time_since_last", MONTH, DAY_US),
                Aggregate("shops_1d", "distinct_count", DAY_US, HOUR_US, "merchant_id", capacity=8),
                Aggregate("shops_30d", "distinct_count", MONTH, DAY_US, "merchant_id", capacity=8),
                Aggregate("rate_7d", "fraud_rate", 7 * DAY_US, DAY_US),
                Aggregate("rate_30d", "fraud_rate", MONTH, DAY_US),
            ),
        ),
    ),
    request=(RequestFeature("amount", "amount"), RequestFeature("hour", "hour_of_day")),
    ratios=(Ratio("to_usual", "amount_minor", "mean_usual"),),
)


def said(feature: str, **values: float | None) -> str:
    """The sentence of a feature in a vector that has these values, and unknown others."""
    vector = [values.get(name) for name in PLAN.feature_names]
    words, usual = compile_words(PLAN, MoneySettings()), compile_usual(PLAN, MoneySettings())
    return say(words, usual, vector)[PLAN.feature_names.index(feature)]


@pytest.mark.parametrize(
    ("feature", "values", "sentence"),
    [
        (
            "count_10m",
            {"count_10m": 7.0, "count_30d": 37.0},
            "7 payments by this card in the last 10 minutes; usually 1 a day",
        ),
        (
            "count_10m",
            {"count_10m": 1.0, "count_30d": 1.0},
            "1 payment by this card in the last 10 minutes; no other in the last 30 days",
        ),
        (
            "count_10m",
            {"count_10m": 0.0, "count_30d": 4.0},
            "no earlier payment by this card in the last 10 minutes; usually 4 a month",
        ),
        (
            "count_online_1h",
            {"count_online_1h": 2.0, "count_30d": 9.0},
            "2 payments (channel online) by this card in the last hour",
        ),
        ("count_10m", {}, "card unknown"),
        (
            "sum_1d",
            {"sum_1d": 50_000.0, "sum_30d": 108_000.0},
            "500.00 EUR in payments by this card in the last 24 hours; usually 20.00 EUR a day",
        ),
        (
            "mean_7d",
            {"mean_7d": 8_000.0, "mean_usual": 2_000.0},
            "mean payment by this card in the last 7 days is 80.00 EUR; usually 20.00 EUR",
        ),
        (
            "mean_7d",
            {"mean_7d": 8_000.0},
            (
                "mean payment by this card in the last 7 days is 80.00 EUR; "
                "nothing before to compare with"
            ),
        ),
        (
            "max_7d",
            {"max_7d": 8_000.0, "max_30d": 9_000.0},
            "largest payment by this card in the last 7 days is 80.00 EUR; usually up to 90.00 EUR",
        ),
        (
            "since",
            {"since": 180.0, "count_30d": 60.0},
            "3 minutes since the last payment by this card; usually 2 a day",
        ),
        (
            "since",
            {"count_30d": 0.0},
            "no earlier payment by this card in the last 30 days",
        ),
        (
            "shops_1d",
            {"shops_1d": 3.0, "shops_30d": 8.0},
            (
                "3 different merchants by this card in the last 24 hours; "
                "at least 8 in the last 30 days"
            ),
        ),
        (
            "rate_7d",
            {"rate_7d": 0.5, "rate_30d": 0.015},
            "50 % of the payments by this card in the last 7 days are known fraud; usually 1.5 %",
        ),
        (
            "amount",
            {"amount": 50_000.0, "mean_usual": 2_000.0},
            "amount is 500.00 EUR; usually 20.00 EUR by this card",
        ),
        (
            "amount",
            {"amount": 50_000.0},
            "amount is 500.00 EUR; no earlier payment by this card to compare with",
        ),
        (
            "amount",
            {"amount": 50_000.0, "mean_7d": 3_000.0},
            "amount is 500.00 EUR; usually 30.00 EUR by this card",
        ),
        ("hour", {"hour": 3.5}, "paid at 03:30 UTC"),
        (
            "mean_usual",
            {"mean_usual": 2_000.0},
            "mean payment by this card in the 30 days before the last 7 days is 20.00 EUR",
        ),
    ],
)
def test_a_value_is_said_beside_what_is_usual(
    feature: str, values: dict[str, float], sentence: str
) -> None:
    assert said(feature, **values) == sentence
