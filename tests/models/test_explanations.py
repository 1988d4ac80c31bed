"""Reasons are sentences an analyst can read out to a cardholder."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, Plan
from sentinel.models.explanations import compile_words


@dataclass(frozen=True)
class Euros:
    currency: str = "EUR"
    scale: int = 2


MONTH = 30 * DAY_US
PLAN = Plan(
    views=(
        View(
            "card",
            ("card_id",),
            (
                Aggregate("count_1h", "count", HOUR_US, 5 * MINUTE_US),
                Aggregate(
                    "count_large",
                    "count",
                    DAY_US,
                    HOUR_US,
                    filters=(Filter(AMOUNT, ">=", 10_000.0), Filter("channel", "==", "online")),
                ),
                Aggregate("sum_1d", "sum", DAY_US, HOUR_US, AMOUNT),
                Aggregate("mean_30d", "mean", MONTH, DAY_US, AMOUNT),
                Aggregate("usual", "mean", MONTH, DAY_US, AMOUNT, 7 * DAY_US),
                Aggregate("std_30d", "std", MONTH, DAY_US, AMOUNT),
                Aggregate("max_30d", "max", MONTH, DAY_US, AMOUNT),
                Aggregate("since", "time_since_last", MONTH, DAY_US),
                Aggregate("shops", "distinct_count", DAY_US, HOUR_US, "merchant_id", capacity=8),
            ),
        ),
        View(
            "merchant",
            ("merchant_id",),
            (
                Aggregate("frauds", "fraud_count", 7 * DAY_US, DAY_US),
                Aggregate("rate", "fraud_rate", 7 * DAY_US, DAY_US),
            ),
        ),
        View("pair", ("customer_id", "merchant_id"), (Aggregate("met", "count", MONTH, DAY_US),)),
        View("ip", ("ip_address",), (Aggregate("ip_10m", "count", 10 * MINUTE_US, MINUTE_US),)),
    ),
    request=(
        RequestFeature("amount", "amount"),
        RequestFeature("hour", "hour_of_day"),
        RequestFeature("weekday", "day_of_week"),
        RequestFeature("channel", "category", "channel", ("pos", "online")),
        RequestFeature("age", "number", "account_age_days"),
    ),
    ratios=(
        Ratio("to_mean", AMOUNT, "mean_30d"),
        Ratio("share", "count_1h", "count_large"),
        Ratio("drift", "mean_30d", "usual"),
    ),
)
WORDS = dict(zip(PLAN.feature_names, compile_words(PLAN, Euros()), strict=True))


@pytest.mark.parametrize(
    ("feature", "value", "sentence"),
    [
        ("count_1h", 9.0, "9 payments by this card in the last hour"),
        ("count_1h", 1.0, "1 payment by this card in the last hour"),
        ("count_1h", 0.0, "no earlier payment by this card in the last hour"),
        ("count_1h", None, "card unknown"),
        (
            "count_large",
            3.0,
            "3 payments (at least 100.00 EUR, channel online) by this card in the last 24 hours",
        ),
        ("sum_1d", 123_456.0, "1,234.56 EUR in payments by this card in the last 24 hours"),
        ("mean_30d", 4_250.0, "mean payment by this card in the last 30 days is 42.50 EUR"),
        ("mean_30d", None, "no earlier payment by this card in the last 30 days"),
        (
            "usual",
            4_250.0,
            "mean payment by this card in the 30 days before the last 7 days is 42.50 EUR",
        ),
        ("std_30d", None, "fewer than two earlier payments by this card in the last 30 days"),
        ("max_30d", 99_900.0, "largest payment by this card in the last 30 days is 999.00 EUR"),
        ("since", 42.0, "42 seconds since the last payment by this card"),
        ("since", 7_300.0, "2 hours since the last payment by this card"),
        ("since", 0.0, "less than a second since the last payment by this card"),
        ("shops", 4.0, "4 different merchants by this card in the last 24 hours"),
        ("shops", 8.0, "at least 8 different merchants by this card in the last 24 hours"),
        (
            "frauds",
            2.0,
            "2 known frauds among the payments at this merchant in the last 7 days",
        ),
        ("rate", 0.12, "12 % of the payments at this merchant in the last 7 days are known fraud"),
        ("met", 5.0, "5 payments by this customer at this merchant in the last 30 days"),
        ("met", math.nan, "customer and merchant unknown"),
        ("ip_10m", 20.0, "20 payments from this IP address in the last 10 minutes"),
        ("amount", 35_000.0, "amount is 350.00 EUR"),
        ("hour", 3.5, "paid at 03:30 UTC"),
        ("weekday", 5.0, "paid on a Saturday"),
        ("channel", 2.0, "channel is online"),
        ("channel", 0.0, "channel is one never seen before"),
        ("channel", None, "channel not given"),
        ("age", 12.0, "account age days is 12"),
        ("to_mean", 6.2, "amount is 6.2 times this card's mean of the last 30 days"),
        (
            "drift",
            0.5,
            (
                "this card's mean of the last 30 days is 0.5 times "
                "this card's mean of the 30 days before the last 7 days"
            ),
        ),
    ],
)
def test_a_value_in_words(feature: str, value: float | None, sentence: str) -> None:
    assert WORDS[feature](value) == sentence


@given(st.sampled_from(PLAN.feature_names), st.floats(0, 2**40, width=32))
def test_any_value_has_words(feature: str, value: float) -> None:
    value = value % 3 if feature == "channel" else value % 24 if feature == "hour" else value
    if feature == "channel":
        value = float(int(value))
    sentence = WORDS[feature](value)
    assert sentence
    assert "nan" not in sentence


def test_unknown_and_nan_are_the_same() -> None:
    for words in WORDS.values():
        assert words(None) == words(math.nan)


def test_amounts_follow_the_deployments_currency() -> None:
    @dataclass(frozen=True)
    class Dinars:
        currency: str = "KWD"
        scale: int = 3

    words = dict(zip(PLAN.feature_names, compile_words(PLAN, Dinars()), strict=True))
    assert words["amount"](35_000.0) == "amount is 35.000 KWD"
