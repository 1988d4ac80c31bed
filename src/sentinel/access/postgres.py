"""Keys beside a ledger in PostgreSQL, for all scorers of a deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from sentinel.access.keys import StoredKey
from sentinel.access.store import NO_KEYS, Change, KeysRead, changed
from sentinel.ledger.connections import Connection
from sentinel.ledger.database import Database
from sentinel.ledger.schema import Tables
from sentinel.ledger.tables_beside import TablesBeside

TABLES: Final = Tables(
    what="keys",
    folder=Path(__file__).with_name("migrations"),
    version_table="access_version",
    versions=("0001",),
)

_STATE: Final = "SELECT version, pepper_check FROM {ns}.access_state"
_READ: Final = """
SELECT version, pepper_check, document FROM {ns}.access_state
LEFT JOIN {ns}.access_keys ON true"""
_PUT: Final = """
INSERT INTO {ns}.access_keys VALUES (%s, %s) ON CONFLICT (key_id)
DO UPDATE SET document = excluded.document"""
_NOTE: Final = """
INSERT INTO {ns}.access_uses VALUES (%s, %s) ON CONFLICT (key_id)
DO UPDATE SET last_used_at_us = greatest(access_uses.last_used_at_us, excluded.last_used_at_us)"""

_decode = msgspec.json.Decoder(StoredKey).decode


class PostgresKeys:
    """Keys in the schema of a ledger; the tables are made by the first change.

    Args:
        database: The ledger's.

    Attributes:
        shown: Where they are, without a password.
    """

    def __init__(self, database: Database) -> None:
        self.shown = database.shown
        self._tables = TablesBeside(database, "access_state")

    def version(self) -> int:
        """See `KeyStore`."""

        def ask(connection: Connection) -> int:
            if not self._tables.are_made(connection):
                return 0
            row = connection.execute(self._tables.named(_STATE)).fetchone()
            return int(row[0]) if row else 0

        return self._tables.run(ask, "read the keys in")

    def read(self) -> KeysRead:
        """See `KeyStore`."""

        def ask(connection: Connection) -> KeysRead:
            return self._read(connection) if self._tables.are_made(connection) else NO_KEYS

        return self._tables.run(ask, "read the keys in")

    def change(self, change: Change, pepper_check: bytes) -> StoredKey:
        """See `KeyStore`."""
        self._tables.make(TABLES)

        def put(connection: Connection) -> StoredKey:
            with connection.transaction():
                connection.execute(self._tables.named(_STATE + " FOR UPDATE"))
                made = changed(self._read(connection), change, pepper_check)
                document = msgspec.json.encode(made)
                connection.execute(self._tables.named(_PUT), (made.key_id, document))
                connection.execute(
                    self._tables.named(
                        "UPDATE {ns}.access_state SET version = version + 1, pepper_check = %s"
                    ),
                    (pepper_check,),
                )
            return made

        return self._tables.run(put, "change a key in")

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """See `KeyStore`."""

        def note(connection: Connection) -> None:
            if self._tables.are_made(connection):
                with connection.transaction(), connection.cursor() as cursor:
                    cursor.executemany(self._tables.named(_NOTE), sorted(uses.items()))

        self._tables.run(note, "note the use of keys in")

    def uses(self) -> Mapping[str, int]:
        """See `KeyStore`."""

        def ask(connection: Connection) -> dict[str, int]:
            if not self._tables.are_made(connection):
                return {}
            query = self._tables.named("SELECT key_id, last_used_at_us FROM {ns}.access_uses")
            return {str(key_id): int(at) for key_id, at in connection.execute(query)}

        return self._tables.run(ask, "read the use of keys in")

    def close(self) -> None:
        """See `KeyStore`."""
        self._tables.close()

    def _read(self, connection: Connection) -> KeysRead:
        rows = connection.execute(self._tables.named(_READ)).fetchall()
        if not rows:
            return NO_KEYS
        keys = [_decode(bytes(document)) for _, _, document in rows if document is not None]
        return KeysRead(int(rows[0][0]), bytes(rows[0][1]), {key.key_id: key for key in keys})
