"""One Redis server for all tests that only need some Redis, started when the first one asks."""

from __future__ import annotations

import atexit
import functools
import tempfile
from pathlib import Path

from testkit.servers import Redis


@functools.cache
def shared_redis() -> Redis:
    """A server that runs until the tests are over."""
    folder = tempfile.TemporaryDirectory(prefix="sentinel-redis-")
    server = Redis(Path(folder.name), options=("--appendonly", "no"))
    server.start()
    atexit.register(folder.cleanup)
    atexit.register(server.stop)  # the last registered runs first
    return server
