"""Single payments at a fixed rate, from a process of its own, whatever the answers do.

Each payment has its time on the schedule, and its latency counts from then: a server that stalls is
charged for every payment that it delays. A few hundred a second need no compiled client, unlike
those of `serving_open_loop`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import select
import socket
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from benchmarks.serving_bodies import Template, http_request, read_templates

CONNECTIONS: Final = 64
DRAIN_SECONDS: Final = 30.0
"""How long answers are waited for after the last payment; what has none by then is an error."""


@dataclass(frozen=True)
class Window:
    """What became of the payments of a window.

    Attributes:
        latencies_ms: From the time on the schedule to the end of the answer, of those answered.
        errors: Payments with another status than 200, or without an answer.
    """

    latencies_ms: list[float]
    errors: int


class Load:
    """A process that sends windows of payments, one after the other.

    Args:
        port: Of the server, on this machine.
        templates: See `serving_bodies`.
        rate: Payments per second.
    """

    def __init__(self, port: int, templates: Path, rate: float) -> None:
        self._port = port
        self._templates = templates
        self._rate = rate
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.shutdown()

    def send(self, prefix: str, first: int, seconds: float) -> Future[Window]:
        """Send a window of payments.

        Args:
            prefix, first: Of the ids; ``first`` is the number of the first payment.
            seconds: For how long.
        """
        total = max(int(self._rate * seconds), 1)
        return self._process.submit(
            _window, self._port, self._templates, prefix, first, total, 1 / self._rate
        )


@cache
def _read(path: Path) -> list[Template]:
    return read_templates(path)


def _window(
    port: int, templates: Path, prefix: str, first: int, total: int, gap_seconds: float
) -> Window:
    bodies = _read(templates)
    requests = [
        http_request("/predict", bodies[n % len(bodies)].body(n, prefix))
        for n in range(first, first + total)
    ]
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    try:
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _drive(connections, requests, gap_seconds)
    finally:
        for connection in connections:
            connection.close()


def _drive(connections: list[socket.socket], requests: list[bytes], gap_seconds: float) -> Window:
    idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    for connection in connections:
        idle.put(connection)
    began = time.perf_counter() + 0.02
    sent: dict[int, int] = {}

    def send() -> None:
        for number, request in enumerate(requests):
            wait = began + number * gap_seconds - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            try:
                connection = idle.get(timeout=DRAIN_SECONDS)
            except queue.Empty:
                return
            sent[connection.fileno()] = number
            with contextlib.suppress(ConnectionError):  # noticed where answers are read
                connection.sendall(request)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    by_number = {connection.fileno(): connection for connection in connections}
    got = dict.fromkeys(by_number, b"")
    latencies: list[float] = []
    errors = 0
    ends = began + len(requests) * gap_seconds + DRAIN_SECONDS
    with select.epoll() as polled:
        for descriptor in by_number:
            polled.register(descriptor, select.EPOLLIN)
        while len(latencies) + errors < len(requests) and time.perf_counter() < ends:
            for descriptor, _ in polled.poll(0.1):
                try:
                    data = by_number[descriptor].recv(65_536)
                except ConnectionError:
                    data = b""
                if not data:  # the server hung up; the connection is not used again
                    polled.unregister(descriptor)
                    errors += descriptor in sent
                    continue
                got[descriptor] += data
                status = _status(got[descriptor])
                if status is None:
                    continue
                if status == 200:
                    due = began + sent[descriptor] * gap_seconds
                    latencies.append(1000 * (time.perf_counter() - due))
                else:
                    errors += 1
                got[descriptor] = b""
                del sent[descriptor]
                idle.put(by_number[descriptor])
    return Window(latencies, len(requests) - len(latencies))


def _status(answer: bytes) -> int | None:
    """The status of an answer; None as long as it is not complete."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
    return int(head[9:12]) if len(body) >= int(length) else None
