"""Replicas of a Redis Cluster take over while scorers decide, also without what they missed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.domain import SentinelError
from sentinel.features.plan.plan import DAY_US, MINUTE_US
from sentinel.log.entries import FLAG_DEGRADED, GroupKind, decode_decisions, encode_group
from sentinel.pipeline.compare_shared import compare_shared
from sentinel.pipeline.verify_shared import verify_shared
from sentinel.scoring import reconciler
from sentinel.scoring.shared_states import SharedStates
from sentinel.settings import LedgerSettings, Settings, StateSettings
from testkit.redis_cluster import RedisCluster
from testkit.servers import Postgres, wait_until
from tests.features.plans import every_function
from tests.scoring.test_redis_restarts import attached
from tests.state.test_contract import decisions_of
from tests.state.test_shared_records import payment

PLAN = every_function((10 * MINUTE_US, DAY_US))

pytestmark = pytest.mark.slow


class Deciding:
    """A scorer that decides payments one after the other, looked after as in a process."""

    def __init__(self, states: SharedStates, first: int, step: int) -> None:
        self.states = states
        self.state = states.open(PLAN)
        self.state.warm()  # kernels are compiled before anything is under way
        self.numbers = range(first, 10_000_000, step)
        self.degraded: list[bool] = []
        self.problem: Exception | None = None
        self._over = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._decide, self._look)]
        for thread in self._threads:
            thread.start()

    def _decide(self) -> None:
        try:
            self._decide_all()
        except Exception as error:  # noqa: BLE001 -- the test is told
            self.problem = error

    def _decide_all(self) -> None:
        for number in self.numbers:
            if self._over.wait(0.01):
                return
            one = payment(
                number, 1000 * number, customer=f"c{number % 40}", merchant=f"m{number % 7}"
            )
            reading = self.state.add([one])
            self.degraded.append(bool(reading.flags[0] & FLAG_DEGRADED))
            payload = encode_group(decisions_of(PLAN, [one], reading))
            appended = self.states._ledger.append(
                GroupKind.DECISIONS, 1, one.received_at_us, payload, token=reading.ticket
            )
            self.state.settle(reading.ticket, [one], appended)

    def _look(self) -> None:
        while not self._over.wait(0.2):
            try:
                self.states._index.catch_up()
                self.state.look_after()
            except SentinelError:
                continue

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster"), replicas=True) as servers:
        yield servers


def some_seconds_of(scorers: list[Deciding], payments: int) -> None:
    """Until each scorer has decided so many more payments."""
    wanted = [len(scorer.degraded) + payments for scorer in scorers]

    def decided() -> bool:
        assert [scorer.problem for scorer in scorers] == [None] * len(scorers)
        return all(len(s.degraded) >= n for s, n in zip(scorers, wanted, strict=True))

    wait_until(decided, 120, "payments to be decided")


def whole_again(scorers: list[Deciding]) -> None:
    """Until no decision is degraded any more."""

    def whole() -> bool:
        some_seconds_of(scorers, 10)
        return not any(any(scorer.degraded[-10:]) for scorer in scorers)

    wait_until(whole, 120, "decisions to be whole again")


def test_decisions_go_on_and_state_is_the_logs_again(
    cluster: RedisCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Postgres(tmp_path / "postgres", settings={"fsync": "off"}) as postgres:
        shared = Settings(
            workspace=tmp_path / "a",
            ledger=LedgerSettings(url=postgres.make_database("takeover")),
            state=StateSettings(backend="redis", redis_url=cluster.url, timeout_ms=500),
        )
        other = shared.model_copy(update={"workspace": tmp_path / "b"})
        for settings in (shared, other):
            settings.workspace.mkdir()
        with attached(shared) as first, attached(other) as second:
            scorers = [Deciding(first, 0, 2), Deciding(second, 1, 2)]
            try:
                some_seconds_of(scorers, 60)
                assert not any(any(scorer.degraded) for scorer in scorers)

                cluster.take_over(cluster.replicas[0])  # in agreement: nothing is lost
                whole_again(scorers)

                rebuilt = first._metrics.rebuilds + second._metrics.rebuilds
                with cluster.cut_off(cluster.replicas[1], cluster.primaries[1]):
                    started = time.monotonic()
                    some_seconds_of(scorers, 60)
                    # Longer than a server that syncs each second could lose.
                    wait_until(lambda: time.monotonic() - started > 6, 10, "time to pass")
                whole_again(scorers)
                some_seconds_of(scorers, 30)
            finally:
                for scorer in scorers:
                    scorer.stop()

            # A replica that missed it does not know that tickets were settled.
            monkeypatch.setattr(reconciler, "ABANDONED_SECONDS", 3.0)

            def quiet() -> bool:
                for scorer in scorers:
                    scorer.state.look_after()
                    scorer.state.features.say_settled(scorer.state.features.records)
                records = scorers[0].state.features.records
                behind = sum(scorer.state.reconciler.behind for scorer in scorers)
                return not behind and not records.intents() and not records.notes.doubts()

            wait_until(quiet, 180, "quiet")
            assert first._metrics.rebuilds + second._metrics.rebuilds > rebuilt
            held = compare_shared(shared, PLAN)
            assert held is not None
            assert (held.differing, held.behind) == (0, 0), held.examples
            replay = verify_shared(shared, PLAN)
            assert replay is not None
            assert replay.mismatches == 0, replay.examples
            decided = sum(len(scorer.degraded) for scorer in scorers)
            recorded = [g for g in first._reader.groups() if g.kind == GroupKind.DECISIONS]
            assert sum(len(decode_decisions(g.payload).transactions) for g in recorded) == decided
