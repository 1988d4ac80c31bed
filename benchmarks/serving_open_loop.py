"""A client that sends at a fixed rate whether or not answers come: latency without omission.

Each request has its time on the schedule, and its latency counts from then, so that a server (or
this client) that stalls is charged for every request it delays. wrk waits for an answer before it
sends again, and h2load sends one body for ever; hence a client of our own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import select
import socket
import time
from dataclasses import asdict
from itertools import count
from pathlib import Path

import numpy as np

from benchmarks.serving_bodies import http_request, read_templates
from benchmarks.serving_load import Load

_DRAIN_SECONDS = 20.0


class Connection:
    """One connection; answers come in the order of its requests, one at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due = 0.0
        self._received = b""

    def receive(self) -> int | None:
        """The status of a complete answer, None as long as there is none."""
        with contextlib.suppress(BlockingIOError):
            piece = self.socket.recv(65_536)
            if not piece:
                raise ConnectionError("The server closed a connection.")
            self._received += piece
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return None
        at = head.lower().index(b"content-length:") + 15
        length = int(head[at : head.find(b"\r\n", at) if b"\r\n" in head[at:] else None])
        if len(body) < length:
            return None
        self._received = body[length:]
        return int(head[9:12])


def run(
    port: int, templates: Path, *, prefix: str, first: int, rate: float, seconds: float
) -> Load:
    """Send for so long, wait for the last answers, and report.

    A connection is opened whenever all are busy, before its request is due.
    """
    bodies = read_templates(templates)
    total = int(rate * seconds)
    requests = [
        http_request("/predict", bodies[n % len(bodies)].body(n, prefix))
        for n in range(first, first + total)
    ]
    waiting = [Connection(port) for _ in range(64)]
    busy: dict[int, Connection] = {}
    poll = select.epoll()
    for connection in waiting:
        poll.register(connection.socket.fileno(), select.EPOLLIN)
    gap = 1.0 / rate
    latencies = np.zeros(total)
    answered = errors = 0
    gc.collect()
    gc.freeze()
    gc.disable()
    clock = time.perf_counter
    started = clock() + 0.05
    ends = started + seconds + _DRAIN_SECONDS
    numbers = count()
    number = next(numbers)
    while answered < total:
        now = clock()
        if now > ends:
            break
        while number < total and now >= started + number * gap:
            if not waiting:
                waiting.append(Connection(port))
                poll.register(waiting[-1].socket.fileno(), select.EPOLLIN)
            connection = waiting.pop()
            connection.due = started + number * gap
            connection.socket.send(requests[number])
            busy[connection.socket.fileno()] = connection
            number = next(numbers)
            now = clock()
        pause = 0.1 if number >= total else max(started + number * gap - now, 0.0)
        # `select` waits for microseconds, `epoll` for whole milliseconds.
        if pause and not select.select([poll], [], [], pause)[0]:
            continue
        for descriptor, _ in poll.poll(0):
            connection = busy[descriptor]
            status = connection.receive()
            if status is not None:
                latencies[answered] = clock() - connection.due
                answered += 1
                errors += status != 200
                waiting.append(busy.pop(descriptor))
    p50, p99, p999 = np.percentile(latencies[:answered], (50, 99, 99.9)) * 1e6
    return Load(
        requests=answered,
        seconds=clock() - started,
        errors=errors + total - answered,
        p50_us=float(p50),
        p99_us=float(p99),
        p999_us=float(p999),
        max_us=float(latencies.max()) * 1e6,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("port", int), ("first", int), ("rate", float), ("seconds", float)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--templates", type=Path, required=True)
    parser.add_argument("--prefix", required=True)
    print(json.dumps(asdict(run(**vars(parser.parse_args())))))
