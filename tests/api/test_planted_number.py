"""A card number that knocks at every door leaves no trace: in no answer, log or file."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from sentinel.telemetry.log_setup import TextFormatter
from testkit.scratch import Server
from tests.api.conftest import payment

NUMBER = "4929123456781236"
SPELLINGS = [NUMBER, "4929 1234 5678 1236", "４９２９１２３４５６７８１２３６"]


def requests() -> list[tuple[str, str, Any]]:
    """Method, path and body of requests that mention the number."""
    found: list[tuple[str, str, Any]] = []
    for said in [*SPELLINGS, int(NUMBER)]:
        found += [
            ("POST", "/predict", payment(**{name: said})) for name in ("card_id", "device_id")
        ]
        found += [("POST", "/predict", payment(attributes={"note": said, str(said): 1}))]
        found += [("POST", "/predict", payment(**{str(said): 1}))]
        found += [("POST", "/predict", payment(event_time=said, amount_minor=said))]
        found += [("POST", "/predict?dry_run=true", payment(merchant_id=said))]
        found += [("POST", "/predict/batch", {"transactions": [payment(transaction_id=said)]})]
        label = {"transaction_id": said, "verdict": "fraud", "label_id": said, "origin": said}
        found += [("POST", "/labels", label), ("POST", "/labels", label | {"verdict": said})]
        found += [("POST", "/labels", {"labels": [label]})]
        found += [("POST", "/features/read", {"rows": [{"card_id": said, str(said): said}]})]
        found += [("POST", "/features/read", {"rows": [{}], "features": [str(said)]})]
        found += [("GET", f"/predict/{said}", None), ("GET", f"/decisions?card_id={said}", None)]
        found += [("GET", f"/decisions?limit={said}", None), ("GET", f"/{said}", None)]
        found += [("POST", f"/predict?dry_run={said}", payment())]
    return found


def test_a_planted_number_is_in_no_answer_log_or_file(server: Server, client: httpx.Client) -> None:
    for method, path, body in requests():
        answer = client.request(
            method,
            path,
            content=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code < 500, (path, body, answer.text)
        assert method == "GET" or answer.status_code in (400, 404, 422), (path, body, answer.text)
        for said in SPELLINGS:
            assert said not in answer.text, (path, body, answer.text)
    metrics = client.get("/metrics").text
    assert not any(said in metrics for said in SPELLINGS)
    for file in server.settings.workspace.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for said in SPELLINGS:
            assert said.encode() not in content, file
    assert server.log in set(server.settings.workspace.rglob("*"))


def test_an_unforeseen_error_is_logged_with_a_mask(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError(f"cannot read {NUMBER}")
    except ValueError:
        logging.getLogger("sentinel").exception("failed for %s", SPELLINGS[1])
    (record,) = caplog.records
    text = TextFormatter().format(record)
    assert "492912******1236" in text
    assert not any(said in text for said in SPELLINGS)


def doubled(body: dict[str, Any], name: str, first: Any) -> bytes:
    """JSON in which a key comes twice: first with one value, then with that of the body."""
    rest = json.dumps(body).removeprefix("{")
    return f"{{{json.dumps(name)}: {json.dumps(first)}, {rest}".encode()


@pytest.mark.parametrize("said", [NUMBER, int(NUMBER), {"note": NUMBER}], ids=repr)
def test_of_a_doubled_key_the_last_value_counts_and_the_first_is_kept_nowhere(
    server: Server, client: httpx.Client, said: Any
) -> None:
    name = "attributes" if isinstance(said, dict) else "card_id"
    for body in (payment(), payment(device_id=17)):  # the second is read the careful way
        sent = client.post("/predict", content=doubled(body, name, said))
        assert sent.status_code == 200, sent.text
        kept = client.get(f"/decisions/{body['transaction_id']}").json()
        assert kept["card_id"] == "K7"
        assert kept["attributes"] == body["attributes"]
    inside = payment(attributes={"channel": "online"})
    text = json.dumps(inside).replace('"channel":', f'"channel": "{NUMBER}", "channel":')
    batch = b'{"transactions": [%b, %b]}' % (text.encode(), doubled(payment(), name, said))
    label = {"transaction_id": inside["transaction_id"], "verdict": "fraud"}
    for path, content in (
        ("/predict/batch", batch),
        ("/labels", doubled(label, "transaction_id", NUMBER)),
        ("/features/read", doubled({"rows": [{"card_id": "K7"}]}, "rows", [{"card_id": NUMBER}])),
    ):
        answer = client.post(path, content=content)
        assert answer.status_code == 200, (path, answer.text)
        assert NUMBER not in answer.text
    for file in server.settings.workspace.rglob("*"):
        assert not file.is_file() or NUMBER.encode() not in file.read_bytes(), file
