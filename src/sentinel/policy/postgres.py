"""Versions of the policy beside a ledger in PostgreSQL, for all scorers of a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from sentinel.ledger.connections import Connection, Connections
from sentinel.ledger.database import Database
from sentinel.ledger.postgres import migrate
from sentinel.ledger.schema import Tables
from sentinel.policy.store import Change, changed
from sentinel.policy.versions import PolicyVersion, decode_version

TABLES: Final = Tables(
    what="policy",
    folder=Path(__file__).with_name("migrations"),
    version_table="policy_schema",
    versions=("0001",),
)

_LATEST: Final = "SELECT document FROM {ns}.policy_versions ORDER BY version DESC LIMIT 1"


class PostgresPolicies:
    """Versions in the schema of a ledger; the table is made by the first change.

    Args:
        database: The ledger's.

    Attributes:
        shown: Where they are, without a password.
    """

    def __init__(self, database: Database) -> None:
        self.shown = database.shown
        self._database = database
        self._connections = Connections(database)
        self._there = False

    def latest(self) -> int:
        """See `PolicyStore`."""
        rows = self._ask("SELECT coalesce(max(version), 0) FROM {ns}.policy_versions")
        return int(rows[0][0]) if rows else 0

    def read(self, version: int | None = None) -> PolicyVersion | None:
        """See `PolicyStore`."""
        if version is None:
            rows = self._ask(_LATEST)
        else:
            rows = self._ask(
                "SELECT document FROM {ns}.policy_versions WHERE version = %s", version
            )
        return decode_version(bytes(rows[0][0])) if rows else None

    def history(self, most: int, before: int | None = None) -> list[PolicyVersion]:
        """See `PolicyStore`."""
        rows = self._ask(
            "SELECT document FROM {ns}.policy_versions WHERE version < coalesce(%s, version + 1) "
            "ORDER BY version DESC LIMIT %s",
            before,
            most,
        )
        return [decode_version(bytes(document)) for (document,) in rows]

    def add(self, change: Change) -> PolicyVersion | None:
        """See `PolicyStore`."""
        migrate(self._database, TABLES)

        def put(connection: Connection) -> PolicyVersion | None:
            with connection.transaction():
                connection.execute(
                    self._named("LOCK TABLE {ns}.policy_versions IN SHARE ROW EXCLUSIVE MODE")
                )
                row = connection.execute(self._named(_LATEST)).fetchone()
                made = changed(None if row is None else decode_version(bytes(row[0])), change)
                if made is not None:
                    connection.execute(
                        self._named("INSERT INTO {ns}.policy_versions VALUES (%s, %s)"),
                        (made.version, msgspec.json.encode(made)),
                    )
            return made

        return self._connections.run(put, "change the policy in")

    def close(self) -> None:
        """See `PolicyStore`."""
        self._connections.close()

    def _ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows; none while there is no table."""

        def ask(connection: Connection) -> list[tuple[Any, ...]]:
            if not self._has_table(connection):
                return []
            return connection.execute(self._named(query), values).fetchall()

        return self._connections.run(ask, "read the policy in")

    def _has_table(self, connection: Connection) -> bool:
        if not self._there:
            name = f"{self._database.namespace}.policy_versions"
            row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
            self._there = bool(row and row[0])
        return self._there

    def _named(self, query: str) -> bytes:
        return query.replace("{ns}", f'"{self._database.namespace}"').encode()
