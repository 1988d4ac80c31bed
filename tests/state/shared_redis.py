"""One Redis server for all tests that only need some Redis, started when the first one asks."""

from __future__ import annotations

import atexit
import functools
import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.state.redis_records import RedisState
from testkit.servers import Redis

_prefixes = itertools.count()


@functools.cache
def shared_redis() -> Redis:
    """A server that runs until the tests are over."""
    folder = tempfile.TemporaryDirectory(prefix="sentinel-redis-")
    server = Redis(Path(folder.name), options=("--appendonly", "no"))
    server.start()
    atexit.register(folder.cleanup)
    atexit.register(server.stop)  # the last registered runs first
    return server


@contextmanager
def fresh_state(plan: Plan, timeout_seconds: float = 20.0) -> Iterator[RedisState]:
    """An empty state under a prefix of its own, dropped afterwards."""
    state = RedisState(
        compile_program(plan),
        shared_redis().url,
        timeout_seconds=timeout_seconds,
        prefix=f"test{next(_prefixes)}",
    )
    try:
        yield state
    finally:
        state.drop()
        state.close()


@contextmanager
def second_state(first: RedisState) -> Iterator[RedisState]:
    """The same records for another thread, or as another scorer sees them."""
    prefix = first.base.split(":", 1)[0]
    timeout = first.wire.timeout_seconds
    state = RedisState(first.program, first.wire.url, timeout_seconds=timeout, prefix=prefix)
    try:
        yield state
    finally:
        state.close()
