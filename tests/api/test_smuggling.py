"""A request that is hidden in another one is neither answered nor recorded."""

from __future__ import annotations

import json
from urllib.parse import quote

import httpx
import pytest

from testkit.scratch import Server
from tests.api.conftest import payment
from tests.api.hidden_requests import CASES, GOODBYE, Case, hidden_payment, post, statuses_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_hidden_is_neither_answered_nor_recorded(
    server: Server, client: httpx.Client, case: Case
) -> None:
    identifier, hidden = hidden_payment(case.name)
    assert statuses_of(server.port, case.make(hidden)) == list(case.statuses)
    assert client.get("/predict/" + quote(identifier, safe="")).status_code == 404


def test_the_hidden_request_would_be_recorded_if_it_were_not_hidden(
    server: Server, client: httpx.Client
) -> None:
    identifier, hidden = hidden_payment("in the open")
    assert statuses_of(server.port, hidden + GOODBYE) == [200, 200]
    assert client.get("/predict/" + quote(identifier, safe="")).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: Upgrade", "Upgrade: h2c"),
        ("Origin: http://localhost",),
        ("X-Forwarded-Host: evil.example",),
    ],
)
def test_what_means_nothing_here_does_not_stand_in_the_way(
    server: Server, fields: tuple[str, ...]
) -> None:
    text = post(json.dumps(payment()).encode(), *fields)
    assert statuses_of(server.port, text + text + GOODBYE) == [200, 200, 200]


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:81", "127.0.0.1", "127.9.9.9", "[::1]:9", "a.localhost."]
)
def test_loopback_has_many_names(server: Server, host: str) -> None:
    text = GOODBYE.replace(b"localhost", host.encode())
    assert statuses_of(server.port, text) == [200]


@pytest.mark.parametrize(
    "kind",
    ["Application/JSON", "application/json;charset=UTF-8", 'application/json; charset="utf-8"'],
)
def test_json_may_say_that_it_is_utf_8(client: httpx.Client, kind: str) -> None:
    answer = client.post("/predict", content=json.dumps(payment()), headers={"content-type": kind})
    assert answer.status_code == 200


def test_a_refusal_says_what_to_do(client: httpx.Client) -> None:
    answer = client.get("/livez", headers={"host": "fraud.example"})
    assert (answer.status_code, answer.headers["connection"]) == (421, "close")
    assert "SENTINEL_API__ALLOWED_HOSTS" in answer.json()["detail"]
    answer = client.post("/predict", content=b"{}", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert "Content-Type: application/json" in answer.json()["detail"]
