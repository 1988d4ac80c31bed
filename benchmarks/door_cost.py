"""What keys cost a payment: one process, one scorer, two doors in front of it, in turns.

Both ways go from the bytes of a request to the bytes of its answer, through the protocol, the door,
the writer and the log. One has no keys. The other has a key with a sender's prefix, whose holder
is recorded. What is counted is CPU of the event loop's thread, in blocks of a few milliseconds that
take turns, so that whatever else the machine does falls on both alike.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any, Final

import uvicorn
import uvloop
from uvicorn.server import ServerState

from sentinel.access.keys import Pepper
from sentinel.access.managing import KeyRights, create_key
from sentinel.access.principals import Gatekeeper
from sentinel.access.scopes import Scope
from sentinel.access.sqlite import SqliteKeys
from sentinel.api.app import Application
from sentinel.api.connections import Connections
from sentinel.api.fast_path import FastPath
from sentinel.api.protocol import PaymentProtocol
from sentinel.api.routes.decision_json import render, render_recorded
from sentinel.scoring.runtime import ScoringRuntime
from testkit.payments import payments
from testkit.scratch import make_workspace

_CONNECTIONS: Final = 8
_GROUPS: Final = 4
"""In a block: so many times a payment on each connection."""
_WARM_BLOCKS: Final = 20
_ADDRESS: Final = ("127.0.0.1", 8000)
_PREFIX: Final = "cost"


def speed(folder: Path, blocks: int) -> Mapping[str, Any]:
    """CPU of the event loop by payment, with keys and without."""
    return uvloop.run(_speed(folder, blocks))


async def _speed(folder: Path, blocks: int) -> Mapping[str, Any]:
    settings = make_workspace(folder / "w", trees=200, leaves=31)
    pepper = Pepper(b"the pepper of a benchmark")
    store = SqliteKeys(folder / "keys.db")
    rights = KeyRights(scopes=frozenset({Scope.SCORE}), sender=_PREFIX)
    key = create_key(store, pepper, "shop", rights)
    runtime = await ScoringRuntime.open(settings, render=render, render_recorded=render_recorded)
    try:
        doors = {
            "without": _Way(runtime, SqliteKeys(folder / "none.db"), pepper, ""),
            "with": _Way(runtime, store, pepper, key),
        }
        bodies = payments(5, prefix=_PREFIX)
        costs: dict[str, list[float]] = {name: [] for name in doors}
        for block in range(_WARM_BLOCKS + blocks):
            for name in list(doors) if block % 2 else reversed(list(doors)):
                cost = await doors[name].block(bodies)
                if block >= _WARM_BLOCKS:
                    costs[name].append(cost)
        for door in doors.values():
            await asyncio.to_thread(door.close)
    finally:
        await runtime.close()
    added = sorted(a - b for a, b in zip(costs["with"], costs["without"], strict=True))
    low, _, high = quantiles(added, n=4)
    middle = added[len(added) // 10 : -len(added) // 10 or None]
    return {
        "cpu_added_us": round(fmean(middle), 2),
        "quartiles_of_blocks_us": [round(low, 2), round(high, 2)],
        "cpu_us_without": round(median(costs["without"]), 1),
        "payments_each": blocks * _GROUPS * _CONNECTIONS,
    }


class _Way:
    """Connections through a door of their own to one scorer.

    Args:
        runtime: The scorer.
        store: Where the door's keys are.
        pepper: Theirs.
        key: What the clients send; empty = nothing.
    """

    def __init__(self, runtime: ScoringRuntime, store: SqliteKeys, pepper: Pepper, key: str):
        gatekeeper = Gatekeeper(store, lambda: pepper, outage_seconds=3_600)
        gatekeeper.start()
        self._gatekeeper = gatekeeper
        self._application = Application(runtime, gatekeeper)
        limits = runtime.settings.api
        fast_path = FastPath(
            self._application.intake,
            self._application.door,
            self._application.problems,
            Connections(limits, limits.max_connections, limits.max_buffered_bytes),
            self._application.rates,
            self._application.metrics.payment_answers,
        )
        self._extra = f"Authorization: Bearer {key}\r\n" if key else ""
        self._answered = asyncio.Event()
        self._open = 0
        config = uvicorn.Config(self._application, lifespan="off", ws="none")
        self._protocols: list[PaymentProtocol] = []
        for _ in range(_CONNECTIONS):
            protocol = PaymentProtocol(fast_path, config, ServerState(), {})
            protocol.connection_made(_Transport(self))
            self._protocols.append(protocol)

    async def block(self, bodies: Iterator[Mapping[str, Any]]) -> float:
        """CPU of this thread for each payment of a block, microseconds."""
        groups = [[self._request(next(bodies)) for _ in self._protocols] for _ in range(_GROUPS)]
        began = time.thread_time_ns()
        for requests in groups:
            self._answered.clear()
            self._open = len(requests)
            for protocol, request in zip(self._protocols, requests, strict=True):
                protocol.data_received(request)
            await self._answered.wait()
        return (time.thread_time_ns() - began) / 1_000 / (_GROUPS * _CONNECTIONS)

    def answered(self, data: bytes) -> None:
        """Take an answer.

        Raises:
            RuntimeError: It is an error.
        """
        if not data.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(data.decode())
        self._open -= 1
        if not self._open:
            self._answered.set()

    def close(self) -> None:
        """End its threads."""
        self._application.close()
        self._gatekeeper.close()

    def _request(self, body: Mapping[str, Any]) -> bytes:
        text = json.dumps(body).encode()
        head = (
            "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
            f"{self._extra}Content-Length: {len(text)}\r\n\r\n"
        )
        return head.encode() + text


class _Transport(asyncio.Transport):
    """A connection without a network; what is written goes to the measurement."""

    def __init__(self, way: _Way) -> None:
        super().__init__({"sockname": _ADDRESS, "peername": _ADDRESS})
        self._way = way

    def write(self, data: Any) -> None:
        self._way.answered(bytes(data))

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False
