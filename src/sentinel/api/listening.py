"""Takes in new connections, a few in each turn of the event loop.

Left to itself the loop takes in all that wait, so that a thousand of them hold up the payments of
connections that are there already. Here others have their turn in between. Where there are as many
as there may be, each new one costs the end of another, so fewer are taken in: who opens thousands
finds them waiting, instead of opening them again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

TAKEN_AT_ONCE: Final = 8
"""New connections in one turn of the event loop."""
BACKLOG: Final = 2_048
"""Connections that wait to be taken in; the system lets further ones knock again."""
CROWDED_SECONDS: Final = 0.008
"""Between two such turns where there are as many connections as there may be."""
_PAUSE_SECONDS: Final = 0.5


class Listener:
    """Takes connections in from a socket until it is closed.

    Args:
        listener: Bound, and not blocking.
        protocol: Makes what a connection talks to.
        crowded: Whether there are as many connections as there may be.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        crowded: Callable[[], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._protocol = protocol
        self._crowded = crowded
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False
        listener.listen(BACKLOG)
        self._go_on()

    def _go_on(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._take_some)

    def _take_some(self) -> None:
        for _ in range(TAKEN_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # too many open files, for one
                log.warning("A connection could not be taken in: %s.", error)
                self._pause(_PAUSE_SECONDS)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._open(connection))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        if self._crowded():
            self._pause(CROWDED_SECONDS)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(seconds, self._go_on)

    async def _open(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # gone already
            connection.close()

    def close(self) -> None:
        """Take in no more; uvicorn's server calls it."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError, ValueError):
                self._loop.remove_reader(self._listener.fileno())

    async def wait_closed(self) -> None:
        """Wait for those that are being taken in."""
        if self._opening:
            await asyncio.wait(self._opening)
