"""Tables beside a ledger in PostgreSQL that the first change makes: keys, versioned documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sentinel.ledger.connections import Connection, Connections
from sentinel.ledger.database import Database
from sentinel.ledger.postgres import migrate
from sentinel.ledger.schema import Tables

T = TypeVar("T")


class TablesBeside:
    """Tables in the schema of a ledger, and connections to ask them.

    Args:
        database: The ledger's.
        first: One of the tables, by which it is seen whether they are there.
    """

    def __init__(self, database: Database, first: str) -> None:
        self._database = database
        self._first = first
        self._connections = Connections(database)
        self._made = False
        self._readable = False

    def make(self, tables: Tables) -> None:
        """Make the tables, or bring them up to date; see `migrate`."""
        migrate(self._database, tables)

    def run(self, job: Callable[[Connection], T], doing: str) -> T:
        """See `Connections.run`."""
        return self._connections.run(job, doing)

    def are_made(self, connection: Connection) -> bool:
        """Whether there was ever a change. Tables that were there and are gone are an error."""
        if not self._made:
            name = f"{self._database.namespace}.{self._first}"
            row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
            self._made = bool(row and row[0])
        return self._made

    def may_be_read(self, connection: Connection) -> bool:
        """Whether this role may read the first of the tables, which is there."""
        if not self._readable:
            query = f"SELECT has_table_privilege('{{ns}}.{self._first}', 'SELECT')"
            row = connection.execute(self.named(query)).fetchone()
            self._readable = bool(row and row[0])
        return self._readable

    def named(self, query: str) -> bytes:
        """A statement in which ``{ns}`` stands for the schema."""
        return query.replace("{ns}", f'"{self._database.namespace}"').encode()

    def close(self) -> None:
        """Release the connections."""
        self._connections.close()
