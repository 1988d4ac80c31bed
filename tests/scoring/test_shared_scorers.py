"""Several scorers over one state and one log: nothing lost, nothing twice, everything provable."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec
import numpy as np
import psycopg
import pytest

from sentinel.experiments.assignment import draw
from sentinel.experiments.lineup import Experiment
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.ledger.open import open_shared
from sentinel.log.entries import decode_decisions
from sentinel.models.serving import model_folder
from sentinel.pipeline.compare_shared import compare_shared
from sentinel.settings import Settings
from testkit.experiments import install_version, run_experiments
from testkit.payments import payments
from testkit.scratch import Server, default_plan, fraud_label, make_workspace
from testkit.servers import Postgres, Redis
from testkit.shared_scorers import Books, books, repairs_done, replayed, scorers, send, workspaces

pytestmark = pytest.mark.slow

NOTE: Final = RequestFeature("note", "number", "note")


class Stack(NamedTuple):
    redis: Redis
    postgres: Postgres


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("shared")
    with Redis(folder / "redis") as redis, Postgres(folder / "postgres") as postgres:
        yield Stack(redis, postgres)


class Deployment:
    """Two scorers with a database of their own."""

    def __init__(self, folder: Path, stack: Stack, name: str) -> None:
        self.stack = stack
        self.plan: Plan = default_plan()
        self.environment = {
            "SENTINEL_LEDGER__URL": stack.postgres.make_database(name),
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": f"redis://127.0.0.1:{stack.redis.port}/0",
            "SENTINEL_STATE__REDIS_PREFIX": name,
        }
        first = make_workspace(folder / "scorer-1", plan=self.plan)
        url = self.environment["SENTINEL_LEDGER__URL"]
        self.settings: Settings = first.model_copy(
            update={
                "ledger": first.ledger.model_copy(update={"url": url}),
                "state": first.state.model_copy(
                    update={
                        "backend": "redis",
                        "redis_url": self.environment["SENTINEL_STATE__REDIS_URL"],
                        "redis_prefix": name,
                    }
                ),
            }
        )
        self.workspaces = workspaces(folder, first, 2)

    def books(self, answers: object) -> Books:
        return books(self.settings, answers)  # type: ignore[arg-type]


@pytest.fixture
def deployment(tmp_path: Path, stack: Stack, request: pytest.FixtureRequest) -> Deployment:
    name = "t" + str(abs(hash(request.node.name)) % 10**9)
    return Deployment(tmp_path, stack, name)


def some_payments(number: int, prefix: str = "p") -> list[dict[str, object]]:
    return list(islice(payments(3, prefix=prefix, customers=40, merchants=8), number))


def urls(servers: list[Server]) -> list[str]:
    return [server.url for server in servers]


def test_two_scorers_decide_each_payment_once_and_provably(deployment: Deployment) -> None:
    with scorers(deployment.workspaces, deployment.environment) as servers:
        sent = some_payments(600)
        # Each payment goes to both scorers at about the same time.
        twice = [payment for payment in sent for _ in range(2)]
        answers = send(urls(servers), twice)
        labels = [fraud_label(str(payment["transaction_id"])) for payment in sent[:100:7]]
        early = [fraud_label(f"q-{number}") for number in (3, 17)]
        for server, some in zip(servers, (labels, early), strict=True):
            receipt = httpx.post(f"{server.url}/labels", json={"labels": some}, timeout=60)
            assert receipt.status_code == 200, receipt.text
        more = send(urls(servers), some_payments(200, "q"))
        repairs_done(servers)
    answers.bodies |= more.bodies
    assert deployment.books(answers) == Books(recorded=800, lost=0, twice=0, differing=0)
    result = replayed(deployment.settings, deployment.plan)
    assert result.decisions + result.degraded == 800
    assert (result.mismatches, result.degraded) == (0, 0), result.examples
    assert result.unverifiable < 0.2 * result.values
    held = compare_shared(deployment.settings, deployment.plan)
    assert held is not None
    assert (held.differing, held.behind) == (0, 0), held.examples
    assert held.records > 100
    fraud = [i for i, name in enumerate(deployment.plan.feature_names) if "fraud" in name]
    assert fraud


def test_roles_agree_in_all_scorers_and_what_they_were_given_is_provable(
    deployment: Deployment,
) -> None:
    """A version with features of its own is refused by name: records in Redis are of one plan."""
    first, second = deployment.workspaces
    wider = msgspec.structs.replace(deployment.plan, request=(NOTE, *deployment.plan.request))
    for version, plan in (("11", deployment.plan), ("12", deployment.plan), ("13", wider)):
        install_version(first, plan, version, trees=20, leaves=15)
        folder = model_folder(first, version)
        shutil.copytree(folder, second.models_dir / folder.name)
    with scorers(deployment.workspaces, deployment.environment) as servers:
        plain = send(urls(servers), some_payments(60, "before"))
        run_experiments(
            deployment.settings,
            Experiment(name="ab", kind="challenger", version="11", share=0.5),
            Experiment(name="night", kind="shadow", version="12"),
            Experiment(name="wide", kind="shadow", version="13"),
        )
        for server in servers:
            while len(found := experiments(server)) < 3:
                time.sleep(0.05)
            assert {name for name, one in found.items() if one["running"]} == {"ab", "night"}
            assert "records in Redis are of one plan" in found["wide"]["problem"]
        answers = send(urls(servers), some_payments(300))
        again = send(urls(servers[::-1]), some_payments(300))
        repairs_done(servers)
    assert {n: b["model_version"] for n, b in answers.bodies.items()} == {
        n: b["model_version"] for n, b in again.bodies.items()
    }
    answers.bodies |= plain.bodies
    assert deployment.books(answers) == Books(recorded=360, lost=0, twice=0, differing=0)
    scored = 0
    with open_shared(deployment.settings) as ledger:
        for group in ledger.groups():
            decided = decode_decisions(group.payload)
            said = {role.role: np.frombuffer(role.scores) for role in decided.columns.roles}
            deciders = decided.columns.deciders or bytes(group.entries)
            for row, payment in enumerate(decided.transactions):
                if payment.transaction_id.startswith("before"):
                    continue
                assert said.keys() == {"ab", "night"}
                assert np.isfinite([scores[row] for scores in said.values()]).all()
                assert deciders[row] == (draw("ab", f"card/{payment.card_id}") < 0.5)
                scored += 1
    assert scored == 300
    result = replayed(deployment.settings, deployment.plan)
    assert result.decisions + result.degraded == 360
    assert (result.mismatches, result.degraded) == (0, 0), result.examples


def experiments(server: Server) -> dict[str, dict[str, Any]]:
    """What the panel of a scorer is of, by name."""
    answer = httpx.get(f"{server.url}/experiments", timeout=60).json()
    return {one["experiment"]["name"]: one for one in answer["experiments"]}


def test_redis_and_postgres_restart_under_load(deployment: Deployment) -> None:
    with scorers(deployment.workspaces, deployment.environment) as servers:

        def disturb() -> None:
            time.sleep(1.0)
            deployment.stack.redis.restart()
            time.sleep(1.0)
            deployment.stack.postgres.restart()
            time.sleep(1.0)
            deployment.stack.redis.kill()
            deployment.stack.redis.start()

        trouble = threading.Thread(target=disturb)
        trouble.start()
        answers = send(urls(servers), some_payments(300))
        trouble.join()
        answers.bodies |= send(urls(servers), some_payments(200, "q")).bodies
        repairs_done(servers)
        degraded_before = replayed(deployment.settings, deployment.plan).degraded
        answers.bodies |= send(urls(servers), some_payments(100, "r")).bodies
        repairs_done(servers)
    assert deployment.books(answers) == Books(recorded=600, lost=0, twice=0, differing=0)
    result = replayed(deployment.settings, deployment.plan)
    assert result.mismatches == 0, result.examples
    assert result.degraded == degraded_before, "decisions after the repair had their state"
    held = compare_shared(deployment.settings, deployment.plan)
    assert held is not None
    assert (held.differing, held.behind) == (0, 0), held.examples


def post_to_its_death(url: str, payment: dict[str, object]) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(url, json=payment, timeout=30)


@contextlib.contextmanager
def no_appends(url: str) -> Iterator[psycopg.Connection]:
    """While this lasts, appends wait for a lock; those of the dead are ended with it."""
    with psycopg.connect(url) as holder, psycopg.connect(url, autocommit=True) as other:
        holder.execute("LOCK TABLE sentinel.groups IN EXCLUSIVE MODE")
        yield other
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        holder.rollback()


def waits_for_a_lock(connection: psycopg.Connection) -> bool:
    found = connection.execute(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    assert found is not None
    return bool(found[0])


def test_what_a_dead_scorer_began_is_decided_by_another(deployment: Deployment) -> None:
    first, begun, *more = some_payments(20)
    with scorers(deployment.workspaces, deployment.environment) as servers:
        answers = send([servers[0].url], [first])
        with no_appends(deployment.environment["SENTINEL_LEDGER__URL"]) as connection:
            dying = threading.Thread(
                target=post_to_its_death, args=(f"{servers[1].url}/predict", begun)
            )
            dying.start()
            deadline = time.monotonic() + 300
            while not waits_for_a_lock(connection) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert waits_for_a_lock(connection), "the append never came"
            servers[1].kill()
            dying.join()
        # Its records hold the payment, the log does not and never will.
        answer = httpx.post(f"{servers[0].url}/predict", json=begun, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["degraded"] is True
        again = httpx.post(f"{servers[0].url}/predict", json=begun, timeout=60)
        assert again.content == answer.content
        answers.bodies[str(begun["transaction_id"])] = answer.json()
        answers.bodies |= send([servers[0].url], more).bodies
    assert deployment.books(answers) == Books(recorded=20, lost=0, twice=0, differing=0)
    result = replayed(deployment.settings, deployment.plan)
    assert (result.mismatches, result.degraded) == (0, 1), result.examples


def test_a_scorer_that_is_killed_leaves_nothing_wrong(deployment: Deployment) -> None:
    with scorers(deployment.workspaces, deployment.environment) as servers:

        def kill() -> None:
            time.sleep(0.7)
            servers[1].kill()

        killing = threading.Thread(target=kill)
        killing.start()
        answers = send(urls(servers), some_payments(400))
        killing.join()
        assert deployment.books(answers).lost == 0
        # It comes back and goes on.
        servers[1].start()
        answers.bodies |= send([servers[1].url], some_payments(50, "q")).bodies
        assert servers[0].process is not None
        servers[0].process.send_signal(signal.SIGTERM)
        assert servers[0].process.wait(300) == 0
    found = deployment.books(answers)
    assert (found.lost, found.twice, found.differing) == (0, 0, 0)
    result = replayed(deployment.settings, deployment.plan)
    assert result.mismatches == 0, result.examples


def test_a_void_by_one_scorer_counts_in_all_and_what_was_served_stays_provable(
    deployment: Deployment,
) -> None:
    with scorers(deployment.workspaces, deployment.environment) as servers:
        one, other = (server.url for server in servers)
        answers = send([one, other], some_payments(120))
        wrong = [f"p-{number}" for number in (3, 40, 41, 119)]
        labels = [fraud_label(i) for i in ("p-3", "p-5")]
        assert httpx.post(f"{one}/labels", json={"labels": labels}, timeout=60).status_code == 200
        asked = {"transaction_ids": wrong, "reason": "a test"}
        meanwhile = threading.Thread(
            target=send, args=([one, other], some_payments(80, "q")), kwargs={"answers": answers}
        )
        meanwhile.start()
        said = httpx.post(f"{other}/voids", json=asked, timeout=60)
        meanwhile.join()
        assert said.status_code == 200, said.text
        again = httpx.post(f"{one}/voids", json=asked, timeout=60).json()["voids"]
        assert [receipt["repeated"] for receipt in again] == [True] * len(wrong)
        repairs_done(servers)
        late = fraud_label("p-40") | {"label_id": "late"}
        assert httpx.post(f"{one}/labels", json={"labels": [late]}, timeout=60).status_code == 200
        send([one, other], some_payments(40, "r"), answers=answers)
        for url in (one, other):
            refused = httpx.post(f"{url}/predict", json=some_payments(3)[2], timeout=60)
            assert (refused.status_code, "declared void" in refused.text) == (409, True)
            detail = httpx.get(f"{url}/decisions/p-41", timeout=60).json()
            assert detail["void"]["reason"] == "a test"
        repairs_done(servers)
    assert deployment.books(answers) == Books(recorded=240, lost=0, twice=0, differing=0)
    result = replayed(deployment.settings, deployment.plan)
    assert (result.decisions, result.mismatches) == (240, 0), result.examples
    held = compare_shared(deployment.settings, deployment.plan)
    assert held is not None
    assert (held.differing, held.behind) == (0, 0), held.examples
