"""Round trips to Redis on an event loop: no thread waits for the replies."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TimedOut

from sentinel.state.redis.resp import Replies

Ended = Callable[[list[Any] | None, Exception | None], None]
"""Called once on the event loop: with the replies, errors among them in their places, or with what
went wrong. What was sent may have been done all the same."""


@dataclass(slots=True, eq=False)
class _Exchange:
    """Commands that were sent, and the replies so far."""

    number: int
    ended: Ended
    timer: asyncio.TimerHandle | None = None
    found: list[Any] = field(default_factory=list)

    def end_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Exchanges:
    """Sends packed commands and reads their replies. Lives on one event loop.

    Several round trips may be under way at once; a server replies in the order of the commands.
    Nobody else uses the connection until all have ended. Where one fails, so do the others.

    Args:
        loop: The event loop.
        sock: A connected socket without TLS.
        replies: Reads from it.

    Attributes:
        loop: The event loop.
        is_over: One has failed; the connection is not used again.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, replies: Replies
    ) -> None:
        self.loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        self._replies = replies
        self._left = memoryview(b"")
        self._writes = False
        self.is_over = False
        self._waiting: deque[_Exchange] = deque()

    @property
    def under_way(self) -> bool:
        """Whether replies are missing."""
        return bool(self._waiting)

    def begin(self, packed: bytes, number: int, seconds: float, ended: Ended) -> None:
        """Begin a round trip.

        Args:
            packed: The commands.
            number: How many there are.
            seconds: In which all replies have to come.
            ended: See `Ended`; not called before this has returned.
        """
        if not self._waiting:
            self.loop.add_reader(self._descriptor, self._read)
        exchange = _Exchange(number, ended)
        exchange.timer = self.loop.call_later(seconds, self._time_out, exchange)
        self._waiting.append(exchange)
        self._left = memoryview(bytes(self._left) + packed if self._left else packed)
        if self._writes:
            return  # there is no room yet
        try:
            self._send()
        except OSError as error:
            self.loop.call_soon(self._fail, error)

    def _send(self) -> None:
        """Send what the socket takes; come back when it takes more."""
        try:
            sent = self._sock.send(self._left, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        self._left = self._left[sent:]
        if self._left and not self._writes:
            self.loop.add_writer(self._descriptor, self._write)
        elif self._writes and not self._left:
            self.loop.remove_writer(self._descriptor)
        self._writes = bool(self._left)

    def _write(self) -> None:
        try:
            self._send()
        except OSError as error:
            self._fail(error)

    def _read(self) -> None:
        try:
            self._replies.receive()
            self._hand_out()
            # An event loop may tell only once of a connection that broke: read to the end of it.
            while self._waiting and self._replies.has_come():
                self._replies.receive()
                self._hand_out()
        except (RedisError, OSError) as error:
            self._fail(error)

    def _hand_out(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            if not self._replies.take(first.found, first.number):
                return
            self._waiting.popleft()
            first.end_timer()
            if not self._waiting:
                self.loop.remove_reader(self._descriptor)
            first.ended(first.found, None)

    def _time_out(self, exchange: _Exchange) -> None:
        # A loop that was held up hears of its timers before its sockets.
        if self._replies.has_come():
            self._read()
        if exchange in self._waiting:
            self._fail(TimedOut("Timeout reading from socket"))

    def _fail(self, error: Exception) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._waiting:
            self.loop.remove_reader(self._descriptor)
        if self._writes:
            self.loop.remove_writer(self._descriptor)
        failed, self._waiting = self._waiting, deque()
        for one in failed:
            one.end_timer()
        for one in failed:
            one.ended(None, error)
