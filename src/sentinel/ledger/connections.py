"""Connections to the database of a PostgreSQL ledger: how they are set up, kept and replaced."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import psycopg
from psycopg import conninfo

from sentinel.domain import ConfigurationError, LedgerUnavailable
from sentinel.ledger.database import Database
from sentinel.ledger.postgres_errors import is_passing, unavailable

T = TypeVar("T")
Connection = psycopg.Connection[Any]

# A commit must be on disk before it is answered, whatever the server's default; a stronger
# default, as with synchronous standbys, stays. Only READ COMMITTED lets a statement see what was
# committed while it waited for the lock. A client that is gone must not hold a writer's lock long.
_SET_UP: Final = """
SELECT set_config('statement_timeout', %s, false),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('client_connection_check_interval', '5s', false),
       set_config('default_transaction_isolation', 'read committed', false),
       set_config('synchronous_commit',
                  CASE WHEN current_setting('synchronous_commit') = 'remote_apply'
                       THEN 'remote_apply' ELSE 'on' END, false)"""
_ALIVE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""A server that vanishes without a word is noticed in about so many seconds, or milliseconds."""
_MOST_IDLE: Final = 4


def connect(database: Database) -> Connection:
    """A connection in autocommit mode.

    Where the URL names several hosts, it is the one that can be written: what a standby lacks
    would be missing from a state that was recovered from it.

    Raises:
        ConfigurationError: The URL cannot be understood.
        psycopg.Error: There is no connection to be had.
    """
    url = "postgresql" + database.url[database.url.index("://") :]
    try:
        given = conninfo.conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # What it says may quote the password.
        raise ConfigurationError(
            f"ledger.url cannot be understood. It was read as {database.shown}; percent-encode "
            "what is special in a password."
        ) from None
    options: dict[str, Any] = {"application_name": "sentinel", **_ALIVE, **given}
    options.setdefault("connect_timeout", database.connect_seconds)
    options.setdefault("target_session_attrs", "read-write")
    connection: Connection = psycopg.connect(autocommit=True, **options)
    try:
        connection.execute(_SET_UP, (f"{int(database.statement_seconds * 1000)}ms",))
    except BaseException:
        connection.close()
        raise
    return connection


class Connections:
    """Connections that are taken for one statement at a time, by any thread.

    Args:
        database: Where they lead.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def run(self, job: Callable[[Connection], T], doing: str) -> T:
        """Do something that can be done twice, once more where the connection was stale.

        Args:
            job: Called with a connection that no other thread uses meanwhile.
            doing: What it is, as in "read".

        Raises:
            LedgerUnavailable: The database cannot be used right now.
        """
        try:
            while True:
                connection, fresh = self._take()
                try:
                    with self._returned(connection):
                        return job(connection)
                except psycopg.Error as error:
                    if fresh or not (connection.closed and is_passing(error)):
                        raise
        except psycopg.Error as error:
            raise unavailable(error, self.database, doing) from error

    def close(self) -> None:
        """Release all that are not in use, and keep none from now on."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _take(self) -> tuple[Connection, bool]:
        """A connection and whether it was made just now."""
        with self._lock:
            if self._closed:
                raise LedgerUnavailable(
                    f"The ledger {self.database.shown} is closed: open it again."
                )
            if self._idle:
                return self._idle.pop(), False
        return connect(self.database), True

    @contextlib.contextmanager
    def _returned(self, connection: Connection) -> Iterator[None]:
        try:
            yield
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if not self._closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
        connection.close()
