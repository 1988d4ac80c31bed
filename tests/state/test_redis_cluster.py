"""State on a Redis Cluster: three real servers that share the keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import redis
from redis.crc import key_slot

from sentinel.domain import StateUnavailable, Transaction
from sentinel.state.redis.resp import pack
from sentinel.state.redis.wire import Wire
from testkit.redis_cluster import SLOTS, RedisCluster
from testkit.servers import Redis
from testkit.shared_records import shared_records
from tests.features.logs import bits_of
from tests.features.plans import every_function
from tests.features.worlds import START_US
from tests.state.test_shared_records import Embedded

PLAN = every_function()


def log_of(n: int) -> list[Transaction]:
    return [
        Transaction(
            transaction_id=f"t{i}",
            event_time_us=START_US + 1_000_000 * i,
            received_at_us=START_US + i,
            amount_minor=i,
            customer_id=f"c{i % 7}",
            merchant_id=f"{{m}}{i % 5}",
        )
        for i in range(n)
    ]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Redis]]:
    """Three primaries, each with a third of the slots."""
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers.primaries


def test_records_with_tails_live_on_every_node(cluster: list[Redis]) -> None:
    with shared_records(PLAN, cluster[2].url) as shared:
        first, second, effects = shared.features(), shared.features(), shared.effects()
        embedded = Embedded(shared)
        log = log_of(120)
        for at in range(0, len(log), 6):
            group, scorer = log[at : at + 6], (first, second)[at // 6 % 2]
            ticket = scorer.next_ticket()
            added = scorer.add(group, ticket)
            assert (bits_of(added.vectors) == bits_of(embedded.run(group))).all()
            if at == 60:
                effects.void(ticket, effects.touched_by(group))
                embedded.take_back(group)
            scorer.settled(ticket)
            scorer.say_settled(effects.records)
        records = [record for some in effects.records.every() for record in some]
        assert len({key_slot(effects.records.layout.key(*r)) * 3 // SLOTS for r in records}) == 3
        assert effects.records.intents() == {}
        effects.compact(records, 0)
        last = log_of(121)[-1:]
        assert (bits_of(second.peek(last)) == bits_of(embedded.run(last))).all()


def test_a_record_that_moves_is_followed(cluster: list[Redis]) -> None:
    with shared_records(PLAN, cluster[1].url) as shared:
        scorer, embedded, log = shared.features(), Embedded(shared), log_of(40)

        def add(some: list[Transaction]) -> None:
            added = scorer.add(some, scorer.next_ticket())
            assert (bits_of(added.vectors) == bits_of(embedded.run(some))).all()

        add(log[:10])
        where = scorer.records.layout.key(0, "c1")
        slot = key_slot(where)
        with ExitStack() as stack:
            clients = [stack.enter_context(closing(redis.Redis(port=n.port))) for n in cluster]
            ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
            source = slot * 3 // SLOTS
            target = (source + 1) % 3
            clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
            clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
            keys = clients[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
            assert where in keys
            clients[source].execute_command(
                "MIGRATE", "127.0.0.1", cluster[target].port, "", 0, 5000, "KEYS", *keys
            )
            add(log[10:20])  # the key is there already, the slot not yet
            for client in clients:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
            add(log[20:30])
            add(log[30:])


def test_a_late_answer_is_not_taken_for_that_to_what_is_asked_next(cluster: list[Redis]) -> None:
    refused: list[str] = []
    runs: dict[str, str] = {}

    def refuse(address: str) -> None:
        refused.append(address)
        raise StateUnavailable(f"{address} is looked at first.")

    keys = [b"late%d" % n for n in range(100)]
    first, last = (next(k for k in keys if key_slot(k) * 3 // SLOTS == n) for n in (0, 2))
    wire = Wire(cluster[0].url, timeout_seconds=20, restarted=refuse, runs=runs)
    with ExitStack() as stack:
        stack.enter_context(closing(wire))
        slow, renewed = (
            stack.enter_context(closing(redis.Redis(port=cluster[n].port))) for n in (0, 2)
        )
        wire.exchange([(key, pack("SET", key, key)) for key in (first, last)])
        address = f"127.0.0.1:{cluster[2].port}"
        runs[address] = "an earlier run"
        renewed.execute_command("CLIENT", "KILL", "TYPE", "normal")
        slow.execute_command("CLIENT", "PAUSE", 500)
        # The first server has been asked when the last one is found to be another.
        with pytest.raises(StateUnavailable, match="looked at first"):
            wire.exchange([(key, pack("STRLEN", key)) for key in (first, last)])
        assert refused == [address]
        assert wire.call(first, "GET", first) == first
        assert wire.call(last, "GET", last) == last
