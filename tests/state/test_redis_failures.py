"""What happens to shared records when Redis does not answer, dies, or forgets."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis

from sentinel.domain import ConfigurationError, StateUnavailable
from sentinel.features.arena import Arena
from sentinel.features.online import OnlineFold
from sentinel.features.plan.program import KIND_PEEK, compile_program
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.layout import EPOCH_SHIFT
from sentinel.state.redis.records import Loaded, Records
from sentinel.state.redis.wire import Wire
from testkit.event_loops import add_on_loop
from testkit.ports import free_port
from testkit.servers import Redis
from testkit.shared_records import shared_records
from tests.features.logs import bits_of
from tests.features.plans import aggregate, every_function, plan_of
from tests.state.test_shared_records import Embedded, payment, words_in, words_of

PLAN = every_function()


@contextmanager
def stopped(server: Redis) -> Iterator[None]:
    """The server gets no time: connections stand, nothing is answered."""
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def test_what_was_sent_to_a_server_that_hangs_is_taken_back(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer, effects, embedded = shared.features(), shared.effects(), Embedded(shared)
        first = [payment(n, n) for n in range(8)]
        scorer.add(first, scorer.next_ticket())
        embedded.run(first)
        scorer.records.wire.timeout_seconds = 0.2
        late, ticket = [payment(8, 8), payment(9, 9)], scorer.next_ticket()
        with stopped(server):
            started = time.monotonic()
            with pytest.raises(StateUnavailable, match="did not answer within 200 ms"):
                scorer.add(late, ticket)
            assert time.monotonic() - started > 0.15
            with pytest.raises(StateUnavailable):
                scorer.let_go()
        scorer.records.wire.timeout_seconds = 20
        # What was sent before the time-out may have been done since; nothing comes after this.
        scorer.let_go()
        effects.void(ticket, effects.touched_by(late))
        assert words_of(shared) == words_in(embedded.fold.arena)
        again = scorer.add(late, scorer.next_ticket())
        assert not again.repeated.any()
        assert (bits_of(again.vectors) == bits_of(embedded.run(late))).all()


def test_no_thread_has_to_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer, effects, embedded = shared.features(), shared.effects(), Embedded(shared)
        first, late = [payment(n, n) for n in range(8)], [payment(8, 8), payment(9, 9)]
        assert add_on_loop(scorer, first[:4], scorer.next_ticket()) is None, "no connection yet"
        scorer.add(first[:4], scorer.next_ticket())
        added = add_on_loop(scorer, first[4:], scorer.next_ticket())
        assert added is not None
        embedded.run(first[:4])
        assert (bits_of(added.vectors) == bits_of(embedded.run(first[4:]))).all()
        scorer.records.wire.timeout_seconds = 0.2
        ticket = scorer.next_ticket()
        with stopped(server), pytest.raises(StateUnavailable, match="did not answer within 200 ms"):
            add_on_loop(scorer, late, ticket)
        assert add_on_loop(scorer, late, scorer.next_ticket()) is None, "it is connected to first"
        scorer.records.wire.timeout_seconds = 20
        scorer.let_go()
        effects.void(ticket, effects.touched_by(late))
        assert words_of(shared) == words_in(embedded.fold.arena)
        again = add_on_loop(scorer, late, scorer.next_ticket())
        assert again is not None
        assert (bits_of(again.vectors) == bits_of(embedded.run(late))).all()


def test_a_server_that_dies_or_forgets_its_functions_is_noticed_on_the_loop(
    tmp_path: Path,
) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer, embedded = shared.features(), Embedded(shared)
        first, second = [payment(1, 1)], [payment(2, 2)]
        scorer.add(first, scorer.next_ticket())
        embedded.run(first)
        with closing(redis.Redis.from_url(server.url)) as client:
            client.execute_command("FUNCTION", "FLUSH")
        added = add_on_loop(scorer, second, scorer.next_ticket())
        assert added is not None, "a thread has brought the functions back"
        assert (bits_of(added.vectors) == bits_of(embedded.run(second))).all()
        server.kill()
        assert add_on_loop(scorer, [payment(3)], scorer.next_ticket()) is None
        with pytest.raises(StateUnavailable):
            scorer.add([payment(3)], scorer.next_ticket())
        server.start()


def test_what_cannot_be_begun_on_the_loop_leaves_nothing_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer, embedded = shared.features(), Embedded(shared)
        first, second = [payment(1, 1)], [payment(2, 2)]
        earlier = scorer.next_ticket()
        scorer.add(first, earlier)
        embedded.run(first)
        scorer.settled(earlier)

        def fails(*_: object) -> None:
            raise OSError("no room for another reader")

        with monkeypatch.context() as patched:
            patched.setattr(scorer.records.wire, "begin", fails)
            with pytest.raises(OSError, match="another reader"):
                add_on_loop(scorer, second, scorer.next_ticket())
        added = add_on_loop(scorer, second, scorer.next_ticket())
        assert added is not None
        assert (bits_of(added.vectors) == bits_of(embedded.run(second))).all()


def test_a_ticket_is_given_while_a_thread_waits_for_redis(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer = shared.features()
        scorer.add([payment(1)], scorer.next_ticket())
        scorer.records.wire.timeout_seconds = 2.0
        with stopped(server), ThreadPoolExecutor(1) as threads:
            waits = threads.submit(scorer.peek, [payment(2)])
            time.sleep(0.1)
            started = time.monotonic()
            tickets = {scorer.next_ticket() for _ in range(10)}
            assert time.monotonic() - started < 1.0
            assert not waits.done()
            with pytest.raises(StateUnavailable):
                waits.result()
        assert len(tickets) == 10


def test_commands_that_were_given_up_end_with_their_connection(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer = shared.features()
        scorer.add([payment(0)], scorer.next_ticket())
        scorer.records.wire.timeout_seconds = 0.2
        with stopped(server), pytest.raises(StateUnavailable):
            scorer.add([payment(1)], scorer.next_ticket())
        (link,) = scorer.records.wire.links()
        (lost,) = link.lost
        scorer.records.wire.timeout_seconds = 20
        scorer.let_go()
        assert link.lost == []
        with closing(redis.Redis.from_url(server.url)) as client:
            alive = client.execute_command("CLIENT", "LIST")
            assert b"id=" in alive
            assert f"id={lost} ".encode() not in alive


def test_a_server_that_lost_everything_is_noticed(tmp_path: Path) -> None:
    told: list[str] = []
    runs: dict[str, str] = {}
    program = compile_program(PLAN)
    with Redis(tmp_path, options=("--appendonly", "no")) as server:
        wires = [
            Wire(server.url, timeout_seconds=20, restarted=told.append, runs=runs) for _ in range(2)
        ]
        records, others = (Records(program, wire) for wire in wires)
        with closing(records), closing(others):
            records.load(Arena(program), Loaded(64, 0), 0)
            scorer = SharedFeatures(records)
            scorer.add([payment(1)], scorer.next_ticket())
            assert others.loaded() == Loaded(64, 0)
            server.kill()
            with pytest.raises(StateUnavailable, match="redis://127"):
                scorer.add([payment(2)], scorer.next_ticket())
            server.start()
            assert records.loaded() is None, "what was loaded is gone"
            assert others.loaded() is None
            assert told == [f"127.0.0.1:{server.port}"], "once for all that ask together"
            # The functions are gone too: the next call brings them back.
            added = scorer.add([payment(3)], scorer.next_ticket())
            assert (added.positions % (1 << EPOCH_SHIFT)).tolist() == [[1, 1]]


def test_records_survive_a_kill_with_an_append_only_file(tmp_path: Path) -> None:
    options = ("--appendfsync", "always")
    with Redis(tmp_path, options=options) as server, shared_records(PLAN, server.url) as shared:
        scorer, embedded = shared.features(), Embedded(shared)
        group = [payment(n, n) for n in range(20)]
        scorer.add(group[:15], scorer.next_ticket())
        embedded.run(group[:15])
        server.kill()
        server.start()
        added = scorer.add(group[15:], scorer.next_ticket())
        assert (added.positions[:, 0] % (1 << EPOCH_SHIFT)).tolist() == list(range(16, 21))
        assert (bits_of(added.vectors) == bits_of(embedded.run(group[15:]))).all()


def test_a_full_server_takes_nothing_in_and_forgets_nothing(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer, effects, embedded = shared.features(), shared.effects(), Embedded(shared)
        first, late = [payment(n, n) for n in range(8)], [payment(8, 8), payment(9, 9)]
        scorer.add(first, scorer.next_ticket())
        embedded.run(first)
        ticket = scorer.next_ticket()
        with closing(redis.Redis.from_url(server.url)) as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(StateUnavailable, match="maxmemory"):
                scorer.add(late, ticket)
            # What is known can still be asked for.
            peeked = scorer.peek(late[:1])
            client.config_set("maxmemory", 0)
        effects.void(ticket, effects.touched_by(late))
        again = scorer.add(late, scorer.next_ticket())
        expected = embedded.run(late)
        assert (bits_of(peeked) == bits_of(expected[:1])).all()
        assert (bits_of(again.vectors) == bits_of(expected)).all()


def test_after_a_failure_calls_fail_at_once_for_a_while() -> None:
    url = f"redis://:password@127.0.0.1:{free_port()}/0"
    program = compile_program(plan_of(aggregate("n")))
    with closing(Records(program, Wire(url, timeout_seconds=0.2, rest_seconds=60))) as records:
        with pytest.raises(StateUnavailable, match="refused") as error:
            records.stored([(0, "c1")])
        assert "password" not in str(error.value)
        with pytest.raises(StateUnavailable, match="a moment ago"):
            records.stored([(0, "c1")])


@pytest.mark.parametrize("url", ["http://127.0.0.1", "127.0.0.1:6379"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"state\.redis_url"):
        Wire(url, timeout_seconds=1)


def test_a_server_that_evicts_keys_is_refused(tmp_path: Path) -> None:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    program = compile_program(plan_of(aggregate("n")))
    with (
        Redis(tmp_path, options=options) as server,
        closing(Records(program, Wire(server.url, timeout_seconds=20))) as records,
        pytest.raises(ConfigurationError, match="noeviction"),
    ):
        records.stored([(0, "c1")])


def test_a_full_server_refuses_changes_and_what_it_holds_stays(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer, embedded = shared.features(), Embedded(shared)
        scorer.add([payment(n) for n in range(3)], scorer.next_ticket())
        embedded.run([payment(n) for n in range(3)])
        with closing(redis.Redis.from_url(server.url)) as client:
            client.config_set("maxmemory", "1mb")
            with pytest.raises(StateUnavailable, match="maxmemory"):
                scorer.add([payment(3)], scorer.next_ticket())
            assert words_of(shared) == words_in(embedded.fold.arena)
            asked = [payment(3)]
            expected = OnlineFold(shared.program, embedded.fold.arena).run(asked, KIND_PEEK)
            assert (bits_of(scorer.peek(asked)) == bits_of(expected)).all()
            client.config_set("maxmemory", "0")
        added = scorer.add([payment(3)], scorer.next_ticket())
        assert (bits_of(added.vectors) == bits_of(embedded.run([payment(3)]))).all()
