"""Packed commands to Redis and their replies, in one round trip, within a time limit.

redis-py makes the connections and follows the cluster. What the scoring path calls is packed once
and its replies are read straight from the connection's socket (`resp`), since packing and
pipelining in general form costs more than the server's own work. Every failure of Redis becomes
`StateUnavailable`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from sentinel.domain import ConfigurationError, StateUnavailable
from sentinel.state.redis.exchange import Ended
from sentinel.state.redis.link import Link, server_info
from sentinel.state.redis.resp import pack, parts_of

OLDEST_VERSION: Final = (7, 0)
_TOOK_OVER: Final = "took over"
_REDIRECTED: Final = (MovedError, AskError, TryAgainError)


class NotSent(StateUnavailable):
    """Redis could not be reached, so that nothing was sent."""


class Wire:
    """Connections to one Redis server or to all primaries of a cluster, for one thread.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``; of any node, if it is a cluster.
        timeout_seconds: For one exchange, a new connection included.
        rest_seconds: After a failure, so long everything fails at once.
        restarted: Told the address of a server that runs anew since it was last seen, or that took
            over in a cluster. It may raise StateUnavailable: nothing is sent then.
        runs: Servers seen so far, address to run; shared by wires that are told once together.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        rest_seconds: float = 0.0,
        restarted: Callable[[str], None] | None = None,
        runs: dict[str, str] | None = None,
    ) -> None:
        self.url = url
        self.timeout_seconds = timeout_seconds
        self.rest_seconds = rest_seconds
        self._restarted = restarted
        self._resting_until = 0.0
        self._outdated = False
        self._links: dict[str, Link] = {}
        self._runs: dict[str, str] = {} if runs is None else runs
        self._cluster: Any = None  # a RedisCluster, whose annotations are few
        self._options: dict[str, Any] = {
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
            "health_check_interval": 0,
            "protocol": 2,
        }
        try:
            self._pool = redis.ConnectionPool.from_url(url, **self._options)
        except ValueError as error:
            raise ConfigurationError(
                f"state.redis_url cannot be read: {error}. It looks like redis://HOST:6379/0."
            ) from None

    def exchange(self, commands: Sequence[tuple[bytes, bytes]]) -> list[Any]:
        """Send packed commands, each to where its key lives, and read their replies.

        Args:
            commands: (key, packed command). Those of one key are made in this order.

        Returns:
            The replies in order; an error reply is an exception in its place.

        Raises:
            StateUnavailable: Redis did not answer in time. What was sent may have been done.
        """
        started = time.monotonic()
        if started < self._resting_until:
            raise NotSent(
                f"Redis failed a moment ago; it is asked again in "
                f"{self._resting_until - started:.1f} s."
            )
        deadline = started + self.timeout_seconds
        used: list[Link] = []
        try:
            link = self._single()
            if link is not None:
                link.open()
                used.append(link)
                link.send(b"".join([packed for _, packed in commands]))
                return link.receive(len(commands), deadline)
            return self._exchange_cluster(commands, deadline, used)
        except (RedisError, OSError) as error:
            for link in used:
                link.give_up()
            unavailable = self._unavailable(error)
            raise unavailable if used else NotSent(str(unavailable)) from error
        except BaseException:
            # Another server of the cluster was refused: nobody reads what these are answering.
            for link in used:
                link.give_up()
            raise

    def is_ready(self) -> bool:
        """Whether `begin` can send at once: there is one server, and a connection to it."""
        link = self._links.get("")
        return (
            link is not None
            and self._cluster is None
            and not link.lost
            and time.monotonic() >= self._resting_until
            and link.is_ready()
        )

    def begin(
        self, loop: asyncio.AbstractEventLoop, commands: Sequence[tuple[bytes, bytes]], ended: Ended
    ) -> None:
        """`exchange` on an event loop, without waiting. Only to be called if `is_ready`.

        Args:
            loop: The event loop.
            commands: See `exchange`.
            ended: Called on it later, with the replies or with StateUnavailable.
        """
        link = self._links[""]

        def told(replies: list[Any] | None, error: Exception | None) -> None:
            if error is None:
                ended(replies, None)
                return
            link.give_up()
            unavailable = self._unavailable(error)
            unavailable.__cause__ = error
            ended(None, unavailable)

        packed = b"".join([command for _, command in commands])
        link.begin(loop, packed, len(commands), self.timeout_seconds, told)

    def is_cluster(self) -> bool:
        """Whether commands of one exchange may go to several servers.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        if self._cluster is None and "" in self._links and self._links[""].run_id:
            return False
        try:
            return self._single() is None
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def call(self, key: bytes, *command: bytes | str | int) -> Any:
        """One command; an error reply is raised as StateUnavailable."""
        (reply,) = self.exchange([(key, pack(*command))])
        if isinstance(reply, Exception):
            raise self._unavailable(reply) from reply
        return reply

    def load_library(self, text: str) -> None:
        """Put a function library on every primary.

        Raises:
            StateUnavailable: A server does not answer, or this user may not load functions.
        """
        try:
            self._everywhere("FUNCTION", "LOAD", "REPLACE", text)
        except StateUnavailable as error:
            if isinstance(error.__cause__, NoPermissionError):
                raise StateUnavailable(
                    "Redis has no functions of this version of Sentinel, and the user of "
                    "state.redis_url may not load any. Run `sentinel state load-functions` with a "
                    "user that may (in Compose: docker compose run --rm functions)."
                ) from error
            raise

    def delete_library(self, name: str) -> None:
        """Take a function library from every primary that has it."""
        self._everywhere("FUNCTION", "DELETE", name, but="Library not found")

    def _everywhere(self, *command: bytes | str | int, but: str | None = None) -> None:
        links: list[Link] = []
        try:
            for link in self._all_links():
                links.append(link)
                link.open()
                try:
                    link.ask(*command)
                except ResponseError as error:
                    if but is None or but not in str(error):
                        raise
        except (RedisError, OSError) as error:
            for link in links:
                link.give_up()
            raise self._unavailable(error) from error

    def memory(self) -> tuple[int, int]:
        """Bytes that all primaries use, and may use; the latter is 0 if one of them has no bound.

        Raises:
            StateUnavailable: A server does not answer.
        """
        used, most = 0, []
        try:
            for link in self._all_links():
                link.open()
                info = server_info(link.ask("INFO", "memory"))
                used += int(info["used_memory"])
                most.append(int(info.get("maxmemory", "0")))
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return used, sum(most) if all(most) else 0

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Keys of a pattern on every primary, some at a time."""
        try:
            for link in self._all_links():
                cursor = b"0"
                while True:
                    link.open()
                    cursor, keys = link.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
                    if keys:
                        yield keys
                    if cursor == b"0":
                        break
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def settle(self) -> None:
        """Make sure that nothing sent on a connection that was given up can still take effect.

        What a server of a cluster was told before another one took over from it cannot.

        Raises:
            StateUnavailable: A server does not answer yet.
        """
        for name, link in list(self._links.items()):
            if not link.lost:
                continue
            try:
                link.open()
            except (RedisError, OSError) as error:
                link.give_up()
                if not self._is_replaced(name):
                    raise self._unavailable(error) from error
                del self._links[name]

    def _is_replaced(self, name: str) -> bool:
        """Whether a node is a primary of the cluster no more."""
        if self._cluster is None:
            return False
        try:
            self._cluster.nodes_manager.initialize()
        except (RedisError, OSError):
            return False
        return name not in {node.name for node in self._cluster.get_primaries()}

    def run_at(self, key: bytes) -> str:
        """The run of the server that a key lives on.

        Raises:
            StateUnavailable: It does not answer.
        """
        try:
            link = self._single()
            if link is None:
                self._look_around()
                node = self._cluster.nodes_manager.get_node_from_slot(key_slot(key))
                link = self._node_link(node)
            link.open()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return link.run_id

    def links(self) -> list[Link]:
        """The connections so far."""
        return list(self._links.values())

    def close(self) -> None:
        """Disconnect from all servers."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    # One server.

    def _single(self) -> Link | None:
        """The only server; None in a cluster."""
        if "" not in self._links:
            self._links[""] = Link(self._pool.make_connection(), self._greet)
        first = self._links[""]
        if not first.run_id:
            first.open()  # finds out whether this is a cluster
        return first if self._cluster is None else None

    def _greet(self, link: Link, info: dict[str, str]) -> None:
        version = info.get("redis_version", "0")
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
            raise ConfigurationError(
                f"Redis at {link.address} is version {version}; Sentinel needs 7.0 or newer, "
                "which has functions."
            )
        policy = info.get("maxmemory_policy", "noeviction")
        if policy.startswith("allkeys") and info.get("maxmemory", "0") != "0":
            raise ConfigurationError(
                f"Redis at {link.address} evicts keys (maxmemory-policy {policy}), which would "
                "silently change features. Set maxmemory-policy to noeviction."
            )
        link.run_id = info.get("run_id", "")
        if info.get("redis_mode") == "cluster" and self._cluster is None:
            self._join_cluster()
        # Of a cluster, all that were primaries when it was joined are known without their run.
        before = self._runs.get(link.address, "" if self._cluster is None else _TOOK_OVER)
        self._runs[link.address] = link.run_id
        if before and before != link.run_id and self._restarted is not None:
            self._restarted(link.address)

    # A cluster.

    def _join_cluster(self) -> None:
        options = dict(self._options)
        options.pop("retry")
        self._cluster = RedisCluster.from_url(
            self.url, retry=Retry(NoBackoff(), 2), require_full_coverage=False, **options
        )
        for node in self._cluster.get_primaries():
            self._runs.setdefault(node.name, "")

    def _all_links(self) -> list[Link]:
        single = self._single()
        if single is not None:
            return [single]
        self._look_around()
        return [self._node_link(node) for node in self._cluster.get_primaries()]

    def _node_link(self, node: Any) -> Link:
        link = self._links.get(node.name)
        if link is None:
            pool = self._cluster.get_redis_connection(node).connection_pool
            link = self._links[node.name] = Link(pool.make_connection(), self._greet)
        return link

    def _exchange_cluster(
        self, commands: Sequence[tuple[bytes, bytes]], deadline: float, used: list[Link]
    ) -> list[Any]:
        cluster = self._cluster
        self._look_around()
        by_link: dict[Link, list[int]] = {}
        for i, (key, _) in enumerate(commands):
            node = cluster.nodes_manager.get_node_from_slot(key_slot(key))
            by_link.setdefault(self._node_link(node), []).append(i)
        for link, places in by_link.items():
            link.open()
            used.append(link)
            link.send(b"".join([commands[i][1] for i in places]))
        replies: list[Any] = [None] * len(commands)
        for link, places in by_link.items():
            for i, reply in zip(places, link.receive(len(places), deadline), strict=True):
                replies[i] = reply
        moved = [i for i, reply in enumerate(replies) if isinstance(reply, _REDIRECTED)]
        if moved:
            cluster.nodes_manager.initialize()
            for i in moved:
                replies[i] = self._follow(cluster, commands[i])
        return replies

    def _look_around(self) -> None:
        """See which nodes the cluster has, if another may have taken over."""
        if self._outdated:
            self._cluster.nodes_manager.initialize()
            self._outdated = False

    def _follow(self, cluster: Any, command: tuple[bytes, bytes]) -> Any:
        """A command whose key has moved, by redis-py's own means."""
        try:
            name, *arguments = parts_of(command[1])
            return cluster.execute_command(name.decode(), *arguments)
        except ResponseError as error:
            return error

    def _unavailable(self, error: Exception) -> StateUnavailable:
        self._resting_until = time.monotonic() + self.rest_seconds
        self._outdated = True  # another node may have taken over
        if isinstance(error, redis.exceptions.TimeoutError):
            what = f"did not answer within {1000 * self.timeout_seconds:.0f} ms"
        else:
            what = f"failed: {error}"
        return StateUnavailable(
            f"Feature state in Redis cannot be used: {_without_password(self.url)} {what}. "
            "Check that Redis runs and that state.redis_url is right."
        )


def _without_password(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
