"""Keys in a file of the workspace, which nobody but its owner can read."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from sentinel.access.keys import StoredKey
from sentinel.access.store import NO_KEYS, Change, KeysRead, changed
from sentinel.workspace_database import WorkspaceDatabase

APPLICATION_ID: Final = 0x534E544B
"""Marks the file as keys ("SNTK"), in SQLite's header."""
FORMAT_VERSION: Final = 1

_TABLES: Final = """
CREATE TABLE state (version INTEGER NOT NULL, pepper_check BLOB NOT NULL);
INSERT INTO state VALUES (0, x'');
CREATE TABLE keys (key_id TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE uses (key_id TEXT PRIMARY KEY, last_used_at_us INTEGER NOT NULL) WITHOUT ROWID;
"""
_NOTE: Final = """
INSERT INTO uses VALUES (?, ?) ON CONFLICT (key_id)
DO UPDATE SET last_used_at_us = max(last_used_at_us, excluded.last_used_at_us)"""

_decode = msgspec.json.Decoder(StoredKey).decode


class SqliteKeys:
    """Keys in a SQLite file; it is made by the first change.

    Args:
        path: The file.

    Attributes:
        shown: The same, as text.
    """

    def __init__(self, path: Path) -> None:
        self.shown = str(path)
        self._file = WorkspaceDatabase(
            path,
            application_id=APPLICATION_ID,
            format_version=FORMAT_VERSION,
            tables=_TABLES,
            holds="keys",
            file_of="keys",
        )

    def version(self) -> int:
        """See `KeyStore`."""
        with self._file.open("ro") as connection:
            if connection is None:
                return 0
            return int(connection.execute("SELECT version FROM state").fetchone()[0])

    def read(self) -> KeysRead:
        """See `KeyStore`."""
        with self._file.open("ro") as connection:
            return NO_KEYS if connection is None else self._read(connection)

    def change(self, change: Change, pepper_check: bytes) -> StoredKey:
        """See `KeyStore`."""
        self._file.make()
        with self._file.open("rw") as connection:
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            made = changed(self._read(connection), change, pepper_check)
            connection.execute(
                "INSERT INTO keys VALUES (?, ?) ON CONFLICT (key_id) "
                "DO UPDATE SET document = excluded.document",
                (made.key_id, msgspec.json.encode(made)),
            )
            connection.execute(
                "UPDATE state SET version = version + 1, pepper_check = ?", (pepper_check,)
            )
            connection.execute("COMMIT")
        return made

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """See `KeyStore`."""
        with self._file.open("rw") as connection:
            if connection is not None:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_NOTE, list(uses.items()))
                connection.execute("COMMIT")

    def uses(self) -> Mapping[str, int]:
        """See `KeyStore`."""
        with self._file.open("ro") as connection:
            if connection is None:
                return {}
            return dict(connection.execute("SELECT key_id, last_used_at_us FROM uses").fetchall())

    def close(self) -> None:
        """See `KeyStore`; a connection lives for one question."""

    def _read(self, connection: sqlite3.Connection) -> KeysRead:
        # One statement: as of one moment, whoever writes meanwhile.
        rows = connection.execute(
            "SELECT version, pepper_check, document FROM state LEFT JOIN keys"
        ).fetchall()
        keys = [_decode(document) for _, _, document in rows if document is not None]
        return KeysRead(rows[0][0], rows[0][1], {key.key_id: key for key in keys})
