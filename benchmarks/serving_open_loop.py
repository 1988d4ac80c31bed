"""A client that sends at a fixed rate whether or not answers come: latency without omission.

Each request has its time on the schedule, and its latency counts from then, so that a server (or
this client) that stalls is charged for every request it delays. wrk waits for an answer before it
sends again, and h2load sends one body for ever; hence a client of our own. It is compiled, because
an interpreter would be slower than the servers.
"""

from __future__ import annotations

import ctypes
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from benchmarks.serving_bodies import http_request, read_templates
from benchmarks.serving_load import Load

CONNECTIONS: Final = 256
"""Open at once. If all are busy a request waits for one, and its latency grows."""

_DRAIN_NS: Final = 20_000_000_000
_BUFFER: Final = 16_384
_POLLIN: Final = 1
_MSG_DONTWAIT: Final = 0x40
_MSG_NOSIGNAL: Final = 0x4000
_CLOCK_MONOTONIC: Final = 1
_LENGTH: Final = np.frombuffer(b"content-length:", dtype=np.uint8)

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Bytes = npt.NDArray[np.uint8]
_Longs = npt.NDArray[np.int64]


def _libc(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(ctypes.CDLL(None), name)
    function.restype = result
    function.argtypes = arguments
    return function


def _compiled(function: Callable[_P, _R]) -> Callable[_P, _R]:
    # Without the disk cache of the product's kernels: addresses of the C library change.
    return cast(Callable[_P, _R], numba.njit(nogil=True)(function))


# Pointers go as numbers: that is what compiled code has of an array.
_long, _int, _pointer = ctypes.c_int64, ctypes.c_int, ctypes.c_int64
_send = _libc("send", _long, _int, _pointer, _long, _int)
_recv = _libc("recv", _long, _int, _pointer, _long, _int)
_ppoll = _libc("ppoll", _int, _pointer, _long, _pointer, _pointer)
_clock_gettime = _libc("clock_gettime", _int, _int, _pointer)


@_compiled
def _clock_ns(scratch: _Longs) -> int:
    _clock_gettime(_CLOCK_MONOTONIC, scratch.ctypes.data)
    return int(scratch[0] * 1_000_000_000 + scratch[1])


@_compiled
def _status(answer: _Bytes, size: int) -> int:
    """The status of an answer, -1 as long as it is not complete."""
    length = -1
    at = 0
    while at + 4 <= size:
        if answer[at] == 13 and answer[at + 2] == 13:
            if length >= 0 and size >= at + 4 + length:
                return int((answer[9] - 48) * 100 + (answer[10] - 48) * 10 + answer[11] - 48)
            return -1
        if answer[at] == 13:  # a header begins after the line break
            matches = at + 2 + len(_LENGTH) <= size
            for i in range(len(_LENGTH)):
                matches = matches and answer[at + 2 + i] | 0x20 == _LENGTH[i] | 0x20
            if matches:
                length = 0
                digit = at + 2 + len(_LENGTH)
                while digit < size and answer[digit] != 13:
                    if answer[digit] != 32:
                        length = length * 10 + (answer[digit] - 48)
                    digit += 1
        at += 1
    return -1


@_compiled
def _drive(
    sockets: npt.NDArray[np.int32],
    requests: _Bytes,
    starts: _Longs,
    gap_ns: float,
    latencies: _Longs,
    statuses: _Longs,
) -> int:
    """Send all requests on schedule; returns how many were answered.

    Args:
        sockets: int32 (n_connections,), connected descriptors.
        requests: All requests, one after another.
        starts: int64 (n_requests + 1,), where each begins.
        gap_ns: Between two requests.
        latencies, statuses: int64 (n_requests,), written; status -1 = never answered.
    """
    total = len(starts) - 1
    scratch, timeout = np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.int64)
    # `struct pollfd`: a descriptor, then what is asked (low half) and what happened (high half).
    polled = np.zeros((len(sockets), 2), dtype=np.int32)
    busy = np.zeros(len(sockets), dtype=np.int64)
    idle = np.arange(len(sockets))
    current = np.zeros(len(sockets), dtype=np.int64)
    filled = np.zeros(len(sockets), dtype=np.int64)
    buffers = np.zeros((len(sockets), _BUFFER), dtype=np.uint8)
    n_busy, n_idle, sent, answered = 0, len(sockets), 0, 0
    began = _clock_ns(scratch) + 20_000_000
    ends = began + int(total * gap_ns) + _DRAIN_NS
    now = began
    while answered < total and now < ends:
        now = _clock_ns(scratch)
        while sent < total and n_idle > 0 and now >= began + int(sent * gap_ns):
            n_idle -= 1
            place = idle[n_idle]
            size = starts[sent + 1] - starts[sent]
            _send(
                sockets[place],
                requests.ctypes.data + starts[sent],
                size,
                _MSG_DONTWAIT | _MSG_NOSIGNAL,
            )
            current[place], filled[place] = sent, 0
            polled[n_busy, 0], polled[n_busy, 1] = sockets[place], _POLLIN
            busy[n_busy] = place
            n_busy += 1
            sent += 1
            now = _clock_ns(scratch)
        pause = 100_000_000
        if sent < total and n_idle > 0:
            pause = max(began + int(sent * gap_ns) - now, 0)
        timeout[0], timeout[1] = 0, pause
        if _ppoll(polled.ctypes.data, n_busy, timeout.ctypes.data, 0) <= 0:
            continue
        for at in range(n_busy - 1, -1, -1):
            if polled[at, 1] >> 16 == 0:
                continue
            place = busy[at]
            room = _BUFFER - filled[place]
            into = buffers[place].ctypes.data + filled[place]
            got = _recv(sockets[place], into, room, _MSG_DONTWAIT)
            filled[place] += max(got, 0)
            status = _status(buffers[place], filled[place])
            if status < 0 and got > 0:
                polled[at, 1] = _POLLIN
                continue
            if status >= 0:
                number = current[place]
                latencies[number] = _clock_ns(scratch) - began - int(number * gap_ns)
                statuses[number] = status
                answered += 1
                idle[n_idle] = place
                n_idle += 1
            n_busy -= 1  # a connection that broke is not used again
            polled[at, 0], polled[at, 1] = polled[n_busy, 0], polled[n_busy, 1]
            busy[at] = busy[n_busy]
    return answered


