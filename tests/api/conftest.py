"""A real server on a scratch workspace, shared by the tests of the API."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from testkit.scratch import Server, make_workspace, serving

_numbers = count(1)


def payment(**changes: Any) -> dict[str, Any]:
    """The body of a plain payment with an id of its own."""
    body: dict[str, Any] = {
        "transaction_id": f"tx-{next(_numbers)}",
        "amount_minor": 4999,
        "customer_id": "C42",
        "card_id": "K7",
        "merchant_id": "M9",
        "device_id": "D3",
        "ip_address": "203.0.113.9",
        "attributes": {"channel": "online", "merchant_country": "DE"},
    }
    body.update(changes)
    return {key: value for key, value in body.items() if value is not ...}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = make_workspace(tmp_path_factory.mktemp("api"))
    with serving(settings) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[httpx.Client]:
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=server.url, timeout=120, headers=headers) as connection:
        yield connection
