"""Commands as Redis reads them, and their replies as they come out of a socket."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any, Final

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as TimedOut

_READ_BYTES: Final = 1 << 16
_NOT_YET: Final = object()


def pack(*parts: bytes | str | int) -> bytes:
    r"""A command as Redis reads it.

    >>> pack("GET", b"k")
    b'*2\r\n$3\r\nGET\r\n$1\r\nk\r\n'
    """
    packed = [b"*%d\r\n" % len(parts)]
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        packed.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(packed)


def parts_of(packed: bytes) -> Iterable[bytes]:
    """The parts of a packed command.

    >>> list(parts_of(pack("GET", b"k")))
    [b'GET', b'k']
    """
    at = packed.index(b"\r\n") + 2
    while at < len(packed):
        end = packed.index(b"\r\n", at)
        size = int(packed[at + 1 : end])
        yield packed[end + 2 : end + 2 + size]
        at = end + 4 + size


class Replies:
    """Reads replies from a connected socket.

    Args:
        sock: Of a connection of redis-py, which goes on to own it. Its timeout is in force.
    """

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._timeout: float = sock.gettimeout()
        self._receive = sock.recv_into
        self._buffer = bytearray(_READ_BYTES)
        self._reader: Any = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_NOT_YET,
        )
        # What a TLS connection has read and not decrypted is not told by its socket.
        self._polled: select.poll | None = None
        if not isinstance(sock, ssl.SSLSocket):
            self._polled = select.poll()
            self._polled.register(sock, select.POLLIN)

    def is_quiet(self) -> bool | None:
        """Whether the connection stands and nothing waits to be read; None if it cannot tell."""
        if self._reader.has_data():
            return False
        if self._polled is None:
            return None
        return not self._polled.poll(0)

    def has_come(self) -> bool:
        """Whether the socket has something to read; False where it cannot tell."""
        return self._polled is not None and bool(self._polled.poll(0))

    def receive(self) -> None:
        """Take in what has come, without waiting. The socket has something to read.

        Raises:
            RedisError, OSError: The connection ended.
        """
        received = self._receive(self._buffer, 0, socket.MSG_DONTWAIT)
        if not received:
            raise Disconnected("Connection closed by server.")
        self._reader.feed(self._buffer, 0, received)

    def take(self, found: list[Any], number: int) -> bool:
        """Read replies out of what was received.

        Args:
            found: Gets the replies; one that is an error is an exception in its place.
            number: How many there are to be.

        Returns:
            Whether all have come.

        Raises:
            RedisError: The connection ended.
        """
        while len(found) < number:
            reply = self._reader.gets(False)
            if reply is _NOT_YET:
                return False
            if isinstance(reply, Disconnected):
                raise reply  # the server is loading, or refuses the connection
            found.append(reply)
        return True

    def read(self, number: int, deadline: float) -> list[Any]:
        """Read so many replies.

        Args:
            number: How many.
            deadline: By `time.monotonic`.

        Returns:
            The replies; one that is an error is an exception in its place.

        Raises:
            RedisError: They did not come in time, or the connection ended.
        """
        found: list[Any] = []
        next_reply, hurried = self._reader.gets, False
        try:
            while len(found) < number:
                reply = next_reply(False)
                if reply is not _NOT_YET:
                    if isinstance(reply, Disconnected):
                        raise reply  # the server is loading, or refuses the connection
                    found.append(reply)
                    continue
                left = deadline - time.monotonic()
                if left < self._timeout / 2:
                    self._sock.settimeout(max(left, 0.0005))
                    hurried = True
                received = self._receive(self._buffer)
                if not received:
                    raise Disconnected("Connection closed by server.")
                self._reader.feed(self._buffer, 0, received)
        except TimeoutError as error:
            raise TimedOut("Timeout reading from socket") from error
        finally:
            if hurried:
                self._sock.settimeout(self._timeout)
        return found
