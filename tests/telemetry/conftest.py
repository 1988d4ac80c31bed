"""A server that tells of everything it does: JSON logs of all requests, and traces."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
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


def lines_of(server: Server, answered: Iterable[str]) -> list[dict[str, Any]]:
    """The log of a server, once it tells of the requests with these ids.

    A server writes the line of a request after its answer, so the answer may be here first.
    """
    awaited, latest = set(answered), time.monotonic() + 30
    while True:
        whole = server.log.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        missing = awaited - {line.get("request_id") for line in lines}
        if not missing:
            return lines
        assert time.monotonic() < latest, f"no line of {sorted(missing)}"
        time.sleep(0.02)
