"""A card number that knocks at every door leaves no trace: in no answer, log or file."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest

from sentinel.ingest.masked_log import MaskedFormatter
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
    text = MaskedFormatter("%(message)s").format(record)
    assert "492912******1236" in text
    assert not any(said in text for said in SPELLINGS)
