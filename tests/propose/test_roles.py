"""Which column is what is told by names and by values; what fits equally is asked."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import ConfigurationError
from sentinel.propose.answering import answers_of, with_flags
from sentinel.propose.deciding import decide
from sentinel.propose.proposing import propose
from sentinel.propose.roles import Answers, Roles
from sentinel.sources.mapping_file import load_mapping
from tests.propose.tables import payments, profile, renamed, transfers, write


@pytest.fixture(scope="module")
def shop() -> Roles:
    return decide(profile(payments()), Answers())


def entities(roles: Roles) -> dict[str, tuple[str, ...]]:
    return {entity.entity: entity.columns for entity in roles.entities}


def test_columns_with_telling_names_are_known_without_a_question(shop: Roles) -> None:
    assert not shop.questions
    assert shop.id is not None
    assert shop.id.columns == ("payment_ref",)
    assert shop.time is not None
    assert (shop.time.columns, shop.time.format) == (("created",), "iso")
    assert shop.amount is not None
    assert (shop.amount.column, shop.amount.scale) == ("amount", 2)
    assert shop.amount.currency == "EUR"
    assert shop.label is not None
    assert (shop.label.column, shop.label.fraud_values) == ("is_fraud", ("1",))
    assert entities(shop) == {"card_id": ("card_number",), "merchant_id": ("merchant",)}


def test_raw_card_numbers_become_tokens(shop: Roles) -> None:
    card = next(entity for entity in shop.entities if entity.entity == "card_id")
    assert card.tokenize


def test_every_column_has_a_role_or_a_reason_why_not(shop: Roles) -> None:
    attributes = {a.column for a in shop.attributes}
    times = {c for time in shop.time_attributes.values() for c in time.columns}
    assert set(shop.profile.columns) == shop.used() | attributes | times
    assert all(shop.left_out.values())
    assert shop.left_out["currency"] == "constant (EUR)"
    assert "says the same as 'card_number'" in shop.left_out["holder"]
    assert "id in disguise" in shop.left_out["reference_text"]
    assert {a.column: a.kind for a in shop.attributes} == {"mcc": "category", "weight": "number"}


def test_without_names_the_values_alone_tell_the_same(shop: Roles) -> None:
    columns = payments()
    place = {name: f"x{n}" for n, name in enumerate(columns)}
    roles = decide(profile(renamed(columns)), Answers())
    assert not roles.questions
    assert roles.id is not None
    assert roles.id.columns in ((place["payment_ref"],), (place["reference_text"],))
    assert roles.time is not None
    assert roles.time.columns == (place["created"],)
    assert roles.amount is not None
    assert roles.amount.column == place["amount"]
    assert roles.label is not None
    assert roles.label.column == place["is_fraud"]
    found = entities(roles)
    assert found["card_id"] == (place["card_number"],)
    assert (place["merchant"],) in found.values()


def test_what_a_count_counts_is_asked_once_with_the_flag_that_answers_it() -> None:
    table = profile(renamed(transfers()))
    roles = decide(table, Answers())
    asked = {question.about: question for question in roles.questions}
    assert set(asked) == {"time unit", "label"}
    assert ("--time-unit h", "20.8 days of history") in asked["time unit"].flags
    answers = with_flags(Answers(), "--time-unit h --label x9")
    roles = decide(table, answers)
    assert not roles.questions
    assert roles.time is not None
    assert (roles.time.columns, roles.time.unit) == (("x0",), "h")
    assert roles.amount is not None
    assert roles.amount.column == "x2", "the amount is what both pairs of balances differ by"


def test_a_known_header_is_recognised_and_says_so() -> None:
    roles = decide(profile(transfers()), Answers())
    assert roles.known == "PaySim"
    assert not roles.questions
    assert roles.time is not None
    assert (roles.time.unit, roles.time.start) == ("h", "2024-01-01")
    assert roles.id is not None
    assert roles.id.columns == (), "PaySim has no id: the row number names a payment"
    assert roles.outcome is not None
    assert roles.outcome.column == "isFlaggedFraud"


def test_what_the_user_says_goes_before_what_is_known() -> None:
    roles = decide(profile(transfers()), answers_of({"--time-unit": "d", "--start": "2020-05-01"}))
    assert roles.time is not None
    assert (roles.time.unit, roles.time.start) == ("d", "2020-05-01")


def test_an_answer_that_names_no_column_is_refused_with_a_hint() -> None:
    with pytest.raises(ConfigurationError, match=r"--amount .*did you mean 'amount'"):
        decide(profile(payments()), Answers(amount="amout"))
    with pytest.raises(ConfigurationError, match="allowed: s, ms, us, ns, min, h, d"):
        answers_of({"--time-unit": "hours"})


def test_without_labels_the_proposal_says_what_is_needed() -> None:
    columns = {k: v for k, v in payments().items() if k not in ("is_fraud", "case_opened")}
    roles = decide(profile(columns), Answers())
    assert not roles.questions
    assert roles.label is None
    assert any("--label" in note for note in roles.notes)


def test_the_number_of_a_card_is_never_taken_for_the_amount() -> None:
    columns = {name: values for name, values in payments().items() if name != "amount"}
    del columns["weight"]
    columns["card_number"] = [str(n % 97) for n in range(len(columns["card_number"]))]
    roles = decide(profile(columns), Answers())
    assert roles.amount is None
    assert [question.about for question in roles.questions] == ["amount"]


def test_a_column_of_verdicts_that_are_all_alike_is_named() -> None:
    columns = payments()
    columns = columns | {"is_fraud": ["0"] * len(columns["is_fraud"])}
    del columns["case_opened"]
    roles = decide(profile(columns), Answers())
    assert roles.label is None
    assert any("'is_fraud' says the same of every payment (0)" in note for note in roles.notes)


def test_a_composite_card_and_a_time_in_four_columns() -> None:
    rng = np.random.default_rng(1)
    rows = 2_000
    columns = {
        "User": [str(n) for n in np.sort(rng.integers(0, 90, rows)).tolist()],
        "Card": [str(n) for n in rng.integers(0, 3, rows).tolist()],
        "Year": rng.choice(["2018", "2019"], rows).tolist(),
        "Month": [str(n) for n in rng.integers(1, 13, rows).tolist()],
        "Day": [str(n) for n in rng.integers(1, 29, rows).tolist()],
        "Time": [f"{n // 60:02d}:{n % 60:02d}" for n in rng.integers(0, 1440, rows).tolist()],
        "Paid": [f"${a:,.2f}" for a in rng.lognormal(5, 2, rows).tolist()],
        "Is Fraud?": rng.choice(["Yes", "No"], rows, p=[0.05, 0.95]).tolist(),
    }
    roles = decide(profile(columns), Answers())
    assert not roles.questions
    assert entities(roles)["card_id"] == ("User", "Card")
    assert roles.time is not None
    assert roles.time.columns == ("Year", "Month", "Day", "Time")
    assert roles.time.format == ("%Y", "%m", "%d", "%H:%M")
    assert roles.amount is not None
    assert (roles.amount.currency, roles.amount.thousands) == ("USD", ",")


def test_german_amounts_and_times() -> None:
    rng = np.random.default_rng(2)
    amounts = [f"{a:,.2f}".translate(str.maketrans(",.", ".,")) for a in rng.lognormal(6, 1, 500)]
    minutes = np.sort(rng.integers(0, 200_000, 500)).tolist()
    days = [
        f"{1 + m // 1440 % 28:02d}.{1 + m // 43_200:02d}.2024 {m // 60 % 24:02d}:{m % 60:02d}"
        for m in minutes
    ]
    roles = decide(
        profile({"Datum": days, "Betrag": amounts, "Fraud": ["ja", *["nein"] * 499]}), Answers()
    )
    assert roles.amount is not None
    assert (roles.amount.decimal, roles.amount.thousands) == (",", ".")
    assert roles.time is not None
    assert roles.time.format == "%d.%m.%Y %H:%M"


def test_days_and_months_that_fit_both_ways_are_asked() -> None:
    days = [f"{1 + n % 12:02d}/{1 + n % 11:02d}/2024" for n in range(200)]
    amounts = [f"{n}.5" for n in range(200)]
    roles = decide(profile({"date": days, "amount": amounts}), Answers())
    question = next(q for q in roles.questions if q.about == "time format")
    assert [flag for flag, _ in question.flags] == [
        "--time-format '%d/%m/%Y'",
        "--time-format '%m/%d/%Y'",
    ]
    answered = decide(roles.profile, with_flags(Answers(), question.flags[1][0]))
    assert answered.time is not None
    assert answered.time.format == "%m/%d/%Y"


def test_several_currencies_are_asked_unless_there_is_a_rate() -> None:
    columns = dict(payments())
    columns["currency"] = ["EUR", "JPY"] * (len(columns["amount"]) // 2)
    roles = decide(profile(columns), Answers())
    assert [q.about for q in roles.questions] == ["currency"]
    columns["rate_to_eur"] = ["1.0", "0.0062"] * (len(columns["amount"]) // 2)
    roles = decide(profile(columns), Answers())
    assert not roles.questions
    assert roles.amount is not None
    assert roles.amount.rate_column == "rate_to_eur"


def test_a_later_time_is_left_out_and_an_earlier_one_is_an_attribute() -> None:
    columns = dict(payments())
    columns["account_opened"] = ["2019-05-03"] * 1_500 + ["2021-02-01"] * 1_500
    columns["settled_at"] = [f"2024-12-{1 + n % 28:02d}" for n in range(3_000)]
    roles = decide(profile(columns), Answers())
    assert roles.time is not None
    assert roles.time.columns == ("created",)
    assert "account_opened" in {c for t in roles.time_attributes.values() for c in t.columns}
    assert roles.left_out["settled_at"].startswith("known too late")


def test_words_for_nothing_are_no_values() -> None:
    columns = dict(payments())
    columns["device_id"] = ["NULL" if n % 3 else f"d{n % 50}" for n in range(3_000)]
    found = decide(profile(columns), Answers()).profile.columns["device_id"]
    assert found.nothing == {"NULL": 2_000}
    assert found.distinct == 50


def test_one_value_that_comes_twice_is_seen() -> None:
    values = [f"C{n}" for n in range(30_000)]
    values[29_000] = values[17]
    assert not profile({"a": values}).columns["a"].unique


def test_the_sketch_counts_far_more_values_than_it_keeps() -> None:
    table = profile(
        {"a": [str(n) for n in range(40_000)], "b": [str(n // 2) for n in range(40_000)]}
    )
    assert table.columns["a"].unique
    assert not table.columns["b"].unique
    assert abs(table.columns["b"].distinct - 20_000) < 600
    assert all(later > earlier for earlier, later in pairwise(table.sample_rows.tolist()))


def test_a_mark_of_something_else_is_not_taken_for_fraud() -> None:
    columns = {k: v for k, v in payments().items() if k not in ("is_fraud", "case_opened")}
    columns["gift"] = payments()["is_fraud"]
    roles = decide(profile(columns), Answers())
    (question,) = roles.questions
    assert [flag for flag, _ in question.flags] == ["--label gift", "--label none"]
    assert decide(profile(columns), Answers(label="none")).label is None


def test_what_a_model_said_is_not_taken_for_the_truth() -> None:
    columns = {k: v for k, v in payments().items() if k not in ("is_fraud", "case_opened")}
    columns["y_pred"] = ["1" if n % 9 == 0 else "0" for n in range(len(columns["amount"]))]
    columns["y_pred_proba"] = [f"0.{n % 97:02}" for n in range(len(columns["amount"]))]
    roles = decide(profile(columns), Answers())
    assert roles.label is None
    assert any("By name 'y_pred', 'y_pred_proba' hold what a model said" in n for n in roles.notes)
    columns["repaid"] = ["1" if n % 2 else "0" for n in range(len(columns["amount"]))]
    assert any("('repaid' might" in note for note in decide(profile(columns), Answers()).notes)
    told = decide(profile(columns), Answers(label="y_pred", use=("y_pred_proba",)))
    assert told.label is not None
    assert told.label.column == "y_pred"
    assert not any("what a model said" in note for note in told.notes)


def test_two_columns_called_amount_are_asked() -> None:
    columns = dict(payments())
    columns["amount_2"] = [f"{float(value) * 1.1:.2f}" for value in columns["amount"]]
    (question,) = decide(profile(columns), Answers()).questions
    assert [flag for flag, _ in question.flags][:2] == ["--amount amount", "--amount amount_2"]


def test_security_codes_and_pins_are_left_out_with_the_reason() -> None:
    columns = payments()
    rows = len(columns["amount"])
    columns = columns | {"cvv": ["123"] * rows, "Card PIN": [str(n) for n in range(rows)]}
    roles = decide(profile(columns), Answers())
    assert roles.left_out["cvv"].startswith("holds a security code of a card by its name")
    assert roles.left_out["Card PIN"].startswith("holds a PIN by its name")
    assert {"cvv", "Card PIN"}.isdisjoint(a.column for a in roles.attributes)
    with pytest.raises(ConfigurationError, match="must not be stored"):
        decide(profile(columns), Answers(id=("Card PIN",)))


def test_ids_that_look_like_cards_by_chance_are_proposed_as_exempt(tmp_path: Path) -> None:
    columns = dict(payments())
    rows = len(columns["amount"])
    columns["payment_ref"] = [str(4 * 10**15 + 37 * n) for n in range(rows)]
    roles = decide(profile(columns), Answers())
    assert roles.id is not None
    assert (roles.id.columns, roles.id.tokenize) == (("payment_ref",), False)
    proposal = propose([write(tmp_path / "payments.csv", columns)], tmp_path / "w")
    assert load_mapping(proposal.mapping).attributes.exempt == ("payment_ref",)


def test_fractions_with_the_digits_of_card_numbers_are_numbers() -> None:
    columns = dict(payments())
    # 2530102014541626 and 2264721632003784 are card numbers by prefix, length and check digit.
    columns["score_x"] = ["2.530102014541626", "-2.264721632003784", "0.25"] * 1_000
    columns["score_y"] = ["2530102014541626", "2264721632003784", "0.25"] * 1_000
    roles = decide(profile(columns), Answers())
    assert "score_x" in {a.column for a in roles.attributes}
    assert "card numbers" in roles.left_out["score_y"]


def test_a_table_with_more_columns_than_a_public_set_is_another_one() -> None:
    rng = np.random.default_rng(2)
    columns = {f"V{n}": [f"{x:.6f}" for x in rng.normal(0, 1, 900)] for n in range(1, 41)}
    columns["Time"] = [str(n * 60) for n in range(900)]
    columns["Amount"] = [f"{x:.2f}" for x in rng.lognormal(3, 1, 900)]
    columns["Class"] = [str(int(n % 50 == 7)) for n in range(900)]
    assert not decide(profile(columns), Answers()).known
    few = {
        name: values for name, values in columns.items() if name[1:] not in map(str, range(29, 41))
    }
    assert decide(profile(few), Answers()).known == "ULB (creditcard.csv)"


def test_a_balance_with_a_decimal_comma_is_no_customer_and_is_a_number() -> None:
    rng = np.random.default_rng(6)
    rows = 2_000
    cents = np.round(rng.lognormal(3, 1, rows), 2)
    columns: dict[str, list[str | None]] = {
        "Belegnr": [f"B{n:06d}" for n in range(rows)],
        "Buchungsdatum": [
            f"{1 + n // 100:02d}.03.2024 {n // 60 % 24:02d}:{n % 60:02d}" for n in range(rows)
        ],
        "Betrag": [f"{c:.2f}".replace(".", ",") for c in cents],
        "Kontonummer": [f"DE{n:06d}" for n in rng.integers(0, 90, rows).tolist()],
        "Saldo": [f"{900 - c:.2f}".replace(".", ",") for c in cents],
        "Betrugsfall": ["ja" if n % 40 == 0 else "nein" for n in range(rows)],
        "Gemeldet am": ["30.05.2024" if n % 40 == 0 else None for n in range(rows)],
    }
    roles = decide(profile(columns), Answers())
    assert entities(roles) == {"customer_id": ("Kontonummer",)}
    (balance,) = [one for one in roles.attributes if one.column == "Saldo"]
    assert (balance.kind, roles.decimal, roles.thousands) == ("number", ",", "")
    # Beside numbers with a point it cannot be read: a mapping has one decimal point.
    columns["Gewicht"] = [f"{n % 7}.25" for n in range(rows)]
    mixed = decide(profile(columns), Answers())
    assert "decimal comma" in mixed.left_out["Saldo"]
    assert mixed.decimal == "."
    assert roles.label is not None
    assert roles.label.arrival is not None
    assert roles.label.arrival.columns == ("Gemeldet am",)


def test_an_estimated_number_of_values_is_said_to_be_about_right() -> None:
    rng = np.random.default_rng(7)
    rows = 60_000
    cards = rng.integers(0, 20_000, rows).tolist()
    columns = {
        "id": [f"p{n}" for n in range(rows)],
        "created": [f"2024-01-{1 + n // 3_000:02d}T{n // 60 % 24:02d}:00:00" for n in range(rows)],
        "amount": ["1.50", "2.25"] * (rows // 2),
        "card": [f"c{n}" for n in cards],
        "merchant": [f"m{n % 90}" for n in range(rows)],
    }
    said = {e.entity: e.reason for e in decide(profile(columns), Answers()).entities}
    assert re.search(r"about \d\d,\d00 values", said["card_id"])
    assert "; 90 values" in said["merchant_id"]
