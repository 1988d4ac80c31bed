"""Labels, decisions and the service's own routes."""

from __future__ import annotations

import re
import time

import httpx
import pytest

from sentinel.api.routes.decisions import DecisionRow, DecisionsPage
from tests.api.conftest import payment

MOMENT = "2026-03-01T12:00:00Z"
NOW_US = 1772366400000000
DAY_US = 86_400_000_000


def known_frauds(client: httpx.Client, card: str) -> float:
    read = {
        "rows": [{"card_id": card}],
        "features": ["card_frauds_known_30d"],
        "now_us": NOW_US + DAY_US,
    }
    value: float = client.post("/features/read", json=read).json()["rows"][0][0]
    return value


def test_a_fraud_label_counts_from_its_arrival_and_a_correction_takes_it_back(
    client: httpx.Client,
) -> None:
    body = payment(card_id="K-label", event_time=MOMENT)
    client.post("/predict", json=body)
    assert known_frauds(client, "K-label") == 0
    label = {"transaction_id": body["transaction_id"], "verdict": "fraud"}
    receipt = client.post("/labels", json=label).json()["labels"][0]
    assert (receipt["repeated"], receipt["known_transaction"]) == (False, True)
    assert known_frauds(client, "K-label") == 1
    client.post("/labels", json={**label, "verdict": "legitimate"})
    assert known_frauds(client, "K-label") == 0


def test_a_label_with_an_id_is_idempotent(client: httpx.Client) -> None:
    body = payment(card_id="K-twice", event_time=MOMENT)
    client.post("/predict", json=body)
    label = {"transaction_id": body["transaction_id"], "verdict": "fraud", "label_id": "L-1"}
    client.post("/labels", json=label)
    again = client.post("/labels", json={"labels": [label]}).json()["labels"][0]
    assert again["repeated"] is True
    assert known_frauds(client, "K-twice") == 1
    other = client.post("/labels", json={**label, "verdict": "legitimate"})
    assert other.status_code == 422


def test_a_label_without_an_id_is_stored_again_and_counted_once(client: httpx.Client) -> None:
    body = payment(card_id="K-again", event_time=MOMENT)
    client.post("/predict", json=body)
    label = {"transaction_id": body["transaction_id"], "verdict": "fraud"}
    receipts = [client.post("/labels", json=label).json()["labels"][0] for _ in range(2)]
    assert [one["repeated"] for one in receipts] == [False, False]
    assert receipts[0]["label_id"] != receipts[1]["label_id"]
    assert known_frauds(client, "K-again") == 1
    client.post("/labels", json={**label, "verdict": "legitimate"})
    assert known_frauds(client, "K-again") == 0
    client.post("/labels", json=label)
    assert known_frauds(client, "K-again") == 1, "a verdict may be given again"


def test_a_label_for_an_unknown_transaction_waits_for_it(client: httpx.Client) -> None:
    body = payment(card_id="K-early", event_time=MOMENT)
    label = {"transaction_id": body["transaction_id"], "verdict": "fraud"}
    receipt = client.post("/labels", json=label).json()["labels"][0]
    assert receipt["known_transaction"] is False
    client.post("/predict", json=body)
    assert known_frauds(client, "K-early") == 1


def test_a_label_for_a_void_transaction_is_kept_and_said_to_have_no_effect(
    client: httpx.Client,
) -> None:
    body = payment(card_id="K-void", event_time=MOMENT)
    client.post("/predict", json=body)
    void = {"transaction_ids": [body["transaction_id"]], "reason": "sent twice"}
    assert client.post("/voids", json=void).status_code == 200
    about = f"/decisions/{body['transaction_id']}"
    for _ in range(100):
        if client.get(about).json()["void"] is not None:
            break
        time.sleep(0.1)
    label = {"transaction_id": body["transaction_id"], "verdict": "fraud"}
    receipt = client.post("/labels", json=label).json()["labels"][0]
    assert (receipt["known_transaction"], receipt["void"]) == (True, True)
    assert known_frauds(client, "K-void") == 0


def test_decisions_can_be_filtered_and_paged(client: httpx.Client) -> None:
    bodies = [payment(card_id="K-page") for _ in range(5)]
    for body in bodies:
        client.post("/predict", json=body)
    seen: list[str] = []
    deadline = time.monotonic() + 300
    while len(seen) < 5 and time.monotonic() < deadline:
        seen = []
        before = None
        while True:
            query = f"card_id=K-page&limit=2{f'&before={before}' if before else ''}"
            page = client.get(f"/decisions?{query}").json()
            seen += [row["transaction_id"] for row in page["decisions"]]
            before = page["next_before"]
            if before is None:
                break
        time.sleep(0.05)
    assert seen == [body["transaction_id"] for body in reversed(bodies)]
    assert client.get("/decisions", params={"limit": 0}).status_code == 422
    page = client.get("/decisions", params={"card_id": "K-page"})
    declared = DecisionsPage.model_validate_json(page.content, strict=True)
    assert declared.complete
    assert page.json() == declared.model_dump(mode="json")
    assert list(page.json()["decisions"][0]) == list(DecisionRow.model_fields)


def test_the_service_tells_what_it_is_and_how_it_is(client: httpx.Client) -> None:
    assert "/predict" in client.get("/").json()["routes"]
    assert client.get("/livez").text == client.get("/readyz").text == "ok"
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["model"]["version"] == "1"
    assert health["feature_store"]["features"] >= 40
    outcome = client.post("/predict", json=payment()).json()["decision"]
    metrics = client.get("/metrics").text
    counted = f'sentinel_decisions_total{{experiment="",outcome="{outcome}",role="champion"'
    assert counted in metrics
    assert "sentinel_decision_latency_seconds_bucket" in metrics
    assert client.get("/nowhere").json()["code"] == "not_found"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_the_pages_about_the_api_need_no_internet(client: httpx.Client, page: str) -> None:
    answer = client.get(page)
    assert answer.status_code == 200
    needed = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert len(needed) >= 2
    for url in needed:
        found = client.get(url)
        assert url.startswith("/"), url
        assert found.status_code == 200, url
        assert found.content, url


def test_features_of_unknown_entities_are_no_history_and_unknown_names_are_refused(
    client: httpx.Client,
) -> None:
    read = {
        "rows": [{"card_id": "never-seen"}],
        "features": ["card_count_1h", "card_amount_mean_7d"],
    }
    assert client.post("/features/read", json=read).json()["rows"] == [[0.0, None]]
    read["features"] = ["card_colour"]
    assert client.post("/features/read", json=read).status_code == 422
    assert client.post("/features/read", json={"rows": [{"colour": "red"}]}).status_code == 422
