"""A real Redis Cluster on the loopback interface: primaries, and a replica for each if wanted.

with RedisCluster(folder, replicas=True) as cluster:
    cluster.take_over(cluster.replicas[0])
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self

import redis

from testkit.ports import free_port
from testkit.servers import Redis, wait_until

PRIMARIES = 3
SLOTS = 16384
NODE_TIMEOUT_MS = 1500


class RedisCluster:
    """Three primaries, each with a third of the slots; the i-th replica is the i-th primary's.

    Args:
        folder: For all nodes.
        replicas: Whether there are any.

    Attributes:
        primaries, replicas: The nodes by their role at the start.
    """

    def __init__(self, folder: Path, *, replicas: bool = False) -> None:
        number = PRIMARIES * (1 + replicas)
        self._buses = [free_port() for _ in range(number)]
        nodes = [Redis(folder / str(n), options=_options(bus)) for n, bus in enumerate(self._buses)]
        self.primaries, self.replicas = nodes[:PRIMARIES], nodes[PRIMARIES:]
        self._running = ExitStack()

    @property
    def url(self) -> str:
        """Of one of the nodes."""
        return self.primaries[-1].url

    def __enter__(self) -> Self:
        nodes = [*self.primaries, *self.replicas]
        for node in nodes:
            self._running.enter_context(node)
        for n, node in enumerate(nodes):
            self.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for n, node in enumerate(self.primaries):
            first, end = n * SLOTS // PRIMARIES, (n + 1) * SLOTS // PRIMARIES
            self.ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for node, bus in zip(nodes[1:], self._buses[1:], strict=True):
            self.ask(nodes[0], "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_until(lambda: all(map(self._is_well, nodes)), 300, "the cluster to form")
        for replica, primary in zip(self.replicas, self.primaries, strict=False):
            name = self.ask(primary, "CLUSTER", "MYID")
            wait_until(lambda r=replica, n=name: self._follows(r, n), 300, "a replica to follow")  # type: ignore[misc]
        for replica in self.replicas:
            wait_until(lambda r=replica: self._is_in_step(r), 300, "a replica to be in step")  # type: ignore[misc]
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def ask(self, node: Redis, *command: object) -> Any:
        """One command to one node."""
        with closing(redis.Redis(port=node.port, socket_timeout=30)) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def is_primary(self, node: Redis) -> bool:
        """Whether a node holds slots by now."""
        try:
            return bool(self.ask(node, "ROLE")[0] == b"master")
        except redis.RedisError:
            return False

    def take_over(self, replica: Redis) -> None:
        """Let a replica take over in agreement with its primary; nothing is lost."""

        def done() -> bool:
            # An attempt that takes longer than five seconds is given up by the servers.
            if not self.is_primary(replica):
                self.ask(replica, "CLUSTER", "FAILOVER")
                time.sleep(1.0)
            return self.is_primary(replica)

        wait_until(done, 120, "the replica to take over")

    @contextmanager
    def cut_off(self, replica: Redis, primary: Redis) -> Iterator[None]:
        """While this lasts, a replica gets nothing of what its primary is told; then that dies.

        The replica takes over, without what it missed.
        """
        assert replica.process is not None
        os.kill(replica.process.pid, signal.SIGSTOP)
        try:
            # What the replica's system had taken in by then is read later all the same.
            self.ask(primary, "CLIENT", "KILL", "TYPE", "replica")
            yield
            primary.kill()
        finally:
            os.kill(replica.process.pid, signal.SIGCONT)
        wait_until(lambda: self.is_primary(replica), 120, "the replica to take over")

    def _is_well(self, node: Redis) -> bool:
        said = self.ask(node, "CLUSTER", "INFO")
        number = len(self.primaries) + len(self.replicas)
        return b"cluster_state:ok" in said and b"cluster_known_nodes:%d" % number in said

    def _follows(self, replica: Redis, primary: bytes) -> bool:
        try:
            return bool(self.ask(replica, "CLUSTER", "REPLICATE", primary) == b"OK")
        except redis.ResponseError:
            return False  # it has not heard of the other one yet

    def _is_in_step(self, replica: Redis) -> bool:
        role = self.ask(replica, "ROLE")
        return bool(role[0] == b"slave" and role[3] == b"connected")


def _options(bus: int) -> tuple[str, ...]:
    return (
        *("--appendonly", "no", "--cluster-enabled", "yes", "--cluster-port", str(bus)),
        *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
        *("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"),
    )
