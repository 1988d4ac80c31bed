"""A round trip to Redis on an event loop: no thread waits for the replies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as TimedOut

from sentinel.state.redis.resp import Replies

Ended = Callable[[list[Any] | None, Exception | None], None]
"""Called once on the event loop: with the replies, errors among them in their places, or with what
went wrong. What was sent may have been done all the same."""


class Exchange:
    """Sends packed commands and reads their replies. Lives on one event loop.

    Nobody else uses the connection until ``ended`` was called.

    Args:
        loop: The event loop.
        sock: A connected socket without TLS.
        replies: Reads from it.
        packed: The commands.
        number: How many there are.
        seconds: In which all replies have to come.
        ended: See `Ended`; not called before the constructor has returned.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        replies: Replies,
        packed: bytes,
        number: int,
        seconds: float,
        ended: Ended,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._descriptor = sock.fileno()
        self._replies = replies
        self._left = memoryview(packed)
        self._writes = False
        self._is_over = False
        self._found: list[Any] = []
        self._number = number
        self._ended = ended
        loop.add_reader(self._descriptor, self._read)
        self._timer = loop.call_later(seconds, self._time_out)
        try:
            self._send()
        except OSError as error:
            loop.call_soon(self._end, error)

    def _send(self) -> None:
        """Send what the socket takes; come back when it takes more."""
        try:
            sent = self._sock.send(self._left, socket.MSG_DONTWAIT)
        except BlockingIOError:
            sent = 0
        self._left = self._left[sent:]
        if self._left and not self._writes:
            self._loop.add_writer(self._descriptor, self._write)
        elif self._writes and not self._left:
            self._loop.remove_writer(self._descriptor)
        self._writes = bool(self._left)

    def _write(self) -> None:
        try:
            self._send()
        except OSError as error:
            self._end(error)

    def _read(self) -> None:
        try:
            complete = self._replies.take(self._found, self._number)
            # An event loop may tell only once of a connection that broke: read to the end of it.
            while not complete and self._replies.has_come():
                complete = self._replies.take(self._found, self._number)
        except (RedisError, OSError) as error:
            self._end(error)
        else:
            if complete:
                self._end(None)

    def _time_out(self) -> None:
        # A loop that was held up hears of its timers before its sockets.
        if self._replies.has_come():
            self._read()
        self._end(TimedOut("Timeout reading from socket"))

    def _end(self, error: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._timer.cancel()
        self._loop.remove_reader(self._descriptor)
        if self._writes:
            self._loop.remove_writer(self._descriptor)
        self._ended(self._found if error is None else None, error)
