"""A feature's words can be its owner's own; what a template may name is checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import DefinitionError
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.feast_plugin.families import (
    DAY,
    MONTH,
    WEEK,
    Family,
    RatioFamily,
    amount,
    count,
    distinct,
    entity,
    entity_view,
    fraud_rate,
    payments,
    ratio,
    request_view,
    since_last,
    vector,
)
from sentinel.features.plan.definition_hashes import definition_hashes
from sentinel.features.plan.describe import describe
from sentinel.features.plan.parts import Aggregate, View
from sentinel.features.plan.plan import HOUR_US, MINUTE_US, Plan
from sentinel.features.plan.templates import OF_RATIOS, OF_REQUESTS, OF_WINDOWS
from sentinel.models.explanations import compile_words
from sentinel.models.sentences import compile_usual, say
from sentinel.settings import MoneySettings


def plan_of(*families: Family | RatioFamily, words: dict[str, str] | None = None) -> Plan:
    card, source = entity("card"), payments()
    windows = entity_view("card", card, *families, source=source)
    request = request_view(
        "request",
        "amount",
        "hour_of_day",
        "day_of_week",
        categories=["channel"],
        numbers=["account_age_days"],
        words=words,
        source=source,
    )
    views = [windows, request]
    return compile_definitions(
        [card, *views, vector("fraud_detection_v1", *views)], {"channel": ["pos", "online"]}
    )


def said(plan: Plan, feature: str, value: float | None) -> str:
    words = compile_words(plan, MoneySettings(currency="EUR"))
    return words[plan.feature_names.index(feature)](value)


@pytest.mark.parametrize(
    ("family", "value", "sentence"),
    [
        (
            count(DAY, words="{number} payments on this card in {period}"),
            7.0,
            "7 payments on this card in the last 24 hours",
        ),
        (
            count(
                DAY,
                name="online",
                where=[("channel", "==", "online")],
                words="{number} Zahlungen{which}",
            ),
            0.0,
            "0 Zahlungen (channel online)",
        ),
        (count(DAY, words="nothing but text"), 7.0, "nothing but text"),
        (count(DAY, words="{value}{of}, that is {number}"), 1.0, None),
        (amount("mean", WEEK, words="{value} or {number} {where}"), 4_250.0, None),
        (since_last(MONTH, words="{number} s ({value}) since the last"), 7_300.0, None),
        (
            distinct("merchant_id", DAY, words="{number} {columns}, not one {column}"),
            4.0,
            "4 merchants, not one merchant",
        ),
        (fraud_rate(MONTH, words="{{{value}}} fraud"), 0.12, "{12 %} fraud"),
    ],
)
def test_a_family_says_its_values_as_its_template_does(
    family: Family, value: float, sentence: str | None
) -> None:
    plan = plan_of(family)
    expected = sentence or {
        "count": "1 payment by this card in the last 24 hours, that is 1",
        "amount_mean": "42.50 EUR or 42.50 by this card",
        "seconds_since_last": "7,300 s (2 hours) since the last",
    }.get(family.name)
    assert said(plan, plan.feature_names[0], value) == expected


def test_ratios_and_features_of_the_payment_have_templates_too() -> None:
    plan = plan_of(
        amount("mean", MONTH),
        ratio("amount", to="amount_mean_30d", words="{numerator}: {value} x {denominator}"),
        words={
            "amount": "{number} of {value}",
            "hour_of_day": "at {value}",
            "channel": "{column} {value}",
            "account_age_days": "{column}: {value}",
        },
    )
    assert said(plan, "card_amount_to_mean_30d", 6.2) == (
        "amount: 6.2 x this card's mean of the last 30 days"
    )
    assert said(plan, "amount", 48_000.0) == "480.00 of 480.00 EUR"
    assert said(plan, "hour_of_day", 14.5) == "at 14:30"
    assert said(plan, "day_of_week", 0.0) == "paid on a Monday"
    assert said(plan, "channel", 2.0) == "channel online"
    assert said(plan, "account_age_days", 12.0) == "account age days: 12"


def test_an_unknown_value_is_said_in_the_usual_words() -> None:
    plain, own = plan_of(amount("mean", WEEK)), plan_of(amount("mean", WEEK, words="about {value}"))
    name = plain.feature_names[0]
    assert said(own, name, None) == said(plain, name, None) != ""


def test_what_is_usual_follows_a_template_in_an_explanation() -> None:
    counts = (
        Aggregate(
            "n_10m", "count", 10 * MINUTE_US, MINUTE_US, words="{value} on this card in 10 minutes"
        ),
        Aggregate("n_30d", "count", 30 * 24 * HOUR_US, 24 * HOUR_US),
    )
    plan = Plan((View("card", ("card_id",), counts),), ())
    money = MoneySettings()
    sentences = say(compile_words(plan, money), compile_usual(plan, money), [7.0, 37.0])
    assert sentences[0] == "7 payments on this card in 10 minutes; usually 1 a day"


@pytest.mark.parametrize(
    ("families", "words", "message"),
    [
        (
            [count(DAY, words="{valeu} payments")],
            {},
            (
                r"Feature 'card_count_1d' of view 'card'.*\{valeu\} means nothing\. It may have "
                r"\{value\}, \{number\}, \{where\}, \{period\}, \{which\}, \{of\}, \{column\}, "
                r"\{columns\}\."
            ),
        ),
        ([count(DAY, words="{} payments")], {}, r"\{\} means nothing"),
        ([count(DAY, words="{value.real} payments")], {}, r"\{value\.real\} means nothing"),
        ([count(DAY, words="{value:.2f}")], {}, r"has a format.*write \{value\} alone"),
        ([count(DAY, words="{value")], {}, "cannot be read.*written twice"),
        ([count(DAY, words="x" * 201)], {}, "201 characters.*at most 200"),
        ([count(DAY, words="one\nline")], {}, "one line of at most 200 printable"),
        (
            [count(DAY), ratio("count_1d", to="count_1d", words="{where}")],
            {},
            r"It may have \{value\}, \{number\}, \{numerator\}, \{denominator\}\.",
        ),
        ([count(DAY)], {"amount": "{period}"}, r"It may have \{value\}, \{number\}, \{column\}\."),
        ([count(DAY)], {"channle": "{value}"}, "words for 'channle'.*Did you mean 'channel'"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(
    families: Sequence[Family | RatioFamily], words: dict[str, str], message: str
) -> None:
    with pytest.raises(DefinitionError, match=message):
        plan_of(*families, words=words)


def test_a_plan_that_somebody_wrote_is_checked_as_well() -> None:
    counts = (Aggregate("n", "count", HOUR_US, MINUTE_US, words="{amount}"),)
    with pytest.raises(DefinitionError, match=r"\{amount\} means nothing"):
        Plan((View("card", ("card_id",), counts),), ())


def test_words_change_no_hash_so_models_and_vectors_stay(tmp_path: Path) -> None:
    plain = plan_of(count(DAY), amount("mean", MONTH), ratio("amount", to="amount_mean_30d"))
    worded = plan_of(
        count(DAY, words="{number} a day"),
        amount("mean", MONTH),
        ratio("amount", to="amount_mean_30d", words="{value} times"),
        words={"amount": "{value}"},
    )
    assert worded != plain
    assert worded.hash == plain.hash
    assert definition_hashes(worded) == definition_hashes(plain)
    assert "said '{number} a day'" in describe(worded)
    assert b"words" not in msgspec.json.encode(plain)
    worded.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == worded


def test_the_page_names_every_placeholder(root: Path) -> None:
    page = (root / "docs" / "explanations.md").read_text()
    for placeholder in {*OF_WINDOWS, *OF_REQUESTS, *OF_RATIOS}:
        assert f"`{{{placeholder}}}`" in page
