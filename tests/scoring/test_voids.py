"""A payment that is declared void while others are decided: what a scorer answers from then on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.features.voids import LogFold
from sentinel.ledger.log import read_log, whole_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, decode_decisions, decode_voids
from sentinel.scoring import voids
from sentinel.settings import Settings
from testkit.scratch import Server, default_plan, make_workspace, serving
from testkit.scratch import fraud_label as label
from tests.api.conftest import payment

ENTITY = {"customer_id": "C42", "card_id": "K7", "merchant_id": "M9"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return default_plan()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Iterator[Server]:
    with serving(make_workspace(tmp_path_factory.mktemp("voids"), plan=plan)) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as connection:
        yield connection


def decide(client: httpx.Client, **changes: Any) -> str:
    body = payment(**changes)
    client.post("/predict", json=body).raise_for_status()
    return str(body["transaction_id"])


def features(client: httpx.Client, now_us: int) -> list[float | None]:
    answer = client.post("/features/read", json={"rows": [ENTITY], "now_us": now_us})
    answer.raise_for_status()
    row: list[float | None] = answer.json()["rows"][0]
    return row


def void(client: httpx.Client, *ids: str, reason: str = "a test") -> httpx.Response:
    return client.post("/voids", json={"transaction_ids": list(ids), "reason": reason})


def mismatches(settings: Settings, plan: Plan) -> tuple[int, int]:
    """Recorded vectors that differ from a fold of the log, and rows compared."""
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        served = [
            decode_decisions(group.payload).vector_array()
            for group in ledger.groups()
            if group.kind == GroupKind.DECISIONS
        ]
        folding = LogFold(compile_program(plan), whole_log(ledger))
        folding.book.scan(batch for _, batch in read_log(ledger))
        computed = np.concatenate([folding.step(batch) for _, batch in read_log(ledger)])
    recorded = np.concatenate(served)
    return int(np.count_nonzero(recorded.view(np.int32) != computed.view(np.int32))), len(recorded)


def recorded_voids(settings: Settings) -> list[str]:
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        groups = [decode_voids(g.payload) for g in ledger.groups() if g.kind == GroupKind.VOIDS]
    return [one.transaction_id for group in groups for one in group.voids]


class Traffic(threading.Thread):
    """Payments of the same merchant, one after the other, until it is stopped."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._enough = threading.Event()
        self.statuses: list[int] = []

    def run(self) -> None:
        with httpx.Client(base_url=self._server.url, timeout=60) as client:
            while not self._enough.is_set():
                body = payment(customer_id="another", card_id="another")
                self.statuses.append(client.post("/predict", json=body).status_code)

    def stop(self) -> list[int]:
        self._enough.set()
        self.join()
        return self.statuses


def test_a_void_takes_a_payment_out_of_what_comes_after_it(
    server: Server, client: httpx.Client, plan: Plan
) -> None:
    for _ in range(5):
        decide(client)
    now_us = time.time_ns() // 1_000 + 60_000_000
    before = features(client, now_us)
    wrong = decide(client, amount_minor=99_999_999)
    client.post("/labels", json=label(wrong)).raise_for_status()
    assert features(client, now_us) != before

    said = void(client, wrong, reason=" an amount without its point ")
    assert said.status_code == 200, said.text
    (receipt,) = said.json()["voids"]
    assert receipt == {**receipt, "transaction_id": wrong, "repeated": False}
    assert features(client, now_us) == before

    listed = client.get("/decisions", params={"limit": 3}).json()["decisions"]
    marked = {row["transaction_id"]: row["void"] for row in listed}
    assert [i for i, is_void in marked.items() if is_void] == [wrong]
    assert "sentinel_voids_total 1.0" in client.get("/metrics").text
    detail = client.get(f"/decisions/{wrong}").json()
    assert detail["amount_minor"] == 99_999_999
    assert detail["void"]["reason"] == "an amount without its point"
    assert detail["void"]["sequence"] == receipt["sequence"] == detail["sequence"] + 2
    client.post("/labels", json={**label(wrong), "verdict": "legitimate"}).raise_for_status()
    client.post("/labels", json=label(wrong)).raise_for_status()
    assert features(client, now_us) == before

    again = void(client, wrong).json()["voids"]
    assert again == [{**receipt, "repeated": True}]

    server.kill()
    server.start()
    assert features(client, now_us) == before
    decide(client)
    differ, compared = mismatches(server.settings, plan)
    assert differ == 0
    assert compared >= 7


def test_the_id_of_a_void_payment_is_not_used_again(client: httpx.Client) -> None:
    body = payment()
    client.post("/predict", json=body).raise_for_status()
    assert void(client, body["transaction_id"]).status_code == 200
    for again in (body, {**body, "amount_minor": 1}):
        refused = client.post("/predict", json=again)
        assert refused.status_code == 409
    refused = client.post("/predict", json=body)
    assert "declared void" in refused.json()["detail"]


def test_payments_go_on_while_records_are_put_in_place(
    server: Server, client: httpx.Client, plan: Plan
) -> None:
    traffic = Traffic(server)
    traffic.start()
    try:
        ids = [decide(client) for _ in range(20)]
        environment = {"SENTINEL_API__PORT": str(server.port)}
        for one in ids[::12]:
            said = subprocess.run(
                [sys.executable, "-m", "sentinel", "void", one, "--reason", "a test"],
                env={
                    "SENTINEL_WORKSPACE": str(server.settings.workspace),
                    "PATH": "/usr/bin:/bin",
                    **environment,
                },
                capture_output=True,
                text=True,
            )
            assert said.returncode == 0, said.stderr
            assert f"{one} is void, from entry" in said.stdout
            decide(client)
        assert void(client, *ids[1::4], reason="several").status_code == 200
        decide(client)
    finally:
        statuses = traffic.stop()
    assert len(statuses) > 20
    assert set(statuses) == {200}
    differ, compared = mismatches(server.settings, plan)
    assert differ == 0
    assert compared >= 23 + len(statuses)


def test_nothing_is_void_that_the_log_does_not_hold(server: Server, client: httpx.Client) -> None:
    known = decide(client)
    refused = void(client, known, "never-sent")
    assert refused.status_code == 404
    assert "'never-sent'" in refused.json()["detail"]
    assert void(client, known, reason="  ").status_code == 422
    assert void(client, *[known] * (voids.MOST_VOIDS + 1)).status_code == 422
    assert known not in recorded_voids(server.settings)
    first, second = void(client, known, known).json()["voids"]
    assert first == second
    assert recorded_voids(server.settings).count(known) == 1
