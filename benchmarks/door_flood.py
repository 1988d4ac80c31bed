"""Floods at the door: what they add to a scorer's memory, and what single payments notice.

Each flood comes from a process of its own while payments are sent at a fixed rate from another one:
requests of which half is sent, chunks without end, a million header fields, one field of 15 MB,
thousands of connections that say nothing, and connections that come as quickly as they can.

A flood comes from other machines, so here its process has the processor only while neither the
scorer nor the payments want it (`SCHED_IDLE`). What it got through is counted and printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.serving_bodies import write_templates
from benchmarks.stalls_load import Load, Window
from testkit.scratch import Server, make_workspace, serving

RATE: Final = 200.0
"""Single payments per second meanwhile."""
SECONDS: Final = 6.0
"""Of each window."""
_HALVES: Final = 500
_IDLE: Final = 5_000
_IDLE_SECONDS: Final = 5.0
"""The deadline of a head, after which a connection that says nothing is ended: the default of
`api.head_seconds`."""
_SAMPLES: Final = 0.05
_HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


class Sent(NamedTuple):
    """What a flood got through.

    Attributes:
        connections: How many were made.
        bytes: How many the system took.
    """

    connections: int
    bytes: int


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setblocking(False)
    return connection


def half_sent(port: int, ends: float) -> Sent:
    """Requests that stop in the middle: of their head, of a small body, of a large one."""
    batch = _HEAD.replace(b"/predict", b"/predict/batch")
    halves = (
        _HEAD + b"X-Half: ",
        _HEAD + b"Content-Length: 900\r\n\r\n" + b"{" * 450,
        batch + b"Content-Length: 19000000\r\n\r\n" + b"[" * 200_000,
    )
    return _hold(port, ends, _HALVES, lambda number: halves[number % len(halves)])


def idle(port: int, ends: float) -> Sent:
    """Connections that say nothing, replaced as quickly as it takes to hold so many."""
    return _hold(port, ends, _IDLE, lambda _number: b"", _IDLE / _IDLE_SECONDS)


def churn(port: int, ends: float) -> Sent:
    """Connections that say nothing, each replaced as soon as it is ended."""
    return _hold(port, ends, _IDLE, lambda _number: b"")


def _hold(
    port: int,
    ends: float,
    most: int,
    text: Callable[[int], bytes],
    per_second: float = float("inf"),
) -> Sent:
    """Hold so many connections, each replaced when it is ended.

    Args:
        port: Of the scorer.
        ends: When the flood is over, in Unix time.
        most: Connections at once.
        text: What the connection of a number says.
        per_second: Connections that are made in a second, at most.
    """
    opened = sent = 0
    held: list[socket.socket] = []
    began = time.time()
    while time.time() < ends:
        while len(held) < most and opened < (time.time() - began) * per_second + 1:
            with contextlib.suppress(OSError):
                connection = _connected(port)
                held.append(connection)
                with contextlib.suppress(BlockingIOError):
                    sent += connection.send(text(opened))
                opened += 1
            if time.time() >= ends:
                break
        time.sleep(0.2 if per_second == float("inf") else 0.01)
        still = []
        for connection in held:
            try:
                if connection.recv(65_536):
                    still.append(connection)
                    continue
            except BlockingIOError:
                still.append(connection)
                continue
            except OSError:
                pass
            connection.close()
        held = still
    for connection in held:
        connection.close()
    return Sent(opened, sent)


def endless_chunks(port: int, ends: float) -> Sent:
    """Chunks without end: small ones and large ones in turns."""
    head = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    small, large = b"1\r\nx\r\n" * 10_000, b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    return _pour(port, ends, lambda number: (head, small if number % 2 else large), 2**30)


def many_fields(port: int, ends: float) -> Sent:
    """A million header fields."""
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(10_000))
    return _pour(port, ends, lambda _number: (_HEAD, fields), len(fields) * 100)


def one_field(port: int, ends: float) -> Sent:
    """One header field of 15 MB."""
    return _pour(port, ends, lambda _number: (_HEAD + b"X: ", b"y" * 65_536), 15_000_000)


def _pour(port: int, ends: float, text: Callable[[int], tuple[bytes, bytes]], most: int) -> Sent:
    """Eight connections that send without end, each until it is refused."""
    connections, sent = [0] * 8, [0] * 8

    def pour(place: int) -> None:
        while time.time() < ends:
            connections[place] += 1
            begin, more = text(connections[place])
            poured = 0
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
            ):
                connection.sendall(begin)
                while poured < most and time.time() < ends:
                    connection.sendall(more)
                    poured += len(more)
                    connection.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        if connection.recv(65_536):
                            break
                    connection.settimeout(1)
            sent[place] += poured
            time.sleep(0.05)

    threads = [threading.Thread(target=pour, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Sent(sum(connections), sum(sent))


class Flood(NamedTuple):
    """A flood.

    Attributes:
        run: Floods a port until a time.
        before: Seconds that it takes until it is at its height; payments are looked at from then
            on, and come by new connections.
        counts: What the scorer does beside it has to be as it must.
    """

    run: Callable[[int, float], Sent]
    before: float = 1.5
    counts: bool = True


FLOODS: Final = {
    "half_sent": Flood(half_sent),
    "endless_chunks": Flood(endless_chunks),
    "many_fields": Flood(many_fields),
    "one_field": Flood(one_field),
    "idle": Flood(idle, before=_IDLE_SECONDS + 0.5),
    "churn": Flood(churn, counts=False),
}


class _Memory:
    """The most memory of a process, looked at several times a second."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.most = self.now
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def now(self) -> int:
        """Bytes."""
        return int(self._process.memory_info().rss)

    def _look(self) -> None:
        while not self._over.wait(_SAMPLES):
            self.most = max(self.most, self.now)

    @contextlib.contextmanager
    def looked_at(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


def _flood(
    kind: str, server: Server, load: Load, first: int, before: int
) -> tuple[Window, float, Sent]:
    """A window of payments during a flood; MB that it added, and what it got through."""
    flooding = FLOODS[kind]
    memory = _Memory(server.pid)
    context = multiprocessing.get_context("spawn")
    with memory.looked_at(), context.Pool(1) as pool:
        pool.apply(_started)  # what the process imports is no part of the flood
        ends = time.time() + flooding.before + SECONDS + 1
        under_way = pool.apply_async(flooding.run, (server.port, ends))
        time.sleep(flooding.before)
        window = load.send(kind, first, SECONDS).result()
        sent = under_way.get()
    return window, max(memory.most - before, 0) / 1e6, sent


def _started() -> None:
    """Leave the processor to others; the process has started by then."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _p99(window: Window) -> float:
    return float(np.quantile(window.latencies_ms, 0.99))


def flood(folder: Path) -> Mapping[str, Any]:
    """All floods, one after the other, with a quiet window before and after each."""
    write_templates(folder)
    quiet: list[float] = []
    seen: dict[str, dict[str, float]] = {}
    errors = 0
    with (
        serving(make_workspace(folder / "workspace")) as server,
        Load(server.port, folder / "nested.txt", RATE) as load,
    ):
        load.send("warm", 0, SECONDS).result()
        scorer = psutil.Process(server.pid)
        payments = int(RATE * SECONDS)
        for number, kind in enumerate(FLOODS):
            calm = load.send(f"calm-{kind}", number * payments, SECONDS).result()
            quiet.append(_p99(calm))
            # Payments make records, so each flood is held against the memory just before it.
            before = int(scorer.memory_info().rss)
            window, added, sent = _flood(kind, server, load, number * payments, before)
            errors += calm.errors + window.errors
            seen[kind] = {
                "p99_ms": round(_p99(window), 2),
                "memory_added_mb": round(added, 1),
                "errors": window.errors,
                "connections": sent.connections,
                "sent_mb": round(sent.bytes / 1e6, 1),
            }
    at_rest = float(np.median(quiet))
    for one in seen.values():
        one["times_quiet"] = round(one["p99_ms"] / at_rest, 2)
    counts = [seen[kind]["times_quiet"] for kind, one in FLOODS.items() if one.counts]
    return {
        "p99_quiet_ms": round(at_rest, 2),
        "p99_times_quiet": max(counts),
        "p99_times_quiet_churn": seen["churn"]["times_quiet"],
        "memory_added_mb": max(one["memory_added_mb"] for one in seen.values()),
        "errors": errors,
        "idle_connections": seen["idle"]["connections"],
        "floods": seen,
    }


PARTS: Final[dict[str, Callable[[Path], Mapping[str, Any]]]] = {"flood": flood}
MUSTS: Final[tuple[tuple[str, str, str, Callable[[Any], bool]], ...]] = (
    ("flood", "memory_added_mb", "at most 64", lambda value: value <= 64),
    ("flood", "p99_times_quiet", "at most 3", lambda value: value <= 3),
    ("flood", "errors", "0", lambda value: value == 0),
    ("flood", "idle_connections", f"at least {_IDLE:,}", lambda value: value >= _IDLE),
)


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status: 1 if a figure is not what it must be."""
    parser = argparse.ArgumentParser(prog="benchmarks door_flood", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sentinel-flood-") as folder:
        found = flood(Path(folder))
    table = Table(title=f"p99 without a flood: {found['p99_quiet_ms']} ms", title_justify="left")
    figures = ("p99_ms", "times_quiet", "memory_added_mb", "errors", "connections", "sent_mb")
    table.add_column("")
    for name in figures:
        table.add_column(name.replace("_", " "), justify="right")
    for kind, one in found["floods"].items():
        table.add_row(kind, *(f"{one[name]:,}" for name in figures))
    console = Console()
    console.print(table)
    missed = [row for row in MUSTS if not row[3](found[row[1]])]
    for _, name, words, _holds in missed:
        console.print(f"{name} is {found[name]}, and must be {words}.")
    if options.json:
        print(json.dumps(found))
    return 1 if missed else 0
