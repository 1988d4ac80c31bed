"""A server that tells of everything it does: JSON logs of all requests, and traces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from testkit.otlp import OtlpReceiver
from testkit.scratch import Server, make_workspace, serving


@pytest.fixture(scope="package")
def receiver() -> Iterator[OtlpReceiver]:
    running = OtlpReceiver()
    yield running
    running.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, receiver: OtlpReceiver) -> Iterator[Server]:
    environment = {
        "SENTINEL_LOGS__FORMAT": "json",
        "SENTINEL_LOGS__REQUESTS": "1",
        "SENTINEL_TRACES__ENDPOINT": receiver.url,
        "SENTINEL_TRACES__REQUESTS": "0",
    }
    with serving(make_workspace(tmp_path_factory.mktemp("told")), environment=environment) as one:
        yield one


@pytest.fixture(scope="package")
def client(server: Server) -> Iterator[httpx.Client]:
    headers = {"content-type": "application/json"}
    with httpx.Client(base_url=server.url, timeout=120, headers=headers) as connection:
        yield connection


def lines_of(server: Server) -> list[dict[str, Any]]:
    """The log of a server."""
    return [json.loads(line) for line in server.log.read_text().splitlines()]
