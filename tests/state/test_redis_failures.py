"""What happens to shared state when Redis does not answer, dies, or forgets."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from sentinel.domain import ConfigurationError, StateUnavailable, Transaction
from sentinel.features.plan.program import compile_program
from sentinel.state.redis_features import RedisFeatures
from sentinel.state.redis_marks import RedisMarks
from sentinel.state.redis_records import RedisState
from sentinel.state.redis_repair import Rebuilt, Repairer
from testkit.ports import free_port
from testkit.servers import Redis
from tests.features.plans import aggregate, every_function, plan_of
from tests.state.test_redis_repair import Entry, expected_words, payment, reader, words_of

PLAN = every_function()
RECORDS = [(0, "c1"), (1, "c1\x1fm0"), (1, "c1\x1fm1"), (1, "c1\x1fm2")]


@contextmanager
def stopped(server: Redis) -> Iterator[None]:
    """The server gets no time: connections stand, nothing is answered."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def log_of(n: int) -> list[Transaction]:
    return [payment(i) for i in range(n)]


def repaired(state: RedisState, log: list[Entry]) -> list[tuple[int, str]]:
    """Records rebuilt from the log."""
    recorded: list[Rebuilt] = []
    Repairer(state, RedisMarks(state), reader(PLAN, log), recorded.append).run()
    return [(rebuilt.view, rebuilt.key) for rebuilt in recorded]


def assert_as_folded(state: RedisState, log: list[Entry]) -> None:
    for view, key in RECORDS:
        assert words_of(state, view, key) == expected_words(PLAN, log, view, key)


def test_a_server_that_hangs_is_given_up_in_time_and_its_records_are_mended(tmp_path: Path) -> None:
    log: list[Entry] = [*log_of(8)]
    with (
        Redis(tmp_path) as server,
        closing(RedisState(compile_program(PLAN), server.url, timeout_seconds=0.5)) as state,
    ):
        state.wire.timeout_seconds = 10  # to get going on a busy machine
        features = RedisFeatures(state)
        features.add(log_of(8))
        state.wire.timeout_seconds = 0.2
        late = [payment(8), payment(9)]
        with stopped(server):
            started = time.monotonic()
            with pytest.raises(StateUnavailable, match="did not answer within 200 ms"):
                features.add(late)
            took = time.monotonic() - started
            assert took > 0.15
            with pytest.raises(StateUnavailable):
                features.add(late)  # a new connection is not answered either
            assert not features.marks.mark(features.records_of(late))
            assert set(features.marks.pending) == {(0, "c1"), (1, "c1\x1fm2"), (1, "c1\x1fm0")}
        # Both were decided on without state; one made it into the ledger. What was sent before
        # the time-out may or may not have been done since.
        log.append(payment(8))
        state.wire.timeout_seconds = 10
        assert features.marks.flush()
        assert set(repaired(state, log)) == {(0, "c1"), (1, "c1\x1fm2"), (1, "c1\x1fm0")}
        assert_as_folded(state, log)
        assert not features.add([payment(9)]).repeated.any()


def test_commands_that_were_given_up_cannot_take_effect_after_the_marks(tmp_path: Path) -> None:
    with (
        Redis(tmp_path) as server,
        closing(RedisState(compile_program(PLAN), server.url, timeout_seconds=0.2)) as state,
    ):
        features = RedisFeatures(state)
        state.wire.timeout_seconds = 10
        features.add(log_of(1))
        state.wire.timeout_seconds = 0.2
        with stopped(server), pytest.raises(StateUnavailable):
            features.add([payment(1)])
        (link,) = state.wire.links()
        (lost,) = link.lost
        state.wire.timeout_seconds = 10
        assert features.marks.mark([(0, "c1")])
        assert link.lost == []
        with closing(redis.Redis.from_url(server.url)) as client:
            alive = client.execute_command("CLIENT", "LIST")
            assert b"id=" in alive
            assert f"id={lost} ".encode() not in alive


def test_a_server_that_lost_everything_is_noticed_and_filled_again(tmp_path: Path) -> None:
    log: list[Entry] = [*log_of(12)]
    restarts: list[str] = []
    with (
        Redis(tmp_path, options=("--appendonly", "no")) as server,
        closing(
            RedisState(
                compile_program(PLAN), server.url, timeout_seconds=10, restarted=restarts.append
            )
        ) as state,
    ):
        state.load(RedisFeatures(state).scratch, 0)
        features = RedisFeatures(state)
        features.add(log_of(12))
        assert state.loaded_through() == 0
        server.kill()
        with pytest.raises(StateUnavailable, match="redis://127"):
            features.add([payment(12)])
        server.start()
        assert state.loaded_through() is None, "what was loaded is gone"
        assert restarts == [f"127.0.0.1:{server.port}"]
        # The functions are gone too: the next call brings them back.
        features.add([payment(12)])
        log.append(payment(12))
        features.marks.mark(RECORDS)
        assert set(repaired(state, log)) == set(RECORDS)
        assert_as_folded(state, log)


def test_records_and_functions_survive_a_kill_with_an_append_only_file(tmp_path: Path) -> None:
    log: list[Entry] = [*log_of(20)]
    with (
        Redis(tmp_path, options=("--appendfsync", "always")) as server,
        closing(RedisState(compile_program(PLAN), server.url, timeout_seconds=10)) as state,
    ):
        features = RedisFeatures(state)
        features.add(log_of(20)[:15])
        server.kill()
        server.start()
        positions = features.add(log_of(20)[15:]).positions[:, 0].tolist()
        assert positions == list(range(16, 21))
        assert_as_folded(state, log)


def test_after_a_failure_calls_fail_at_once_for_a_while() -> None:
    url = f"redis://:password@127.0.0.1:{free_port()}/0"
    program = compile_program(plan_of(aggregate("n")))
    with closing(RedisState(program, url, timeout_seconds=0.2, rest_seconds=60)) as state:
        with pytest.raises(StateUnavailable, match="refused") as error:
            state.read([(0, "c1")])
        assert "password" not in str(error.value)
        with pytest.raises(StateUnavailable, match="a moment ago"):
            state.read([(0, "c1")])


def test_a_server_that_evicts_keys_is_refused(tmp_path: Path) -> None:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    program = compile_program(plan_of(aggregate("n")))
    with (
        Redis(tmp_path, options=options) as server,
        closing(RedisState(program, server.url, timeout_seconds=10)) as state,
        pytest.raises(ConfigurationError, match="noeviction"),
    ):
        state.read([(0, "c1")])


def test_a_full_server_refuses_changes_and_answers_reads(tmp_path: Path) -> None:
    program = compile_program(plan_of(aggregate("n")))
    with (
        Redis(tmp_path) as server,
        closing(RedisState(program, server.url, timeout_seconds=10)) as state,
    ):
        features = RedisFeatures(state)
        features.add(log_of(3))
        with closing(redis.Redis.from_url(server.url)) as client:
            client.config_set("maxmemory", "1mb")
            with pytest.raises(StateUnavailable, match="maxmemory"):
                features.add([payment(3)])
            assert words_of(state, 0, "c1") == expected_words(
                state.program.plan, log_of(3), 0, "c1"
            )
            client.config_set("maxmemory", "0")
        assert features.add([payment(3)]).positions.tolist() == [[4]]
