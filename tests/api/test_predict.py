"""`POST /predict` and what it promises."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import islice
from typing import Any

import httpx
import pytest

from sentinel.api.large import LARGE_BYTES
from testkit.payments import payments
from testkit.scratch import Server
from tests.api.conftest import payment


def test_a_payment_gets_a_decision_with_reasons_in_words(client: httpx.Client) -> None:
    body = payment(transaction_id=2987000)
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200
    decision = answer.json()
    assert decision["transaction_id"] == 2987000
    assert decision["status"] == "Success"
    assert decision["decision"] in ("approve", "review", "decline")
    assert isinstance(decision["is_fraud"], bool)
    assert 0 < decision["fraud_probability"] < 1
    assert (decision["model_name"], decision["model_version"]) == ("scratch", "1")
    assert decision["latency_ms"] >= 0
    assert len(decision["reasons"]) == 4
    contributions = [reason["contribution"] for reason in decision["reasons"]]
    assert contributions == sorted(contributions, reverse=True)
    assert all(reason["words"] and reason["feature"] for reason in decision["reasons"])


def test_a_known_transaction_answers_with_four_keys_and_the_model_in_a_header(
    client: httpx.Client,
) -> None:
    made = client.post("/predict", json=payment(transaction_id="2987001")).json()
    answer = client.get("/predict/2987001")
    assert answer.status_code == 200
    assert answer.json() == {
        "transaction_id": 2987001,
        "is_fraud": made["is_fraud"],
        "fraud_probability": made["fraud_probability"],
        "status": "Success",
    }
    assert answer.headers["Sentinel-Model-Version"] == "1"


def test_an_unknown_transaction_is_a_404_problem(client: httpx.Client) -> None:
    answer = client.get("/predict/nobody-knows")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "unknown_transaction"


def test_a_repeat_gets_the_recorded_decision_and_changes_nothing(client: httpx.Client) -> None:
    body = payment(card_id="K-repeat", event_time="2026-01-05T10:00:00Z")
    first = client.post("/predict", json=body)
    again = client.post("/predict", content=json.dumps(body, indent=3))
    assert again.content == first.content
    read = {"rows": [{"card_id": "K-repeat"}], "now_us": 1767607200000000}
    features = client.post("/features/read", json={**read, "features": ["card_count_1h"]}).json()
    assert features["rows"] == [[1.0]]


def test_a_repeat_is_the_same_to_the_byte_after_the_index_has_taken_it_over(
    client: httpx.Client,
) -> None:
    bodies = [payment(), *islice(payments(5, prefix="bytes"), 60)]
    bodies += [
        payment(amount_minor=0, card_id="K-zero"),
        payment(amount_minor=-5, card_id="K-zero"),
    ]
    first = [client.post("/predict", json=body).content for body in bodies]
    _wait_until_indexed(client)
    time.sleep(1.2)  # the recorded answers have left the scorer's memory by now
    assert [client.post("/predict", json=body).content for body in bodies] == first


def test_the_same_id_with_another_body_is_a_conflict(client: httpx.Client) -> None:
    body = payment()
    client.post("/predict", json=body)
    answer = client.post("/predict", json={**body, "amount_minor": 5000})
    assert answer.status_code == 409
    assert answer.json()["code"] == "transaction_conflict"


def test_concurrent_repeats_get_one_decision(server: Server) -> None:
    bodies = [payment(card_id=f"K-race-{i}", event_time="2026-01-05T10:00:00Z") for i in range(5)]

    async def race() -> list[list[bytes]]:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as connection:
            groups = [
                asyncio.gather(*(connection.post("/predict", json=body) for _ in range(8)))
                for body in bodies
            ]
            return [[answer.content for answer in await group] for group in groups]

    for answers in asyncio.run(race()):
        assert len(set(answers)) == 1
    rows = [{"card_id": f"K-race-{i}"} for i in range(5)]
    read = {"rows": rows, "now_us": 1767607200000000, "features": ["card_count_1h"]}
    counts = httpx.post(f"{server.url}/features/read", json=read, timeout=60).json()["rows"]
    assert counts == [[1.0]] * 5


def test_features_see_what_came_before_and_never_the_payment_itself(client: httpx.Client) -> None:
    moment = "2026-02-01T12:00:00Z"
    read: dict[str, Any] = {
        "rows": [{"card_id": "K-order"}],
        "features": ["card_count_1h", "card_amount_sum_1h"],
        "now_us": 1769947200000000,
    }
    assert client.post("/features/read", json=read).json()["rows"] == [[0.0, 0.0]]
    for amount in (100, 250):
        client.post(
            "/predict", json=payment(card_id="K-order", amount_minor=amount, event_time=moment)
        )
    assert client.post("/features/read", json=read).json()["rows"] == [[2.0, 350.0]]


def test_windows_decay_although_nothing_arrives(client: httpx.Client) -> None:
    client.post("/predict", json=payment(card_id="K-decay", event_time="2026-02-01T12:00:00Z"))
    read = {"rows": [{"card_id": "K-decay"}], "features": ["card_count_1h"]}
    hour = 3_600_000_000
    at = 1769947200000000
    soon = client.post("/features/read", json={**read, "now_us": at + hour // 2}).json()
    late = client.post("/features/read", json={**read, "now_us": at + 2 * hour}).json()
    assert (soon["rows"], late["rows"]) == ([[1.0]], [[0.0]])


def test_a_dry_run_scores_and_leaves_no_trace(client: httpx.Client) -> None:
    body = payment(card_id="K-dry", event_time="2026-02-01T12:00:00Z")
    dry = client.post("/predict?dry_run=true", json=body)
    assert dry.status_code == 200
    assert client.get(f"/predict/{body['transaction_id']}").status_code == 404
    read = {
        "rows": [{"card_id": "K-dry"}],
        "features": ["card_count_1h"],
        "now_us": 1769947200000000,
    }
    assert client.post("/features/read", json=read).json()["rows"] == [[0.0]]
    wet = client.post("/predict", json=body).json()
    assert wet["fraud_probability"] == dry.json()["fraud_probability"]


def test_a_batch_is_answered_in_order_with_conflicts_in_their_places(client: httpx.Client) -> None:
    known = payment()
    client.post("/predict", json=known)
    rows = [payment(), {**known, "amount_minor": 1}, payment(), known]
    results = client.post("/predict/batch", json={"transactions": rows}).json()["results"]
    assert [row["status"] for row in results] == ["Success", "Conflict", "Success", "Success"]
    assert [row["transaction_id"] for row in results] == [row["transaction_id"] for row in rows]
    assert results[0]["answer"]["decision"] in ("approve", "review", "decline")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"transaction_id": ...}, "transaction_id"),
        ({"transaction_id": ""}, "transaction_id"),
        ({"transaction_id": "4111 1111 1111 1111"}, "transaction_id"),
        ({"card_id": "4111111111111111"}, "card_id"),
        ({"card_id": 4111111111111111}, "card_id"),
        ({"card_id": "a\u001fb"}, "card_id"),
        ({"amount_minor": "12"}, "amount_minor"),
        ({"amount_minor": 10**12 + 1}, "amount_minor"),
        ({"amount_minor": 1.5}, "amount_minor"),
        ({"event_time": "yesterday"}, "event_time"),
        ({"event_time": "2026-01-01T00:00:00"}, "event_time"),
        ({"event_time": "2200-01-01T00:00:00Z"}, "event_time"),
        ({"event_time": "1969-12-31T23:59:59Z"}, "event_time"),
        ({"amount": 12}, "amount"),
        ({"customer_id": "x" * 129}, "customer_id"),
        ({"attributes": {"x": "y" * 1001}}, "attributes.x"),
    ],
)
def test_an_invalid_body_is_a_422_that_names_the_field(
    client: httpx.Client, changes: dict[str, Any], field: str
) -> None:
    answer = client.post("/predict", json=payment(**changes))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in answer.json()["errors"]]


def test_every_offending_field_is_named_at_once(client: httpx.Client) -> None:
    body = payment(amount_minor="x", event_time="y", transaction_id=..., colour="red")
    errors = {error["field"] for error in client.post("/predict", json=body).json()["errors"]}
    assert errors == {"amount_minor", "event_time", "transaction_id", "colour"}


def test_what_is_not_json_is_a_400(client: httpx.Client) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"[" * 5000):
        answer = client.post("/predict", content=content)
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_too_large_is_a_413(client: httpx.Client) -> None:
    answer = client.post("/predict", content=b" " * 1_000_001)
    assert answer.status_code == 413


def test_the_wrong_method_is_a_405_that_names_the_right_one(client: httpx.Client) -> None:
    answer = client.get("/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_zero_and_refunds_are_legal_amounts(client: httpx.Client) -> None:
    for amount in (0, -2500, 10**12, -(10**12)):
        assert client.post("/predict", json=payment(amount_minor=amount)).status_code == 200


@pytest.mark.parametrize("odd", [{}, {"customer_id": 42}], ids=["usual", "read with care"])
def test_attributes_that_no_feature_reads_are_named(
    client: httpx.Client, odd: dict[str, Any]
) -> None:
    name = f"gift_note_{len(odd)}"
    attributes = {"channel": "online", name: "happy birthday"}
    assert client.post("/predict", json=payment(attributes=attributes, **odd)).status_code == 200
    unused = client.get("/health").json()["feature_store"]["unused_attributes"]
    assert name in unused
    assert "channel" not in unused


def _wait_until_indexed(client: httpx.Client, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ledger = client.get("/health").json()["ledger"]
        if ledger["indexed_through"] >= ledger["sequence"]:
            return
        time.sleep(0.05)
    raise AssertionError("the index did not catch up")


def test_a_large_batch_is_answered_in_its_order_and_once(client: httpx.Client) -> None:
    """It is read in a thread, unlike a small one, and gets what its payments get one by one."""
    rows = list(islice(payments(77, prefix="large"), 1_200))
    assert len(json.dumps(rows)) > LARGE_BYTES
    rows.insert(700, rows[3])  # a repeat, and one whose id stands for another payment
    rows.append({**rows[5], "amount_minor": rows[5]["amount_minor"] + 1})
    results = client.post("/predict/batch", json={"transactions": rows}).json()["results"]
    assert [r["transaction_id"] for r in results] == [r["transaction_id"] for r in rows]
    assert [r["status"] for r in results] == ["Success"] * 1_201 + ["Conflict"]
    assert results[700]["answer"] == results[3]["answer"]
    again = client.post("/predict", json=rows[8]).json()
    assert again == results[8]["answer"]
    rows[600] = {**rows[600], "transaction_id": "large-bad", "amount_minor": "much"}
    refused = client.post("/predict/batch", json={"transactions": rows})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "transactions[600].amount_minor"


def test_many_labels_are_recorded_in_their_order(client: httpx.Client) -> None:
    rows = [
        {"transaction_id": f"many-{i}", "verdict": "fraud", "label_id": f"many-label-{i}"}
        for i in range(2_000)
    ]
    assert len(json.dumps(rows)) > LARGE_BYTES
    receipts = client.post("/labels", json={"labels": rows}).json()["labels"]
    assert [r["label_id"] for r in receipts] == [r["label_id"] for r in rows]
    assert not any(r["repeated"] or r["known_transaction"] for r in receipts)
    rows[1_500]["verdict"] = "perhaps"
    refused = client.post("/labels", json={"labels": rows})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "labels[1500].verdict"
