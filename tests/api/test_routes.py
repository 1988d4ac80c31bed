"""The routes as a whole: what they declare, and that every error is the same kind of document."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import httpx

from tests.api.conftest import payment

DECLARED = Path(__file__).with_name("openapi.json")
"""The API as clients know it. A change that is meant is written with
`curl -s localhost:8000/openapi.json | python -m json.tool --indent 1 > tests/api/openapi.json`."""


def test_the_api_declares_what_clients_rely_on(client: httpx.Client) -> None:
    declared = json.loads(DECLARED.read_text())
    declared["info"]["version"] = metadata.version("sentinel-fraud")
    served = client.get("/openapi.json").json()
    assert list(served["paths"]) == list(declared["paths"])
    assert served == declared


def test_every_route_counts_its_errors_and_answers_with_the_same_kind_of_document(
    client: httpx.Client,
) -> None:
    answers = [
        ("/predict", 422, client.post("/predict", json=payment(amount_minor="much"))),
        ("/predict", 405, client.get("/predict")),
        ("/labels", 400, client.post("/labels", content=b"{")),
        ("/decisions", 422, client.get("/decisions", params={"limit": "all"})),
        ("/decisions", 405, client.delete("/decisions")),
        ("/predict/{transaction_id:path}", 404, client.get("/predict/nobody")),
        ("unknown", 404, client.get("/no/such/route")),
    ]
    counted = client.get("/metrics").text
    for route, status, answer in answers:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem.keys() >= {"type", "title", "status", "detail", "code"}
        assert problem["status"] == status
        assert (answer.headers.get("allow") is not None) == (status == 405)
        assert f'sentinel_problems_total{{route="{route}",status="{status}"}}' in counted
