"""Versions of a document beside a ledger in PostgreSQL, for all scorers of a deployment."""

from __future__ import annotations

from typing import Any, Final, Generic

from sentinel.documents.store import Change, D, Kind, changed
from sentinel.ledger.connections import Connection
from sentinel.ledger.database import Database
from sentinel.ledger.tables_beside import TablesBeside

_LATEST: Final = "SELECT version, document FROM {ns}.{table} ORDER BY version DESC LIMIT 1"


class PostgresDocuments(Generic[D]):
    """Versions in the schema of a ledger; the table is made by the first change.

    Args:
        kind: Of the documents.
        database: The ledger's.

    Attributes:
        kind: The same.
        shown: Where they are, without a password.
    """

    def __init__(self, kind: Kind[D], database: Database) -> None:
        self.kind = kind
        self.shown = database.shown
        self._tables = TablesBeside(database, kind.table)

    def latest(self) -> int:
        """See `DocumentStore`."""
        rows = self._ask("SELECT coalesce(max(version), 0) FROM {ns}.{table}")
        return int(rows[0][0]) if rows else 0

    def read(self, version: int | None = None) -> D | None:
        """See `DocumentStore`."""
        if version is None:
            rows = self._ask(_LATEST)
        else:
            query = "SELECT version, document FROM {ns}.{table} WHERE version = %s"
            rows = self._ask(query, version)
        return self.kind.decode(bytes(rows[0][1])) if rows else None

    def history(self, most: int, before: int | None = None) -> list[D]:
        """See `DocumentStore`."""
        rows = self._ask(
            "SELECT document FROM {ns}.{table} WHERE version < coalesce(%s, version + 1) "
            "ORDER BY version DESC LIMIT %s",
            before,
            most,
        )
        return [self.kind.decode(bytes(document)) for (document,) in rows]

    def add(self, change: Change[D], *, over_unreadable: bool = False) -> D | None:
        """See `DocumentStore`."""
        self._tables.make(self.kind.tables())

        def put(connection: Connection) -> D | None:
            with connection.transaction():
                connection.execute(
                    self._named("LOCK TABLE {ns}.{table} IN SHARE ROW EXCLUSIVE MODE")
                )
                row = connection.execute(self._named(_LATEST)).fetchone()
                latest = None if row is None else (int(row[0]), bytes(row[1]))
                made = changed(self.kind, latest, change, over_unreadable=over_unreadable)
                if made is not None:
                    connection.execute(
                        self._named("INSERT INTO {ns}.{table} VALUES (%s, %s)"),
                        (made[0].version, made[1]),
                    )
            return None if made is None else made[0]

        return self._tables.run(put, f"change the {self.kind.what} in")

    def close(self) -> None:
        """See `DocumentStore`."""
        self._tables.close()

    def _ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows; none while there is no table."""

        def ask(connection: Connection) -> list[tuple[Any, ...]]:
            if not self._tables.are_made(connection):
                return []
            return connection.execute(self._named(query), values).fetchall()

        return self._tables.run(ask, f"read the {self.kind.what} in")

    def _named(self, query: str) -> bytes:
        return self._tables.named(query.replace("{table}", self.kind.table))
