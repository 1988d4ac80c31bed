"""Card numbers, secrets and control characters come in by no door, and all doors agree."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentinel.api.body import parse
from sentinel.api.routes.labels import LabelsRequest, labels_of
from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment
from sentinel.domain import InvalidQuery, InvalidTransaction
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.ingest.card_columns import ColumnJudge
from sentinel.ingest.cards import holds_card_number, masked
from sentinel.ingest.guard import Guard
from sentinel.ingest.names import secret_of
from sentinel.ingest.tokens import TokenRules
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.retrieval.entity_frame import rows_as_of
from sentinel.sources.base import Chunk, transaction_schema
from sentinel.sources.validate import check_transactions
from testkit.disguises import Disguise, disguises
from tests.ingest.nasty import text

NOW_US = 1_700_000_000_000_000
READING = ReadingRules(categories=frozenset({"note"}))
PLAN = Plan(views=(), request=(RequestFeature("note", "category", "note"),))
DISGUISES = disguises(1_000)
LABELS = msgspec.json.Decoder(LabelsRequest)
CONTROLS = [
    *(chr(c) for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)) == "Cc"),
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
]


def live(reading: ReadingRules = READING, /, **changes: Any) -> dict[str, str]:
    """The fields that the API names as wrong."""
    body = {"transaction_id": "t1", "amount_minor": 100, **changes}
    try:
        read_payment(json.dumps(body).encode(), NOW_US, reading)
    except InvalidTransaction as error:
        return dict(error.fields)
    return {}


def label(**changes: Any) -> dict[str, str]:
    """The fields of a label that the API names as wrong."""
    one = {"transaction_id": "t1", "verdict": "fraud", **changes}
    body = json.dumps({"labels": [one]}).encode()
    try:
        labels_of(parse(LABELS, body).labels, NOW_US, Guard())
    except InvalidTransaction as error:
        return dict(error.fields)
    return {}


def imported(note: Any = None, **changes: Any) -> dict[str, int]:
    """The codes under which an import rejects a payment of its own."""
    row = {"transaction_id": "t1", "event_time_us": NOW_US, "amount_minor": 100, **changes}
    schema = transaction_schema({"note": "number" if isinstance(note, float) else "category"})
    rows = pa.RecordBatch.from_pylist(
        [dict.fromkeys(schema.names) | row | {"attributes.note": note}], schema
    )
    return check_transactions(
        Chunk("table", np.arange(1, 2), rows, kind=KIND_TRANSACTION), now_us=NOW_US
    ).counts()


def framed(column: str, value: Any) -> str:
    """What Feast is told of an entity frame; empty if it is taken."""
    frame = pd.DataFrame({"event_timestamp": [pd.Timestamp(0, tz="UTC")], column: [value]})
    try:
        rows_as_of(frame, "event_timestamp", [], PLAN)
    except InvalidQuery as error:
        return str(error)
    return ""


def test_a_thousand_disguises_are_refused_live() -> None:
    for disguise in DISGUISES:
        value = disguise.value
        said = live(attributes={"note": value})
        assert said.keys() == {"attributes.note"}, disguise
        assert disguise.number not in str(said)
        if len(str(value).strip()) <= 128:
            for field in ("transaction_id", "card_id", "ip_address"):
                assert live(**{field: value}).keys() == {field}, disguise
            assert label(label_id=value).keys() == {"labels[0].label_id"}, disguise
            assert label(transaction_id=value).keys() == {"labels[0].transaction_id"}, disguise
            (name,) = live(attributes={str(value): "x"})
            assert disguise.number not in name, disguise
        if len(str(value)) <= 64:
            assert label(origin=str(value)).keys() == {"labels[0].origin"}, disguise


def test_a_thousand_disguises_are_refused_in_columns() -> None:
    values = [str(disguise.value) for disguise in DISGUISES]
    assert ColumnJudge().judge(pa.array(values)).all()
    for disguise in DISGUISES[::20]:
        value = str(disguise.value).strip()
        assert imported(value) == imported(merchant_id=value) == {"card_number": 1}, disguise
        assert "card number" in framed("attributes.note", value), disguise
        assert "card number" in framed("card_id", value), disguise


def test_masks_leave_six_and_four_digits_of_every_disguise() -> None:
    for disguise in DISGUISES:
        shown = masked(f"before {disguise.value} behind")
        digits = "".join(str(unicodedata.digit(c)) for c in shown if c.isdigit())
        assert disguise.number not in digits, disguise
        assert shown.startswith("before ")
        assert shown.endswith(" behind")


HONEST = [
    *("550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e"),
    *("1700000000", "1700000000000", "1700000000000000", "1700000000000000000"),
    *("2024-03-01T10:15:30.123456Z", "2024-03-01 10:15:30", "20240301101530123"),
    *("+49 1511 2345678", "+4915112345678", "+1 (555) 010-9999", "192.168.100.200"),
    *("41111111111111111111", "4111111111111112", "0.4111111111111111", "AT611904300234573201"),
    *("tok1_" + "A" * 43, "DE89 3704 0044 0532 0130 00", "507f1f77bcf86cd799439011"),
]


@pytest.mark.parametrize("value", HONEST)
def test_what_is_no_card_number_comes_in(value: str) -> None:
    assert not live(attributes={"note": value}, customer_id=value)
    assert not imported(value, customer_id=value)
    assert not framed("attributes.note", value)
    assert masked(value) == value


@settings(max_examples=60, deadline=None)
@given(text | st.sampled_from(DISGUISES).map(lambda d: str(d.value)) | st.sampled_from(HONEST))
@example("a\nb")
@example("x\u202ey")
@example("a\u2028b")
@example("inf")
@example("-inf")
@example("Finf")
def test_live_imports_and_frames_refuse_the_same(value: str) -> None:
    note = value[:1_000]
    refused = bool(live(attributes={"note": note}))
    as_imported = imported(pa.array([note]).to_pylist()[0].strip() or None)
    assert refused == bool(as_imported), as_imported
    assert refused == bool(framed("attributes.note", note))
    key = value[:128].strip()
    if key:
        refused = bool(live(customer_id=key))
        assert refused == bool(framed("customer_id", key))


@settings(max_examples=60, deadline=None)
@given(st.integers(10**12, 2**53 - 1) | st.sampled_from(DISGUISES).map(lambda d: int(d.number)))
def test_numbers_are_refused_alike(value: int) -> None:
    reading = ReadingRules(numbers=frozenset({"note"}))
    if value < 2**53:
        assert bool(live(reading, attributes={"note": value})) == bool(imported(float(value)))
    assert bool(live(reading, attributes={"note": value})) == holds_card_number(str(value))
    assert bool(live(reading, attributes={"note": str(value)})) == holds_card_number(str(value))


FORBIDDEN = (
    *("cvv", "CVV", "cvv2", "cvc", "cvc2", "cav2", "card_cvv", "cvvCode", "cardCvv2", "CVC-2"),
    *("c.v.v", "security_code", "cardSecurityCode", "card_verification_value", "card cid", "csc"),
    *("pin", "PIN", "pin_block", "pinBlock", "card_pin", "customerPin", "pin_code", "pin_number"),
    *("track1", "track_2", "Track2Data", "track2_equivalent_data", "track_data", "trackData"),
    *(
        "magstripe",
        "mag_stripe",
        "magnetic_stripe_data",
        "encrypted_pin_block",
        "cvv_hash",
        "ｃｖｖ",
    ),
)
ALLOWED = (
    *("cvv_match", "cvv_result", "cvv_provided", "cvvResultCode", "cvc_check", "has_cvv"),
    *("is_cvv_present", "avs_response", "pin_entry", "pin_entry_mode", "entry_mode", "pin_tries"),
    *("spinning", "shipping", "zip", "opinion", "map_pin", "pinned", "tracking_number", "track"),
    *("magstripe_fallback", "cid", "customer_cid", "discovery", "cvr", "cavv", "authentication"),
)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_security_codes_pins_and_tracks_are_refused_by_name(name: str) -> None:
    for value in ("123", 123, True, "tok1_" + "A" * 43):
        said = live(attributes={name: value})
        assert list(said) == [f"attributes.{name}"]
        assert "must not be stored" in said[f"attributes.{name}"]
        assert "123" not in str(said)
    said = live(**{name: "987"})
    assert "must not be stored" in said[name]
    assert "987" not in str(said)
    for column in (name, f"attributes.{name}"):
        assert "must not be stored" in framed(column, "123")


@pytest.mark.parametrize("name", ALLOWED)
def test_what_only_tells_of_a_secret_comes_in(name: str) -> None:
    assert secret_of(name) is None
    assert not live(attributes={name: "pin", "entry_mode": "pin"})
    assert not framed(f"attributes.{name}", "Y")


@pytest.mark.parametrize("control", CONTROLS, ids=lambda c: f"U+{ord(c):04X}")
def test_control_characters_are_refused_everywhere(control: str) -> None:
    value = f"a{control}b"
    for field in ("transaction_id", "customer_id", "ip_address"):
        assert "control character" in live(**{field: value})[field]
    assert "control character" in live(attributes={"note": value})["attributes.note"]
    assert "control character" in str(live(attributes={value: "x"}))
    for field in ("transaction_id", "label_id", "origin"):
        assert "control character" in label(**{field: value})[f"labels[0].{field}"]
    assert imported(value) == imported(card_id=value) == {"control_character": 1}
    assert "control character" in framed("attributes.note", value)
    assert "control character" in framed("card_id", value)


def test_no_other_character_is_refused() -> None:
    others = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cf", "Zl", "Zp", "Zs", "Mn", "So")
        and chr(code) not in CONTROLS
    ]
    for start in range(0, len(others), 450):
        note = "a" + "b".join(others[start : start + 450]) + "c"
        assert not live(attributes={"note": note})
        assert not imported(note)
    for value in ("👩\u200d👧", "\u200fمتجر", "नमस्\u200dते"):
        assert not live(customer_id=value, attributes={value: value})


def test_a_field_that_is_exempt_is_named_by_the_refusal() -> None:
    said = live(merchant_id="4111111111111111", attributes={"ref": "4111111111111111"})
    assert "add merchant_id to SENTINEL_TOKENS__EXEMPT" in said["merchant_id"]
    assert "add attributes.ref to SENTINEL_TOKENS__EXEMPT" in said["attributes.ref"]
    exempt = ReadingRules(guard=Guard(TokenRules(exempt=("merchant_id", "attributes.ref"))))
    assert not live(exempt, merchant_id="4111111111111111", attributes={"ref": "4111111111111111"})


@pytest.mark.parametrize("first", [10**15, 4 * 10**15, 62 * 10**17, 49 * 10**11])
def test_a_column_of_references_loses_no_row_and_one_of_cards_all(first: int) -> None:
    rng = np.random.default_rng(3)
    for rows in (20, 1_000, 50_000):
        ids = pa.array((first + rng.integers(0, first // 10, rows)).astype(str))
        judge = ColumnJudge()
        assert not judge.judge(ids).any()
    cards = pa.array([d.number for d in DISGUISES])
    judge = ColumnJudge()
    assert judge.judge(cards).all()
    assert not judge.by_chance


def test_disguises_are_of_many_kinds() -> None:
    assert len(DISGUISES) == 1_000
    assert len({d.rule for d in DISGUISES}) > 300
    assert len({d.number[:2] for d in DISGUISES}) > 30
    assert isinstance(DISGUISES[0], Disguise)
