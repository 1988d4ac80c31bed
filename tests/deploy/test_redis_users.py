"""Whoever uses Redis in a deployment can do what it does and nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as redis_client
from redis.exceptions import NoPermissionError

from sentinel.domain import StateUnavailable
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.pipeline.compare_shared import compare_shared
from sentinel.pipeline.old_records import drop_old_records
from sentinel.pipeline.redis_functions import load_functions
from sentinel.settings import Settings
from sentinel.state.online_history import OnlineHistory, entity_key
from sentinel.state.redis.health import redis_health
from sentinel.state.redis.records import Records
from sentinel.state.redis.wire import Wire
from testkit.payments import payments
from testkit.redis_users import commands_of, url_as, users_of_the_deployment
from testkit.scratch import (
    default_plan,
    fraud_label,
    install_champion,
    make_workspace,
    serving,
    synthetic_booster,
)
from testkit.servers import Postgres, Redis, wait_until
from testkit.shared_scorers import books, send

STATE = Path(__file__).resolve().parents[2] / "src" / "sentinel"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    folder = tmp_path_factory.mktemp("redis")
    with Redis(folder / "redis", options=users_of_the_deployment(folder)) as server:
        yield server


def as_user(redis: Redis, user: str, database: int = 0) -> Any:
    return closing(redis_client.Redis.from_url(url_as(redis, user, database)))


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("FLUSHDB",),
        ("CONFIG", "GET", "*"),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("KEYS", "*"),
        ("ACL", "LIST"),
        ("SAVE",),
        ("MODULE", "LIST"),
        ("REPLICAOF", "elsewhere", "6379"),
        ("EVAL", "return 1", "0"),
        ("FUNCTION", "LOAD", "REPLACE", "#!lua name=mine\n"),
        ("FUNCTION", "DELETE", "mine"),
        ("SCRIPT", "LOAD", "return 1"),
        ("CLIENT", "LIST"),
        ("MONITOR",),
        ("SELECT", "1"),
        ("GET", "another application's key"),
        ("SUBSCRIBE", "sentinel:news"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("user", ["scorer", "jobs"])
def test_who_uses_state_commands_no_server_and_sees_no_foreign_key(
    redis: Redis, user: str, command: tuple[str, ...]
) -> None:
    with as_user(redis, user) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command)


def test_a_scorer_reads_materialized_history_and_writes_none(redis: Redis) -> None:
    key = entity_key("t1") + b"sentinel"
    with as_user(redis, "feast", 1) as feast:
        feast.hset(key, b"field", b"value")
    with as_user(redis, "history", 1) as history:
        assert history.hmget(key, [b"field"]) == [b"value"]
        for refused in (
            lambda: history.hset(key, b"field", b"another"),
            lambda: history.delete(key),
            lambda: history.hmget("sentinel:materialized:other", ["v"]),
        ):
            with pytest.raises(NoPermissionError):
                refused()
    with closing(OnlineHistory(url_as(redis, "history", 1))) as found:
        assert found.find("t1") is None  # not materialized as a whole; it was looked for


def test_the_health_check_can_ask_whether_redis_is_there_and_nothing_else(redis: Redis) -> None:
    assert commands_of("health") == {"ping"}
    with as_user(redis, "health") as client:
        assert client.ping()
        with pytest.raises(NoPermissionError):
            client.get("sentinel:x")


def test_the_doctor_sees_both_databases_as_the_jobs_do(redis: Redis) -> None:
    for user, database in (("jobs", 0), ("feast", 1)):
        assert "append-only file on" in redis_health(url_as(redis, user, database))


def test_who_loads_functions_reads_no_record(redis: Redis) -> None:
    with as_user(redis, "functions") as client:
        for command in (("GET", "sentinel:x"), ("FCALL", "any", "0"), ("SCAN", "0")):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


BY_THE_VERSION_BEFORE = {"sadd", "scard"}
"""Commands of scorers that still run while they are replaced one by one."""


def sent_by(*files: str) -> set[str]:
    """Commands in the code that talks to Redis, as rules write them."""
    text = "\n".join((STATE / name).read_text() for name in files)
    asked = r'(?:pack\(|_ask\(\w+(?:\.\w+)?, |call\([\w.]+, |\.ask\()"([A-Z]+)"(?:, "([A-Z]+)")?'
    words = {(name, of if name == "CLIENT" else "") for name, of in re.findall(asked, text)}
    words |= {(name, "") for name in re.findall(r"call\('([A-Z]+)'", text)}
    return {"|".join(filter(None, pair)).lower() for pair in words}


def test_a_scorer_may_run_the_commands_that_the_code_sends_and_no_others() -> None:
    records = [
        f"state/redis/{name}.py" for name in ("records", "notes", "link", "wire", "checkpoints")
    ]
    sent = sent_by(*records, "scoring/shared_states.py", "state/redis/functions.lua")
    assert {"append", "fcall", "hgetall", "scan", "setrange", "unlink"} <= sent
    assert commands_of("scorer") - {"ping"} == sent | BY_THE_VERSION_BEFORE


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_scorer_serves_changes_its_plan_and_follows_the_log_within_its_rights(
    redis: Redis, tmp_path: Path
) -> None:
    plan = default_plan()
    scorer_url = url_as(redis, "scorer")
    with (
        Postgres(tmp_path / "postgres") as postgres,
        redis_client.Redis(port=redis.port) as admin,
    ):
        admin.execute_command("ACL", "LOG", "RESET")
        settings = make_workspace(tmp_path / "scorer", plan=plan)
        settings = as_deployed(settings, postgres.make_database("rights"), scorer_url)

        # Functions come from a user of their own; without them a scorer says what to do.
        records = Records(compile_program(plan), Wire(scorer_url, timeout_seconds=5))
        with closing(records), pytest.raises(StateUnavailable, match="state load-functions"):
            records.need_functions()
        admin.execute_command("ACL", "LOG", "RESET")
        load_functions(with_state(settings, url_as(redis, "functions")))

        environment = {
            "SENTINEL_LEDGER__URL": settings.ledger.url,
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": scorer_url,
            "SENTINEL_FEAST__ONLINE_URL": url_as(redis, "history", 1),
        }
        with serving(settings, environment=environment) as server:
            answers = send([server.url], islice(payments(3, prefix="p", customers=20), 150))
            labels = [fraud_label("p-3"), fraud_label("waits-0")]
            told = httpx.post(f"{server.url}/labels", json={"labels": labels}, timeout=60)
            assert told.status_code == 200, told.text
            assert not any(body["degraded"] for body in answers.bodies.values())

            other = Plan(plan.views, plan.request, plan.ratios[:-1])
            booster = synthetic_booster(other, trees=5, leaves=7)
            install_champion(settings, other, booster, "2")
            wait_until(lambda: serves(server.url, other), 120, "the other plan's state to serve")
            more = send([server.url], islice(payments(3, prefix="waits", customers=20), 50))
            assert not any(body["degraded"] for body in more.bodies.values())
            answers.bodies |= more.bodies

            jobs = with_state(settings, url_as(redis, "jobs"))
            held = compare_shared(jobs, other)
            assert held is not None
            assert (held.differing, held.behind) == (0, 0), held.examples
            dropped = drop_old_records(jobs, unused_seconds=3600)
            assert [state.plan_hash for state in dropped.in_use] != []
        refused = admin.execute_command("ACL", "LOG")
        kept = books(settings, answers)
    assert (kept.recorded, kept.lost, kept.differing) == (200, 0, 0)
    assert refused == [], "nothing was sent that its sender may not send"


def serves(url: str, plan: Plan) -> bool:
    time.sleep(0.2)
    health = httpx.get(f"{url}/health", timeout=30).json()
    return bool(health["feature_store"]["plan_hash"] == plan.hash)


def as_deployed(settings: Settings, ledger: str, redis_url: str) -> Settings:
    shared = settings.model_copy(
        update={"ledger": settings.ledger.model_copy(update={"url": ledger})}
    )
    return with_state(shared, redis_url)


def with_state(settings: Settings, redis_url: str) -> Settings:
    state = settings.state.model_copy(update={"backend": "redis", "redis_url": redis_url})
    return settings.model_copy(update={"state": state})