def open_loop(
    port: int, templates: Path, *, prefix: str, first: int, rate: float, seconds: float
) -> Load:
    """Send at a fixed rate for so long and wait for the last answers.

    Args:
        port: Of the server, on this machine.
        templates: See `serving_bodies`.
        prefix, first: Of the ids; ``first`` is the number of the first payment.
        rate: Requests per second.
        seconds: For how long.
    """
    bodies = read_templates(templates)
    total = max(int(rate * seconds), 1)
    requests = [
        http_request("/predict", bodies[n % len(bodies)].body(n, prefix))
        for n in range(first, first + total)
    ]
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    latencies, statuses = np.zeros(total, dtype=np.int64), np.full(total, -1, dtype=np.int64)
    try:
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        answered = _drive(
            np.array([connection.fileno() for connection in connections], dtype=np.int32),
            np.frombuffer(b"".join(requests), dtype=np.uint8),
            np.cumsum([0, *map(len, requests)]),
            1e9 / rate,
            latencies,
            statuses,
        )
        elapsed = time.perf_counter() - began
    finally:
        for connection in connections:
            connection.close()
    seen = latencies[statuses >= 0] / 1000
    p50, p99, p999 = np.percentile(seen, (50, 99, 99.9)) if answered else (np.inf,) * 3
    return Load(
        requests=answered,
        seconds=elapsed,
        errors=int(np.count_nonzero(statuses != 200)),
        p50_us=float(p50),
        p99_us=float(p99),
        p999_us=float(p999),
        max_us=float(seen.max(initial=0.0)),
    )


def compile_client() -> None:
    """Compile ahead, so that no measurement waits for it."""
    nothing = np.zeros(0, dtype=np.int64)
    _drive(
        np.zeros(0, dtype=np.int32),
        np.frombuffer(b"", dtype=np.uint8),
        np.zeros(1, dtype=np.int64),
        1.0,
        nothing,
        nothing.copy(),
    )
