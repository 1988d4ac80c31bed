"""A scorer that keeps its state to itself and its log in PostgreSQL, over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sentinel.ledger.export import export_parquet, open_table
from sentinel.ledger.open import open_reader
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.verify import verify
from sentinel.settings import Settings
from testkit.payments import payments
from testkit.scratch import Server, make_workspace, serving
from testkit.servers import Postgres

PASSWORD = "very-secret-pw"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that syncs what it commits, as one in production does."""
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def settings(database: Postgres, tmp_path: Path) -> Settings:
    url = database.make_database(f"sentinel_{tmp_path.name}")
    made = make_workspace(tmp_path / "w")
    made.ledger.url = url.replace("postgres@", f"postgres:{PASSWORD}@")
    return made


def environment(settings: Settings) -> dict[str, str]:
    return {"SENTINEL_LEDGER__URL": settings.ledger.url}


def start(settings: Settings) -> Any:
    return serving(settings, environment=environment(settings))


def told(server: Server) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60)


def wait_until_indexed(client: httpx.Client, decisions: int) -> None:
    deadline = time.monotonic() + 300
    while len(client.get("/decisions", params={"limit": 500}).json()["decisions"]) < decisions:
        assert time.monotonic() < deadline, "the decisions did not turn up"
        time.sleep(0.1)


def test_a_scorer_lives_through_restarts_on_postgres(settings: Settings) -> None:
    bodies = list(islice(payments(1, prefix="pg"), 90))
    ids = [body["transaction_id"] for body in bodies]
    answers: dict[str, bytes] = {}

    def send(client: httpx.Client, some: list[dict[str, Any]]) -> None:
        for body in some:
            answer = client.post("/predict", json=body)
            assert answer.status_code == 200, answer.text
            answers[body["transaction_id"]] = answer.content

    def say(client: httpx.Client, number: int, verdict: str, label: str) -> int:
        body = {"transaction_id": ids[number], "verdict": verdict}
        return client.post("/labels", json={**body, "label_id": label}).status_code

    with start(settings) as server, told(server) as client:
        send(client, bodies[:40])
        assert client.post("/predict", json=bodies[3]).content == answers[ids[3]]
        changed = {**bodies[3], "amount_minor": bodies[3]["amount_minor"] + 1}
        assert client.post("/predict", json=changed).status_code == 409
        assert {say(client, n, "fraud", f"l-{n}") for n in (1, 5, 50)} <= {200, 201, 202}
        wait_until_indexed(client, 40)
        # On the command line of no process, which anyone on the machine can read.
        for process in psutil.Process(server.pid).children(recursive=True):
            assert PASSWORD not in " ".join(process.cmdline())
        # Only one may write where each keeps its state to itself.
        refused = subprocess.run(
            [sys.executable, "-m", "sentinel", "serve"],
            env={
                **os.environ,
                **environment(settings),
                "SENTINEL_WORKSPACE": str(settings.workspace),
            },
            capture_output=True,
            text=True,
        )
        assert refused.returncode == 1
        assert "Another process is writing the ledger postgresql://postgres@" in (
            refused.stdout + refused.stderr
        )
        assert server.stop() == 0
    with start(settings) as server, told(server) as client:
        assert client.post("/predict", json=bodies[39]).content == answers[ids[39]]
        assert client.get(f"/predict/{ids[7]}").status_code == 200
        send(client, bodies[40:60])
        assert say(client, 1, "legitimate", "l-again") in {200, 201, 202}
        server.kill()
    with start(settings) as server, told(server) as client:
        for number in (0, 45, 59):
            assert client.post("/predict", json=bodies[number]).content == answers[ids[number]]
        asked = {"transaction_ids": [ids[7], ids[59]], "reason": "a test"}
        assert client.post("/voids", json=asked).status_code == 200
        assert client.post("/predict", json=bodies[7]).status_code == 409
        send(client, bodies[60:])
        assert server.stop() == 0
    with open_reader(settings) as ledger:
        exported = export_parquet(ledger, settings.offline_dir)
    assert exported.exported_through == 96
    assert open_table(settings.offline_dir, "decisions").count_rows() == 90
    backfill(settings)
    verified = verify(settings)
    assert (verified.recorded, verified.recorded_mismatches, verified.mismatches) == (90, 0, 0)
    assert PASSWORD not in server.log.read_text()


def test_a_scorer_outlasts_a_database_that_is_killed(
    settings: Settings, database: Postgres
) -> None:
    acknowledged: list[list[str]] = [[], [], []]
    failures: list[str] = []
    stop = threading.Event()

    def send(url: str, place: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            for body in payments(20 + place, prefix=f"k{place}"):
                if stop.is_set():
                    return
                answer = client.post("/predict", json=body)
                if answer.status_code != 200:
                    failures.append(answer.text)
                    return
                acknowledged[place].append(body["transaction_id"])

    with start(settings) as server:
        threads = [threading.Thread(target=send, args=(server.url, i)) for i in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(2):
            time.sleep(1.0)
            database.kill()
            time.sleep(0.5)
            database.start()
        time.sleep(1.0)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert server.stop() == 0
    with open_reader(settings) as ledger:
        recorded = [
            t.transaction_id
            for group in ledger.groups()
            if group.kind == GroupKind.DECISIONS
            for t in decode_decisions(group.payload).transactions
        ]
    assert len(recorded) == len(set(recorded))
    assert set(recorded) == {i for of_client in acknowledged for i in of_client}
    assert len(recorded) > 30
    backfill(settings)
    verified = verify(settings)
    assert (verified.recorded, verified.recorded_mismatches) == (len(recorded), 0)
    assert PASSWORD not in server.log.read_text()
