"""A scoring process over its life: new models, no model, a failing disk, what it loads."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil
import pytest

from sentinel.features.offline import OfflineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.log import read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import decode_decisions
from sentinel.models.registry_view import KnownVersion, RegistryView, write_view
from sentinel.settings import Settings
from testkit.payments import payments
from testkit.scratch import (
    Server,
    default_plan,
    install_champion,
    make_workspace,
    serving,
    synthetic_booster,
)
from tests.scoring.one_scorer import assert_parity


@pytest.fixture(scope="module")
def plan() -> Plan:
    return default_plan()


def wait_for(condition: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


async def hammer(server: Server, stop: asyncio.Event, bodies: Any) -> list[tuple[int, str]]:
    """Send payments one after the other; status and model version of each answer."""
    seen = []
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        for body in bodies:
            if stop.is_set():
                break
            answer = await client.post("/predict", json=body)
            seen.append((answer.status_code, answer.json().get("model_version", "")))
    return seen


def test_a_new_champion_takes_over_without_a_dropped_request(tmp_path: Path, plan: Plan) -> None:
    settings = make_workspace(tmp_path / "w", plan=plan)
    second = synthetic_booster(plan, trees=25, leaves=7, seed=8)
    with serving(settings) as server:

        async def swap() -> list[tuple[int, str]]:
            stop = asyncio.Event()
            clients = [
                asyncio.create_task(hammer(server, stop, payments(i, prefix=f"s{i}")))
                for i in range(4)
            ]
            await asyncio.sleep(0.5)
            await asyncio.to_thread(install_champion, settings, plan, second, "2")
            await asyncio.to_thread(
                wait_for,
                lambda: (
                    httpx.get(f"{server.url}/health", timeout=60).json()["model"]["version"] == "2"
                ),
            )
            await asyncio.sleep(0.3)
            stop.set()
            return [answer for task in clients for answer in await task]

        answers = asyncio.run(swap())
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {"1", "2"}


def test_a_champion_with_another_plan_brings_its_own_state(tmp_path: Path, plan: Plan) -> None:
    settings = make_workspace(tmp_path / "w", plan=plan)
    smaller = msgspec.structs.replace(plan, views=plan.views[:1], request=(), ratios=())
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for body in islice(payments(3, prefix="before"), 50):
            assert client.post("/predict", json=body).status_code == 200
        install_champion(settings, smaller, synthetic_booster(smaller, trees=5, leaves=7), "2")
        wait_for(lambda: client.get("/health").json()["feature_store"]["plan_hash"] == smaller.hash)
        for body in islice(payments(4, prefix="after"), 50):
            answer = client.post("/predict", json=body)
            assert (answer.status_code, answer.json()["model_version"]) == (200, "2")
        assert server.stop() == 0
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        hashes = [decode_decisions(group.payload).plan_hash for group in ledger.groups()]
        folding = OfflineFold(compile_program(smaller))
        computed = np.concatenate([folding.step(batch) for _, batch in read_log(ledger)])
        served = np.concatenate(
            [
                decoded.vector_array()
                for decoded in (decode_decisions(g.payload) for g in ledger.groups())
                if decoded.plan_hash == smaller.hash
            ]
        )
    assert hashes == sorted(hashes, key=lambda h: h == smaller.hash)
    assert len(served) == 50
    assert np.array_equal(served.view(np.int32), computed[-50:].view(np.int32))


def test_a_broken_champion_is_refused_and_the_old_one_stays(tmp_path: Path, plan: Plan) -> None:
    settings = make_workspace(tmp_path / "w", plan=plan)
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        folder = settings.models_dir / "broken"
        folder.mkdir()
        (settings.models_dir / "champion.json").write_text('{"version":"9","folder":"broken"}')
        wait_for(lambda: client.get("/health").json()["status"] == "degraded")
        health = client.get("/health").json()["model"]
        assert health["version"] == "1"
        assert "Version 9" in health["problem"]
        assert "is not signed" in health["problem"]
        body = next(payments(1))
        assert client.post("/predict", json=body).json()["model_version"] == "1"


def test_going_back_is_a_change_of_one_reference(tmp_path: Path, plan: Plan) -> None:
    """The model before the last stays warm: nothing is loaded, though its trees are gone."""
    settings = make_workspace(tmp_path / "w", plan=plan)
    back = (settings.models_dir / "champion.json").read_bytes()
    second = synthetic_booster(plan, trees=25, leaves=7, seed=8)
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def served() -> Any:
            return client.get("/models").json()

        install_champion(settings, plan, second, "2")
        wait_for(lambda: served()["serving"] == "2")
        assert {v["version"]: v["in_memory"] for v in served()["versions"]} == {"2": True}
        (settings.models_dir / "scratch-1" / "model.txt").unlink()
        target = settings.models_dir / "champion.json"
        target.with_suffix(".partial").write_bytes(back)
        target.with_suffix(".partial").replace(target)
        wait_for(lambda: served()["serving"] == "1")
        answer = client.post("/predict", json=next(payments(1)))
        assert answer.json()["model_version"] == "1"
        assert served()["problem"] is None
        metrics = dict(
            line.rsplit(" ", 1)
            for line in client.get("/metrics").text.splitlines()
            if line.startswith("sentinel_model_")
        )
        assert float(metrics["sentinel_model_swaps_total"]) == 2
        assert float(metrics["sentinel_model_problem"]) == 0
        assert float(metrics["sentinel_model_swap_seconds"]) > 0


def test_what_the_follower_saw_is_shown(tmp_path: Path, plan: Plan) -> None:
    settings = make_workspace(tmp_path / "w", plan=plan)
    known = [
        KnownVersion(version="2", run_id="b", aliases=("champion",), tags={"gate": "passed"}),
        KnownVersion(version="1", run_id="a", aliases=("previous-champion",)),
    ]
    view = RegistryView(
        name="scratch", answered_at_us=7_000_000, champions=("1", "2"), versions=tuple(known)
    )
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.get("/models").json()["registry_answered_at_us"] is None
        write_view(settings.models_dir, view)
        page = client.get("/models").json()
        assert (page["serving"], page["champions"], page["problem"]) == ("1", ["1", "2"], None)
        assert [v["serving"] for v in page["versions"]] == [False, True]
        assert page["versions"][0]["tags"] == {"gate": "passed"}
        away = msgspec.structs.replace(view, problem="MLflow does not answer")
        write_view(settings.models_dir, away)
        assert client.get("/models").json()["registry_problem"] == "MLflow does not answer"
        assert client.get("/health").json()["status"] == "ok", "it serves what it should"
        refused = msgspec.structs.replace(view, problem="version 2 is damaged", refused=True)
        write_view(settings.models_dir, refused)
        health = client.get("/health").json()
        assert (health["status"], health["model"]["problem"]) == (
            "degraded",
            "version 2 is damaged",
        )
        assert client.get("/readyz").status_code == 200, "the old champion decides"
        wait_for(lambda: "sentinel_model_problem 1.0" in client.get("/metrics").text)
        assert "sentinel_registry_answered_time_seconds 7.0" in client.get("/metrics").text


def test_without_a_model_the_answer_is_503_until_there_is_one(tmp_path: Path, plan: Plan) -> None:
    settings = Settings(workspace=tmp_path / "w")
    plan.save(settings.plan_path)
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.post("/predict", json=next(payments(1)))
        assert (answer.status_code, answer.json()["code"]) == (503, "no_model")
        assert client.get("/readyz").status_code == 503
        assert client.get("/health").json()["status"] == "unavailable"
        install_champion(settings, plan, synthetic_booster(plan, trees=3, leaves=7), "1")
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/predict", json=next(payments(1))).status_code == 200


def test_a_failed_commit_leaves_no_phantom_and_heals(tmp_path: Path, plan: Plan) -> None:
    settings = make_workspace(tmp_path / "w", plan=plan)
    bodies = payments(2, prefix="full")
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        for body in islice(bodies, 30):
            assert client.post("/predict", json=body).status_code == 200
        process = psutil.Process(server.pid)
        soft, hard = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (1, hard))
        refused = next(bodies)
        answer = client.post("/predict", json=refused)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        process.rlimit(resource.RLIMIT_FSIZE, (soft, hard))
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/predict", json=refused).status_code == 200
        for body in islice(bodies, 30):
            assert client.post("/predict", json=body).status_code == 200
        assert server.stop() == 0
    assert_parity(settings, decisions=61, plan=plan)


def test_serving_loads_no_training_and_no_feature_store_library() -> None:
    heavy = [
        "feast",
        "mlflow",
        "pandas",
        "streamlit",
        "sklearn",
        "lightgbm",
        "matplotlib",
        "duckdb",
    ]
    probe = (
        "import sys, sentinel.api.server; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
