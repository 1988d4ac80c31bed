"""What may be posted, how it is read, and that it can be asked for again."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest

from sentinel.api.body import parse
from sentinel.api.problems import ProblemError
from sentinel.api.routes.features import FeaturesRequest, keys_of
from sentinel.api.routes.labels import LabelsRequest, labels_of
from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment
from sentinel.domain import InvalidTransaction, Verdict
from sentinel.ingest.guard import Guard
from sentinel.ingest.tokens import TokenRules
from tests.api.conftest import payment

READING = ReadingRules(frozenset({"age"}), frozenset({"present", "mcc"}))


def read(reading: ReadingRules = READING, /, **changes: Any) -> Any:
    body = {"transaction_id": "t1", "amount_minor": 100, **changes}
    return read_payment(json.dumps(body).encode(), time.time_ns() // 1000, reading)


def refused(reading: ReadingRules = READING, /, **changes: Any) -> dict[str, str]:
    with pytest.raises(InvalidTransaction) as error:
        read(reading, **changes)
    return error.value.fields


@pytest.mark.parametrize(
    "name",
    [
        "東京　コーヒー",
        "Café de Paris",
        "super\u00admarkt",
        "\u200fمتجر",
        "👩\u200d👧",
        "a  b",
        "a\u2028b",
    ],
)
def test_names_in_any_script_are_ids(name: str) -> None:
    assert read(merchant_id=name).merchant_id == name


@pytest.mark.parametrize("name", ["a\nb", "a\x00b", "a\x7fb", "a\u202eb", "a\u2066b"])
def test_control_characters_are_refused_by_name(name: str) -> None:
    assert "control character" in refused(merchant_id=name)["merchant_id"]


@pytest.mark.parametrize("body", [rb'"\ud800"', rb'"a\ud800b"', rb'"\udc00x"', rb'"x\ud800\u0041"'])
@pytest.mark.parametrize("field", [b'"customer_id":%b', b'"attributes":{"a":%b}'])
def test_half_characters_are_refused(field: bytes, body: bytes) -> None:
    text = b'{"transaction_id":"t","amount_minor":1,' + field % body + b"}"
    with pytest.raises((InvalidTransaction, ProblemError)):
        read_payment(text, time.time_ns() // 1000, READING)


def test_true_and_false_are_words_unless_the_plan_wants_numbers() -> None:
    for given in (True, "true", "True", " TRUE "):
        attributes = read(attributes={"present": given, "age": given, "other": given}).attributes
        assert attributes == {"present": "true", "age": 1.0, "other": "true"}


def test_values_become_what_the_plan_reads() -> None:
    assert read(attributes={"mcc": 5411}).attributes == {"mcc": "5411"}
    assert read(attributes={"mcc": "5411.0"}).attributes == {"mcc": "5411"}
    assert read(attributes={"mcc": 0.5, "age": " 41 "}).attributes == {"mcc": "0.5", "age": 41.0}
    assert refused(attributes={"age": "old"}) == {"attributes.age": "must be a number"}
    for nothing in ("nan", "NULL", " None", "n/a", ""):
        assert read(attributes={"mcc": "", "age": nothing, "x": None}).attributes == {}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (" c-1 ", "c-1"),
        ("1001.0", "1001"),
        (17, "17"),
        (17.0, "17"),
        (-0.0, "0"),
        ("007", "007"),
        ("C-Ab", "C-Ab"),
    ],
)
def test_ids_are_spelled_as_imports_spell_them(given: str | float, kept: str) -> None:
    assert read(card_id=given, transaction_id=given).card_id == kept


def test_an_address_is_spelled_one_way() -> None:
    spellings = ["2001:DB8::1", "2001:db8:0:0:0:0:0:1", " 2001:db8::1"]
    assert {read(ip_address=text).ip_address for text in spellings} == {"2001:db8::1"}
    spellings = ["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201"]
    assert {read(ip_address=text).ip_address for text in spellings} == {"192.0.2.1"}


@pytest.mark.parametrize("lost", ["1.2345678901234568e+18", "9007199254740993.0", "1.23457E+15"])
def test_ids_that_lost_digits_are_refused(lost: str) -> None:
    assert "lost digits" in refused(customer_id=lost)["customer_id"]


CARDS = ["4111111111111111", "4111 1111 1111 1111", " 4111111111111111", "4111.1111.1111.1111"]


@pytest.mark.parametrize(
    "card", [*CARDS, "pan=4111111111111111", "4111111111111111=29122011000012300000"]
)
def test_a_card_number_is_no_id(card: str) -> None:
    for field in ("card_id", "transaction_id"):
        assert "card number" in refused(**{field: card})[field]


@pytest.mark.parametrize(
    "value",
    [
        *CARDS,
        4111111111111111,
        4111111111111111.0,
        "paid with 5555 5555 5555 4444",
        "x,378282246310005",
    ],
)
def test_a_card_number_is_no_attribute(value: Any) -> None:
    message = refused(attributes={"cc_num": value})["attributes.cc_num"]
    assert "card number" in message
    assert "4111111111111111" not in message
    exempt = ReadingRules(guard=Guard(TokenRules(exempt=("attributes.cc_num",))))
    assert read(exempt, attributes={"cc_num": value}).attributes["cc_num"]


def test_a_nested_attribute_is_named() -> None:
    assert refused(attributes={"geo": {"lat": 1}, "ok": 1}) == {
        "attributes.geo": "must be text, a number, true, false or null, not an object"
    }


def test_a_verdict_may_be_written_large_and_an_unknown_one_says_what_is_allowed() -> None:
    decoder = msgspec.json.Decoder(LabelsRequest)

    def labels(verdict: str, **more: Any) -> Any:
        body = {"labels": [{"transaction_id": " t1", "verdict": verdict, **more}]}
        return labels_of(parse(decoder, json.dumps(body).encode()).labels, 1, Guard())

    (label,) = labels("Fraud")
    assert (label.verdict, label.transaction_id) == (Verdict.FRAUD, "t1")
    with pytest.raises(InvalidTransaction) as error:
        labels("stolen")
    assert error.value.fields == {"labels[0].verdict": "is 'stolen'; allowed: fraud, legitimate"}
    for wrong in ({"label_id": "a\nb"}, {"origin": "a\x1b[2J"}, {"label_id": CARDS[0]}):
        with pytest.raises(InvalidTransaction) as error:
            labels("fraud", **wrong)
        assert list(error.value.fields) == [f"labels[0].{next(iter(wrong))}"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"customer_id": 17.5}, "a whole number, text or null, not a number with decimals"),
        ({"customer_id": True}, "a whole number, text or null, not true or false"),
        ({"merchant_id": "x" * 129}, "text of at most 128 characters"),
        ({"amount_minor": "5"}, "a whole number, not text"),
        ({"event_time": "2024-13-01"}, "a time such as 2024-03-01T12:30:00Z"),
        ({"event_time": 1709287205}, "a time such as 2024-03-01T12:30:00Z or null, not a whole"),
    ],
)
def test_a_field_of_another_kind_says_what_is_allowed(change: dict[str, Any], words: str) -> None:
    (message,) = refused(**change).values()
    assert message.startswith(f"must be {words}")


def test_features_are_asked_for_by_the_same_ids() -> None:
    decoder = msgspec.json.Decoder(FeaturesRequest)

    def keys(*rows: Any) -> Any:
        return keys_of(parse(decoder, json.dumps({"rows": rows}).encode()), Guard())

    assert keys({"card_id": 17}, {"card_id": " 17.0 "}, {"card_id": None}, {"card_id": " "}) == [
        {"card_id": "17"},
        {"card_id": "17"},
        {},
        {},
    ]
    with pytest.raises(InvalidTransaction) as error:
        keys({"card_id": "a"}, {"card_id": 1.5, "device_id": [1]})
    assert error.value.fields == {
        "rows[1].card_id": "must be text, a whole number or null, not a fraction",
        "rows[1].device_id": "must be text, a whole number or null, not a list",
    }


@pytest.fixture(scope="module")
def posted(client: httpx.Client) -> list[str]:
    ids = [
        "INV/2026/001",
        "a?b",
        "a#b",
        "100%",
        "..",
        "/",
        "//x/",
        "👩\u200d👧",
        "batch",
        "a b",
        "x%2Fy",
    ]
    ids = [*ids, "東京　コーヒー", "+", "a;b", "é" * 128, "1.5", "a\\b"]
    rows = [payment(transaction_id=identifier) for identifier in ids]
    answer = client.post("/predict/batch", json={"transactions": rows})
    assert answer.status_code == 200, answer.text
    return ids


def test_whatever_was_posted_can_be_read(client: httpx.Client, posted: list[str]) -> None:
    connection = http.client.HTTPConnection(str(client.base_url.host), client.base_url.port)
    for identifier in posted:
        connection.request("GET", "/predict/" + quote(identifier, safe=""))
        answer = connection.getresponse()
        body = json.loads(answer.read())
        assert (answer.status, str(body.get("transaction_id"))) == (200, identifier)
    connection.close()
    plain = client.get("/predict/INV/2026/001")
    assert plain.json()["transaction_id"] == "INV/2026/001"
    again = client.get("/predict/%20INV%2F2026%2F001%20")
    assert again.json() == plain.json()
