"""Keys in a file of the workspace, which nobody but its owner can read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from sentinel.access.keys import StoredKey
from sentinel.access.store import NO_KEYS, Change, KeysRead, changed
from sentinel.domain import LedgerUnavailable, WorkspaceError

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
_LOCK_SECONDS: Final = 2.0

_decode = msgspec.json.Decoder(StoredKey).decode


class SqliteKeys:
    """Keys in a SQLite file; it is made by the first change.

    Args:
        path: The file.

    Attributes:
        shown: The same, as text.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shown = str(path)

    def version(self) -> int:
        """See `KeyStore`."""
        with self._open("ro") as connection:
            if connection is None:
                return 0
            return int(connection.execute("SELECT version FROM state").fetchone()[0])

    def read(self) -> KeysRead:
        """See `KeyStore`."""
        with self._open("ro") as connection:
            return NO_KEYS if connection is None else self._read(connection)

    def change(self, change: Change, pepper_check: bytes) -> StoredKey:
        """See `KeyStore`."""
        self._make()
        with self._open("rw") as connection:
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
        with self._open("rw") as connection:
            if connection is not None:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_NOTE, list(uses.items()))
                connection.execute("COMMIT")

    def uses(self) -> Mapping[str, int]:
        """See `KeyStore`."""
        with self._open("ro") as connection:
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

    @contextlib.contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection | None]:
        """A connection for one question; None if there is no file.

        A file may be replaced while a scorer runs, so no connection is kept.
        """
        if not self._path.exists():
            yield None
            return
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=_LOCK_SECONDS,
            )
            self._check(connection)
            yield connection
        except sqlite3.Error as error:
            raise LedgerUnavailable(
                f"The keys in {self._path} cannot be used: {error}. Make the file readable and "
                "writable for this process, or bring it back from a backup."
            ) from error
        finally:
            if connection is not None:
                connection.close()

    def _check(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise WorkspaceError(
                f"{self._path} is no file of keys. Move it away, or use another workspace."
            )
        if version != FORMAT_VERSION:
            raise WorkspaceError(
                f"{self._path} has format {version}, this Sentinel reads {FORMAT_VERSION}. Install "
                "the version that wrote it."
            )

    def _make(self) -> None:
        """Make the file, whole or not at all; another process may do the same."""
        if self._path.exists():
            return
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            connection = sqlite3.connect(partial, isolation_level=None)
            try:
                connection.executescript(_TABLES)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            finally:
                connection.close()
            with contextlib.suppress(FileExistsError):
                os.link(partial, self._path)  # unlike a rename, leaves one that is there
        except (OSError, sqlite3.Error) as error:
            raise WorkspaceError(f"{self._path} cannot be made: {error}.") from error
        finally:
            partial.unlink(missing_ok=True)
