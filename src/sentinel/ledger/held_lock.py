"""A lock on a ledger's database that one process of a deployment holds while it runs."""

from __future__ import annotations

import psycopg

from sentinel.ledger.connections import Connection, connect
from sentinel.ledger.database import Database
from sentinel.ledger.postgres_errors import unavailable
from sentinel.ledger.schema import lock_key


class HeldLock:
    """An advisory lock in PostgreSQL; the server lets it go when the process is gone.

    Args:
        database: The ledger's.
        purpose: What the lock is for; each purpose has one holder.
    """

    def __init__(self, database: Database, purpose: str) -> None:
        self._database = database
        self._key = lock_key(database.namespace, purpose)
        self._connection: Connection | None = None

    def take(self) -> bool:
        """Take the lock, or see whether it is still held; a lost connection takes it anew.

        Returns:
            Whether this process holds it; False if another one does.

        Raises:
            LedgerUnavailable: The database cannot be used right now.
        """
        try:
            if self._connection is not None:
                try:
                    self._connection.execute("SELECT 1")
                except psycopg.Error:
                    self.close()
                else:
                    return True
            connection = connect(self._database)
            try:
                row = connection.execute("SELECT pg_try_advisory_lock(%s)", (self._key,)).fetchone()
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            raise unavailable(error, self._database, "take a lock in") from error
        if row is None or not row[0]:
            connection.close()
            return False
        self._connection = connection
        return True

    def close(self) -> None:
        """Let go of it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
