"""Clients that send prepared requests at once, each over one connection, and cost little CPU."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from typing import Final, cast

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_END_OF_HEADERS: Final = b"\r\n\r\n"


def request(path: str, body: bytes) -> bytes:
    """The bytes of a POST.

    >>> request("/predict", b"{}").partition(b" HTTP")[0]
    b'POST /predict'
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def send_all(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> None:
    """Send requests in order, each by the first client that is free.

    Args:
        port: Of the server, on the loopback interface.
        requests: Whole requests; each must be answered with 200.
        clients: How many connections.
        seconds: Longest time for all.

    Raises:
        RuntimeError: An answer was not 200, or the server closed a connection.
        TimeoutError: It took too long.
    """
    asyncio.run(_send_all(port, iter(requests), clients, seconds))


async def _send_all(port: int, requests: Iterator[bytes], clients: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    crew = []
    for _ in range(clients):
        done: asyncio.Future[None] = loop.create_future()
        transport, _protocol = await loop.create_connection(
            lambda done=done: _Client(requests, done),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
        crew.append((transport, done))
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(done for _, done in crew))
    finally:
        for transport, _ in crew:
            transport.close()


class _Client(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._send_next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(_END_OF_HEADERS)
        if not found:
            return
        length = _LENGTH.search(head + b"\r\n")
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            self._fail(f"answered with {self._received.decode(errors='replace')[:2000]}")
        elif len(body) >= int(length[1]):
            self._received = b""
            self._send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}")

    def _send_next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)

    def _fail(self, problem: str) -> None:
        if not self._done.done():
            self._done.set_exception(RuntimeError(f"A request was {problem}"))
