"""Large bodies are read in turn beside the event loop, and not without a bound."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sentinel.api import large
from sentinel.domain import Overloaded


def test_bodies_beyond_the_bound_are_refused_until_others_are_read() -> None:
    asyncio.run(refused_until_others_are_read())


async def refused_until_others_are_read() -> None:
    bodies, body, go_on = (
        large.LargeBodies(),
        bytes(large.MOST_WAITING_BYTES // 2),
        threading.Event(),
    )

    def slowly() -> int:
        go_on.wait()
        return 1

    waiting = [asyncio.create_task(bodies.read(body, slowly)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="wait to be read"):
        await bodies.read(bytes(large.LARGE_BYTES), lambda: 2)
    assert await bodies.read(b"{}", lambda: 3) == 3, "a small one waits for nobody"
    go_on.set()
    assert await asyncio.gather(*waiting) == [1, 1]
    assert await bodies.read(bytes(large.LARGE_BYTES), lambda: 4) == 4
    bodies.close()


def test_a_body_that_is_larger_than_the_bound_is_read_alone() -> None:
    bodies = large.LargeBodies()
    body = bytes(large.MOST_WAITING_BYTES + 1)
    assert asyncio.run(bodies.read(body, lambda: 5)) == 5
    bodies.close()
