"""The scoring server: recover, warm up, then listen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, cast

import uvicorn
import uvloop

from sentinel.access.opening import open_gatekeeper
from sentinel.access.principals import Gatekeeper
from sentinel.api.app import Application
from sentinel.api.connections import Connections
from sentinel.api.fast_path import FastPath
from sentinel.api.protocol import protocols_of
from sentinel.api.routes.decision_json import render, render_recorded
from sentinel.arrow_alone import keep_pandas_out
from sentinel.domain import ConfigurationError
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import ApiSettings, Settings
from sentinel.spare_time import wake_quickly
from sentinel.telemetry.starting import StartingFile

log = logging.getLogger(__name__)

_SWITCH_SECONDS: Final = 0.0005
"""How long the event loop may wait for a thread that runs Python, such as one that looks things up.
The interpreter's own 5 ms would be added to the payments of that moment."""
_OTHER_FILES: Final = 256
"""Open files that are not connections of clients."""


def serve(
    settings: Settings,
    *,
    ready: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; whatever has arrived is answered first.

    Args:
        settings: The deployment.
        ready: Told the URL once payments can be scored.
        progress: Told (entries done, entries in all) while state is recovered.

    Raises:
        ConfigurationError: The address is in use, the workspace is not usable, or others than this
            machine could call while there is no key.
    """
    keep_pandas_out()
    uvloop.run(_serve(settings, ready, progress))


class _Server(uvicorn.Server):
    """Uvicorn ends the process by the signal it got; ours has a snapshot to write first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    def stop(self) -> None:
        """Answer what has arrived, then return from `serve`."""
        self.should_exit = True


async def _serve(
    settings: Settings,
    ready: Callable[[str], None] | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    address_file = settings.workspace / "scorer.json"
    async with _gatekeeper(settings) as gatekeeper:
        with _listeners(settings.api) as listeners:
            with StartingFile(settings.workspace) as starting:

                def going_on(done: int, of: int) -> None:
                    starting.progress(done, of)
                    if progress is not None:
                        progress(done, of)

                runtime = await ScoringRuntime.open(
                    settings, render=render, render_recorded=render_recorded, progress=going_on
                )
            try:
                application = Application(runtime, gatekeeper)
                config = uvicorn.Config(
                    application,
                    http=cast(
                        "type[asyncio.Protocol]",
                        protocols_of(_fast_path(application, settings.api)),
                    ),
                    access_log=False,
                    lifespan="off",
                    log_level="warning",
                    log_config=None,  # the log of the process, which masks card numbers
                    timeout_graceful_shutdown=10,
                    server_header=False,
                    ws="none",
                )
                _spare_the_collector()
                sys.setswitchinterval(_SWITCH_SECONDS)
                wake_quickly()
                host, port = listeners[0].getsockname()[:2]
                _write_address(address_file, host, port)
                if ready is not None:
                    ready(f"http://{host}:{port}")
                server = _Server(config)
                loop = asyncio.get_running_loop()
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, server.stop)
                try:
                    await server.serve(sockets=listeners)
                finally:
                    await asyncio.to_thread(application.close)
            finally:
                address_file.unlink(missing_ok=True)
                await runtime.close()


@contextlib.asynccontextmanager
async def _gatekeeper(settings: Settings) -> AsyncIterator[Gatekeeper]:
    """Who says who calls, kept current meanwhile."""
    gatekeeper = await asyncio.to_thread(open_gatekeeper, settings)
    watching = asyncio.create_task(gatekeeper.watch(), name="watch-keys")
    try:
        yield gatekeeper
    finally:
        watching.cancel()
        await asyncio.to_thread(gatekeeper.close)


def _fast_path(application: Application, limits: ApiSettings) -> FastPath:
    """What reads requests, with the bounds of this process."""
    connections = Connections(
        limits,
        min(limits.max_connections, _room_for_connections()),
        max(limits.max_buffered_bytes, application.door.largest_body),
    )
    application.metrics.connections = lambda: connections.open
    return FastPath(
        application.intake,
        application.door,
        application.problems,
        connections,
        application.rates,
        application.metrics.payment_answers,
        limits.admin_port,
        request_ids=application.request_ids,
        requests=application.requests,
    )


@contextlib.contextmanager
def _listeners(limits: ApiSettings) -> Iterator[list[socket.socket]]:
    """The sockets of the API and, where there is one, of the admin port."""
    with contextlib.ExitStack() as listening:
        listeners = [_listen(limits.host, limits.port, "SENTINEL_API__PORT")]
        listening.enter_context(listeners[0])
        if limits.admin_port:
            admin = _listen(limits.host, limits.admin_port, "SENTINEL_API__ADMIN_PORT")
            listeners.append(listening.enter_context(admin))
        yield listeners


def _listen(host: str, port: int, setting: str) -> socket.socket:
    try:
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}:{port}: {error.strerror}. Stop what uses the port, or set "
            f"{setting} to a free one."
        ) from None
    listener.setblocking(False)
    return listener


def _room_for_connections() -> int:
    """How many connections the process may have open, once its soft limit is its hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(soft - _OTHER_FILES, 64)


def _spare_the_collector() -> None:
    """Keep what lives as long as the process out of garbage collection, and make it short.

    Payments make no cycles: counting references frees them. What is left is a rare cycle of an
    error or of a connection. A collection looks at what was made since the one before, of which
    there is much when a large batch comes: 50,000 objects take 5 to 15 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 100, 20)


def _write_address(path: Path, host: str, port: int) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": os.getpid(), "host": host, "port": port}))
    partial.replace(path)
