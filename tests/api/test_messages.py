"""The quick reader of payments and the careful one say the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel.api.body import parse
from sentinel.api.problems import ProblemError
from sentinel.api.routes.payment_bodies import (
    BatchRequest,
    PredictRequest,
    ReadingRules,
    transaction_of,
)
from sentinel.api.routes.payment_reading import read_payment, read_payments
from sentinel.domain import InvalidTransaction, SentinelError, Transaction

RECEIVED_US = 1_780_000_000_000_000
READING = ReadingRules(numbers=frozenset({"age", "risk"}), categories=frozenset({"mcc", "channel"}))

ids = st.one_of(
    st.none(),
    st.integers(-1, 2**64),
    st.text(max_size=20),
    st.sampled_from(
        [
            *("C42", "4111111111111111", "4111 1111 1111 1111", "pan=4111111111111111", ""),
            *("x" * 128, "x" * 129, "a\x1fb", " c-1 ", "a  b", "\u3000x", "\u00a0", "a\u200db"),
            *("1001.0", "-0.0", "10.00", "1.5e+20", "1e+18", "7e10", "9007199254740993.0"),
            *("2001:DB8::1", "::ffff:192.0.2.1", "203.0.113.9", "10.0", "1.2.3.4 ", "a\u202eb"),
        ]
    ),
)
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.sampled_from([2**53, 2**53 + 1, -(2**53), 10**30, 1e300, 1e-300, -0.0, 0.1, 12]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(["y" * 1000, "y" * 1001, " a", "5411.0", "TRUE", "", "nan", "1e5", "\x00"]),
    st.sampled_from(["paid with 4111111111111111", 4111111111111111, 4111111111111111.0, 1e13]),
    st.lists(st.integers(), max_size=1),
)
names = st.one_of(
    st.sampled_from(["channel", "mcc", "age", "risk", "", "n" * 128, "n" * 129]),
    st.text(max_size=6),
)
moments = st.one_of(
    st.none(),
    st.datetimes(timezones=st.timezones()).map(lambda t: t.isoformat()),
    st.sampled_from(
        [
            "2026-05-28T20:26:40.000001Z",
            "2026-05-28T20:31:40+00:00",
            "2026-05-28T22:26:39.999999+02:00",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "2026-05-28T20:26:40",
        ]
    ),
)
payments = st.fixed_dictionaries(
    {"transaction_id": ids, "amount_minor": st.integers(-(10**12) - 1, 10**12 + 1)},
    optional={
        "event_time": moments,
        **dict.fromkeys(("customer_id", "card_id", "merchant_id", "device_id", "ip_address"), ids),
        "attributes": st.none() | st.dictionaries(names, values, max_size=6),
        "colour": st.just("red"),
    },
)


def outcome(read: Any) -> Any:
    """What a reader says of a body: transactions, or a problem with its fields."""
    try:
        result = read()
    except ProblemError as error:
        return error.problem
    except SentinelError as error:
        return error.code, error.fields
    return [exact(t) for t in (result if isinstance(result, list) else [result])]


def exact(transaction: Transaction) -> tuple[bytes, str]:
    """Its bytes in the ledger, and its types: 1 and 1.0 are equal, but not the same."""
    return msgspec.msgpack.encode(transaction), repr(transaction)


@given(payments)
@example({"transaction_id": "t", "amount_minor": 1, "attributes": {"age": "x"}})
@example({"transaction_id": "t", "amount_minor": 1, "attributes": {"a": None, "b": True, "c": 2}})
@example({"transaction_id": "t", "amount_minor": 1, "attributes": {str(i): i for i in range(505)}})
def test_a_payment_is_read_alike(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    decoder = msgspec.json.Decoder(PredictRequest)
    quick = outcome(lambda: read_payment(text, RECEIVED_US, READING))
    careful = outcome(lambda: transaction_of(parse(decoder, text), RECEIVED_US, READING))
    assert quick == careful


@given(st.lists(payments, max_size=3))
def test_a_batch_is_read_like_its_payments(bodies: list[dict[str, Any]]) -> None:
    text = json.dumps({"transactions": bodies}).encode()
    batch = outcome(lambda: read_payments(text, RECEIVED_US, READING, 3))
    singles = [
        outcome(lambda body=body: read_payment(json.dumps(body).encode(), RECEIVED_US, READING))
        for body in bodies
    ]
    if bodies and all(isinstance(single, list) for single in singles):
        assert batch == [single[0] for single in singles]
    else:
        assert not isinstance(batch, list)


def test_a_batch_that_is_too_long_says_so() -> None:
    rows = [{"transaction_id": f"t{i}", "amount_minor": 1} for i in range(4)]
    text = json.dumps({"transactions": rows}).encode()
    code, fields = outcome(lambda: read_payments(text, RECEIVED_US, READING, 3))
    assert (code, fields) == ("invalid_transaction", {"transactions": "more than 3"})
    assert len(msgspec.json.decode(text, type=BatchRequest).transactions) == 4


def test_a_payment_may_bring_all_attributes_that_features_read() -> None:
    wide = ReadingRules(numbers=frozenset(f"f_{i}" for i in range(1_500)))
    body: dict[str, Any] = {"transaction_id": "t", "amount_minor": 1}
    body["attributes"] = {f"f_{i}": i for i in range(1_500)} | {f"g_{i}": i for i in range(500)}
    read = read_payment(json.dumps(body).encode(), RECEIVED_US, wide)
    assert len(read.attributes) == 2_000
    body["attributes"]["one more"] = 1
    with pytest.raises(InvalidTransaction) as refused:
        read_payment(json.dumps(body).encode(), RECEIVED_US, wide)
    assert refused.value.fields == {
        "attributes": "are 2,001, and may be 2,000: the 1,500 that features read, and 500 others; "
        "leave out what no feature reads"
    }


def test_foreign_fields_are_all_named_and_the_right_ones_once() -> None:
    body = {"transaction_id": "t1", "amount_minor": 5, "colour": "red", "shop": "s", "cvv": "123"}
    with pytest.raises(InvalidTransaction) as refused:
        read_payment(json.dumps(body).encode(), RECEIVED_US, READING)
    told = refused.value.fields
    assert told["colour"].startswith("is not a field; the fields are transaction_id, amount_minor")
    assert told["colour"].endswith("whatever else is known of it goes into attributes")
    assert told["shop"] == "is not a field"
    assert told.keys() == {"colour", "shop", "cvv"}
    assert "security code" in told["cvv"]
