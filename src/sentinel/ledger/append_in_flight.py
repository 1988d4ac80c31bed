"""An append under way on an event loop: no thread waits for PostgreSQL.

A thread that waits has to be woken twice for each group, with caches that are full of what others
did meanwhile. Here the event loop is told by the socket.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Any, Final

import psycopg
from psycopg import pq

from sentinel.ledger.append_call import Row, row_of, send_append

_LOOK_SECONDS: Final = 1.0

Ended = Callable[[Row | None, psycopg.Error | None], None]
"""Called once on the event loop, with what the statement returned or with what went wrong."""


class AppendInFlight:
    """Sends an append and reads its answer. Lives on one event loop.

    Nobody else uses the connection until ``ended`` was called.

    Args:
        loop: The event loop.
        connection: Made ready by `prepare_append`.
        values: Of `append_values`.
        ended: See `Ended`; not called before the constructor has returned.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: psycopg.Connection[Any],
        values: Any,
        ended: Ended,
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._connected = connection.pgconn
        self._ended = ended
        self._result: pq.abc.PGresult | None = None
        self._writes = False
        self._is_over = False
        self._socket = self._connected.socket
        self._timer = loop.call_later(_LOOK_SECONDS, self._look)
        self._reads = False
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            send_append(connection, values)
            self._flush()
            self._loop.add_reader(self._socket, self._read)
            self._reads = True
        except Exception as error:  # noqa: BLE001 -- sent or not, the connection is not used again
            self._loop.call_soon(self._end, _as_psycopg(error))

    def _flush(self) -> None:
        """Send what the socket takes; come back when it takes more."""
        left = bool(self._connected.flush())
        self._check()
        if left and not self._writes:
            self._loop.add_writer(self._socket, self._write)
        elif self._writes and not left:
            self._loop.remove_writer(self._socket)
        self._writes = left

    def _check(self) -> None:
        """Raise if the connection is lost: libpq may close it, and nothing would ever be heard."""
        if self._connected.status == pq.ConnStatus.BAD:
            raise psycopg.OperationalError("the connection is lost")

    def _write(self) -> None:
        try:
            self._flush()
        except Exception as error:  # noqa: BLE001 -- whoever waits is told
            self._end(_as_psycopg(error))

    def _read(self) -> None:
        try:
            self._connected.consume_input()
            # An event loop may tell only once of a connection that broke: read to the end of it.
            while not (complete := self._take_results()) and self._poll.poll(0):
                self._connected.consume_input()
            if not complete:
                self._check()
        except Exception as error:  # noqa: BLE001 -- whoever waits is told
            self._end(_as_psycopg(error))
        else:
            if complete:
                self._end(None)

    def _look(self) -> None:
        """See whether the socket has something to say that nobody was told."""
        self._timer = self._loop.call_later(_LOOK_SECONDS, self._look)
        if self._poll.poll(0):
            self._read()

    def _take_results(self) -> bool:
        """Take what the answer says so far; whether it is complete."""
        connected = self._connected
        while not connected.is_busy():
            result = connected.get_result()
            if result is None:
                return True
            self._result = result
        return False

    def _end(self, error: psycopg.Error | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._timer.cancel()
        if self._reads:
            self._loop.remove_reader(self._socket)
        if self._writes:
            self._loop.remove_writer(self._socket)
        row: Row | None = None
        if error is None:
            try:
                row = row_of(self._connection, self._result)
            except Exception as refused:  # noqa: BLE001 -- whoever waits is told
                error = _as_psycopg(refused)
        self._ended(row, error)


def _as_psycopg(error: Exception) -> psycopg.Error:
    return error if isinstance(error, psycopg.Error) else psycopg.InternalError(repr(error))
