"""Floods at the door: what they add to a scorer's memory, and what single payments notice.

Each flood comes from a process of its own while payments are sent at a fixed rate from another one:
requests of which half is sent, chunks without end, a million header fields, one field of 15 MB, and
thousands of connections that say nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

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
_BEFORE: Final = 1.5
"""Seconds of a flood before payments are looked at; they come by new connections then."""
_HALVES: Final = 500
_IDLE: Final = 5_000
_SAMPLES: Final = 0.05
_HEAD: Final = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


def _connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setblocking(False)
    return connection


def half_sent(port: int, ends: float) -> int:
    """Requests that stop in the middle: of their head, of a small body, of a large one."""
    batch = _HEAD.replace(b"/predict", b"/predict/batch")
    halves = (
        _HEAD + b"X-Half: ",
        _HEAD + b"Content-Length: 900\r\n\r\n" + b"{" * 450,
        batch + b"Content-Length: 19000000\r\n\r\n" + b"[" * 200_000,
    )
    return _hold(port, ends, _HALVES, lambda number: halves[number % len(halves)])


def silent(port: int, ends: float) -> int:
    """Connections that say nothing, each replaced when it is ended."""
    return _hold(port, ends, _IDLE, lambda _number: b"")


def _hold(port: int, ends: float, most: int, text: Callable[[int], bytes]) -> int:
    """So many connections, each opened anew when it is ended; how many there were."""
    opened = 0
    held: list[socket.socket] = []
    while time.time() < ends:
        while len(held) < most and time.time() < ends:
            with contextlib.suppress(OSError):
                connection = _connected(port)
                held.append(connection)
                with contextlib.suppress(BlockingIOError):
                    connection.send(text(opened))
            opened += 1
        time.sleep(0.2)
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
    return opened


def endless_chunks(port: int, ends: float) -> int:
    """Chunks without end: small ones and large ones in turns."""
    head = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    small, large = b"1\r\nx\r\n" * 10_000, b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    return _pour(port, ends, lambda number: (head, small if number % 2 else large), 2**30)


def many_fields(port: int, ends: float) -> int:
    """A million header fields."""
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(10_000))
    return _pour(port, ends, lambda _number: (_HEAD, fields), len(fields) * 100)


def one_field(port: int, ends: float) -> int:
    """One header field of 15 MB."""
    return _pour(port, ends, lambda _number: (_HEAD + b"X: ", b"y" * 65_536), 15_000_000)


def _pour(port: int, ends: float, text: Callable[[int], tuple[bytes, bytes]], most: int) -> int:
    """Eight connections that send without end, each until it is refused; how many there were."""
    counted = [0] * 8

    def pour(place: int) -> None:
        while time.time() < ends:
            counted[place] += 1
            begin, more = text(counted[place])
            sent = 0
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
            ):
                connection.sendall(begin)
                while sent < most and time.time() < ends:
                    connection.sendall(more)
                    sent += len(more)
                    connection.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        if connection.recv(65_536):
                            break
                    connection.settimeout(1)
            time.sleep(0.05)

    threads = [threading.Thread(target=pour, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counted)


FLOODS: Final[dict[str, Callable[[int, float], int]]] = {
    "half_sent": half_sent,
    "endless_chunks": endless_chunks,
    "many_fields": many_fields,
    "one_field": one_field,
    "silent": silent,
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
) -> tuple[Window, float, int]:
    """A window of payments during a flood; MB that it added, and connections that it made."""
    memory = _Memory(server.pid)
    context = multiprocessing.get_context("spawn")
    with memory.looked_at(), context.Pool(1) as pool:
        pool.apply(_started)  # what the process imports is no part of the flood
        ends = time.time() + _BEFORE + SECONDS + 1
        under_way = pool.apply_async(FLOODS[kind], (server.port, ends))
        time.sleep(_BEFORE)
        window = load.send(kind, first, SECONDS).result()
        opened = under_way.get()
    return window, max(memory.most - before, 0) / 1e6, opened


def _started() -> None:
    """Say that the process has started."""


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
        before = int(psutil.Process(server.pid).memory_info().rss)
        payments = int(RATE * SECONDS)
        for number, kind in enumerate(FLOODS):
            calm = load.send(f"calm-{kind}", number * payments, SECONDS).result()
            quiet.append(_p99(calm))
            window, added, opened = _flood(kind, server, load, number * payments, before)
            errors += calm.errors + window.errors
            seen[kind] = {
                "p99_ms": round(_p99(window), 2),
                "memory_added_mb": round(added, 1),
                "errors": window.errors,
                "connections": opened,
            }
    at_rest = float(np.median(quiet))
    return {
        "p99_quiet_ms": round(at_rest, 2),
        "p99_times_quiet": round(max(one["p99_ms"] for one in seen.values()) / at_rest, 2),
        "memory_added_mb": max(one["memory_added_mb"] for one in seen.values()),
        "errors": errors,
        "floods": seen,
    }


PARTS: Final[dict[str, Callable[[Path], Mapping[str, Any]]]] = {"flood": flood}
MUSTS: Final[tuple[tuple[str, str, str, Callable[[Any], bool]], ...]] = (
    ("flood", "memory_added_mb", "at most 64", lambda value: value <= 64),
    ("flood", "p99_times_quiet", "at most 3", lambda value: value <= 3),
    ("flood", "errors", "0", lambda value: value == 0),
)


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status: 1 if a figure is not what it must be."""
    parser = argparse.ArgumentParser(prog="benchmarks door_flood", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sentinel-flood-") as folder:
        found = flood(Path(folder))
    table = Table(title=f"p99 without a flood: {found['p99_quiet_ms']} ms", title_justify="left")
    for name in ("", "p99_ms", "memory_added_mb", "errors", "connections"):
        table.add_column(name, justify="right" if name else "left")
    for kind, one in found["floods"].items():
        table.add_row(kind, *(f"{value:,}" for value in one.values()))
    console = Console()
    console.print(table)
    missed = [row for row in MUSTS if not row[3](found[row[1]])]
    for _, name, words, _holds in missed:
        console.print(f"{name} is {found[name]}, and must be {words}.")
    if options.json:
        print(json.dumps(found))
    return 1 if missed else 0
