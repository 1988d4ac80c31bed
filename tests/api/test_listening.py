"""New connections come in a few at a time, so that those that are there have their turn."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest
import uvloop

from sentinel.api.listening import CROWDED_SECONDS, TAKEN_AT_ONCE, Listener

KNOCKING = 100


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.setblocking(False)
        yield listener


async def take_in(bound: socket.socket, *, crowded: bool) -> tuple[int, float]:
    """The most connections of two turns of the loop, and the seconds until all are in."""
    made: list[asyncio.BaseTransport] = []

    class Counted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    listener = Listener(bound, Counted, lambda: crowded)
    with contextlib.ExitStack() as stack:
        for _ in range(KNOCKING):
            stack.enter_context(socket.create_connection(bound.getsockname(), timeout=5))
        began, counts = time.monotonic(), [0]
        while len(made) < KNOCKING and time.monotonic() - began < 20:
            counts.append(len(made))
            await asyncio.sleep(0)
        seconds = time.monotonic() - began
        listener.close()
        await listener.wait_closed()
        late = socket.create_connection(bound.getsockname(), timeout=5)
        await asyncio.sleep(0.05)
        late.close()
        assert len(made) == KNOCKING, "a listener that is closed takes in no more"
        for transport in made:
            transport.close()
    most = max(after - before for before, after in zip(counts, counts[2:], strict=False))
    return most, seconds


def test_others_have_their_turn_while_many_come_in(bound: socket.socket) -> None:
    most, _ = uvloop.run(take_in(bound, crowded=False))
    assert 0 < most <= 2 * TAKEN_AT_ONCE


def test_where_no_more_may_be_new_ones_come_in_slowly(bound: socket.socket) -> None:
    _, seconds = uvloop.run(take_in(bound, crowded=True))
    assert seconds >= CROWDED_SECONDS * (KNOCKING // TAKEN_AT_ONCE - 1)
