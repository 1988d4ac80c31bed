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


def _with_parameters(client: httpx.Client) -> list[tuple[str, str]]:
    """Method and path of every route that FastAPI answers and that declares parameters."""
    declared = client.get("/openapi.json").json()["paths"]
    return [
        (method.upper(), path.replace("{name}", "nobody"))
        for path, methods in declared.items()
        for method, about in methods.items()
        if any(one["in"] == "query" for one in about.get("parameters", ()))
        and not path.startswith("/predict")
    ]


def test_a_parameter_that_a_route_does_not_have_is_refused_by_name(client: httpx.Client) -> None:
    """A misspelt filter was ignored, and everything came."""
    routes = _with_parameters(client)
    assert {("GET", "/decisions"), ("GET", "/policy/history")} <= set(routes)
    for method, path in routes:
        answer = client.request(method, path, params={"lmit": "3", "moast": "3"})
        assert answer.status_code == 422, (method, path, answer.text)
        named = {error["field"]: error["message"] for error in answer.json()["errors"]}
        assert named.keys() == {"lmit", "moast"}, (method, path)
        assert all("is not a parameter here; " in message for message in named.values())
    for asked, meant in (("outcom", "outcome"), ("card-id", "card_id"), ("Limit", "limit")):
        answer = client.get("/decisions", params={asked: "approve"})
        assert answer.status_code == 422
        assert (
            f"{asked}: is not a parameter here; did you mean {meant!r}?"
            in (answer.json()["detail"])
        )
    # What reads no parameters has none to misspell.
    assert client.get("/health", params={"at": "now"}).status_code == 200
    assert client.get("/livez", params={"at": "now"}).status_code == 200
    assert client.get("/decisions", params={"outcome": "approve", "limit": 3}).status_code == 200
