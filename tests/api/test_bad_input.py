"""Whatever is sent: no 5xx, and the ledger holds exactly what was accepted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.errors
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, decode_decisions
from testkit.payments import payments
from testkit.scratch import Server, make_workspace, serving
from tests.api.test_routes import DECLARED

EXAMPLES = 40
ROUTES = sorted(
    f"{method.upper()} {path}"
    for path, methods in json.loads(DECLARED.read_text())["paths"].items()
    for method in methods
)
# Each request starts a process that reads the log.
WITH_A_PROCESS = {
    "GET /experiments/{name}",
    "POST /experiments/{name}/promote",
    "POST /policy",
    "POST /policy/preview",
}
EXAMPLES_WITH_A_PROCESS = 8
MUTATED = int(os.environ.get("SENTINEL_MUTATED_BODIES", "100000"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def operations(server: Server) -> dict[str, Any]:
    """What the running server says that it takes, by method and path."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found: list[Any] = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]
    return {f"{each.method.upper()} {each.path}": each for each in found}


def test_every_route_is_tried(operations: dict[str, Any]) -> None:
    assert sorted(operations) == ROUTES
    assert set(ROUTES) >= WITH_A_PROCESS


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", ROUTES)
def test_a_route_keeps_what_its_openapi_says(
    operations: dict[str, Any], route: str, mode: GenerationMode
) -> None:
    @hypothesis.settings(
        max_examples=EXAMPLES_WITH_A_PROCESS if route in WITH_A_PROCESS else EXAMPLES,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operations[route].as_strategy(generation_mode=mode))
    def conforms(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=60)

    # A route without input has no wrong input.
    with contextlib.suppress(hypothesis.errors.Unsatisfiable):
        conforms()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mutated_bodies_get_4xx_and_leave_no_trace(tmp_path: Path) -> None:
    settings = make_workspace(tmp_path / "workspace")
    with serving(settings) as server:
        statuses, accepted = asyncio.run(_send(server.port, MUTATED))
        assert server.stop() == 0
    assert sum(statuses.values()) == MUTATED
    assert {status for status in statuses if status != 200} <= {400, 409, 413, 422}
    assert sum(n for status, n in statuses.items() if status != 200) > MUTATED // 2
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        recorded = [
            transaction.transaction_id
            for group in ledger.groups()
            if group.kind == GroupKind.DECISIONS
            for transaction in decode_decisions(group.payload).transactions
        ]
    assert len(recorded) == len(set(recorded))
    assert set(recorded) == accepted


async def _send(port: int, count: int) -> tuple[Counter[int], set[str]]:
    """Send mutated bodies over eight connections; statuses, and the ids that were accepted."""
    statuses: Counter[int] = Counter()
    accepted: set[str] = set()

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in islice(mutated(number), count // 8):
            writer.write(
                b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n" % len(body)
            )
            writer.write(body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            status = int(head[9:12])
            statuses[status] += 1
            if status == 200:
                accepted.add(str(json.loads(answer)["transaction_id"]))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(number) for number in range(8)))
    return statuses, accepted


def mutated(seed: int) -> Iterator[bytes]:
    """Payments with something wrong, most of the time."""
    rng = random.Random(seed)
    strange: list[Any] = [
        None, True, -1, 10**30, 1.5, -0.0, "", "\x00", "é" * 200, "4111111111111111", [], [[]],
        {}, {"a": {}}, "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z", "null", 2**63, 2**64,
    ]  # fmt: skip
    for body in payments(seed, prefix=f"m{seed}"):
        kind = rng.randrange(6)
        if kind == 0:
            body[rng.choice(list(body))] = rng.choice(strange)
        elif kind == 1:
            del body[rng.choice(["transaction_id", "amount_minor"])]
        elif kind == 2:
            body[rng.choice(["amount", "Amount_minor", "", "x" * 300])] = rng.choice(strange)
        elif kind == 3:
            body["attributes"][rng.choice(["channel", "", "y" * 200])] = rng.choice(strange)
        text = bytearray(json.dumps(body).encode())
        if kind == 4:
            for _ in range(rng.randrange(1, 6)):
                text[rng.randrange(len(text))] = rng.randrange(256)
        elif kind == 5:
            cut = rng.randrange(len(text))
            text = text[:cut] + (b"[" * rng.randrange(3)) + text[cut + rng.randrange(1, 30) :]
        yield bytes(text)
