"""A connection to one Redis server: packed commands out, their replies in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError

from sentinel.state.redis.exchange import Ended, Exchanges
from sentinel.state.redis.resp import Replies, pack


class Link:
    """A connection to one server.

    Attributes:
        run_id: Names the server's run; another after every restart.
        lost: Connections on which no answer came in time. What was sent on them may still be
            waiting to be read, so they are ended from the other side before anything else.
    """

    def __init__(self, connection: Any, greet: Callable[[Link, dict[str, str]], None]) -> None:
        self.connection = connection
        self.run_id = ""
        self.lost: list[int] = []
        self._greet = greet
        self._client_id = 0
        self._replies: Replies | None = None
        self._exchanges: Exchanges | None = None

    @property
    def address(self) -> str:
        """Host and port, or the socket's path."""
        at = self.connection
        return f"{at.host}:{at.port}" if hasattr(at, "host") else str(at.path)

    def open(self) -> None:
        """Connect where there is no connection, or one that the server has closed."""
        if self._replies is not None:
            if self._is_quiet(self._replies):
                return
            # Closed, or with an answer that nobody waits for.
            self.close()
        self.connection.connect()
        self._replies = Replies(self.connection._sock)  # redis-py has no public name for it
        try:
            self._client_id = int(self.ask("CLIENT", "ID"))
            while self.lost:
                self.ask("CLIENT", "KILL", "ID", self.lost[-1])
                self.lost.pop()
            self._greet(self, server_info(self.ask("INFO", "server", "memory")))
        except BaseException:
            self.close()
            raise

    def _is_quiet(self, replies: Replies) -> bool:
        quiet = replies.is_quiet()
        if quiet is not None:
            return quiet
        try:
            return not self.connection.can_read(timeout=0)
        except (RedisError, OSError):
            return False

    def ask(self, *command: bytes | str | int) -> Any:
        """One command and its reply; raises what redis-py raises."""
        self.connection.send_packed_command([pack(*command)], check_health=False)
        return self.connection.read_response()

    def send(self, packed: bytes) -> None:
        """Send packed commands."""
        self.connection.send_packed_command([packed], check_health=False)

    def receive(self, replies: int, deadline: float) -> list[Any]:
        """Read so many replies; one that is an error stands in the place of its reply."""
        assert self._replies is not None  # commands were sent
        return self._replies.read(replies, deadline)

    def is_ready(self) -> bool:
        """Whether `begin` can send at once; never so where the connection is encrypted."""
        if self._exchanges is not None and self._exchanges.under_way:
            return True
        return self._replies is not None and self._replies.is_quiet() is True

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        packed: bytes,
        number: int,
        seconds: float,
        ended: Ended,
    ) -> None:
        """A round trip on an event loop, see `Exchanges`; the connection is ready."""
        assert self._replies is not None
        exchanges = self._exchanges
        if exchanges is None or exchanges.is_over or exchanges.loop is not loop:
            exchanges = Exchanges(loop, self.connection._sock, self._replies)
            self._exchanges = exchanges
        exchanges.begin(packed, number, seconds, ended)

    def give_up(self) -> None:
        """Drop a connection on which an answer is missing."""
        if self._client_id:
            self.lost.append(self._client_id)
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._replies = self._exchanges = None
        self._client_id = 0
        self.connection.disconnect()


def server_info(raw: Any) -> dict[str, str]:
    """What INFO says, by name."""
    text = raw.decode() if isinstance(raw, bytes) else str(raw)
    pairs = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in pairs}
