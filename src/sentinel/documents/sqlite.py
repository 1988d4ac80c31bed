"""Versions of a document in a file of the workspace, which nobody but its owner can write."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Generic

import msgspec

from sentinel.documents.store import Change, D, Kind, changed
from sentinel.domain import LedgerUnavailable, WorkspaceError

FORMAT_VERSION: Final = 1

_TABLES: Final = """
CREATE TABLE versions (version INTEGER PRIMARY KEY, document BLOB NOT NULL);
"""
_LATEST: Final = "SELECT document FROM versions ORDER BY version DESC LIMIT 1"
_LOCK_SECONDS: Final = 2.0


class SqliteDocuments(Generic[D]):
    """Versions in a SQLite file; it is made by the first change.

    Args:
        kind: Of the documents.
        path: The file.

    Attributes:
        kind: The same.
        shown: The file, as text.
    """

    def __init__(self, kind: Kind[D], path: Path) -> None:
        self.kind = kind
        self._path = path
        self.shown = str(path)

    def latest(self) -> int:
        """See `DocumentStore`."""
        with self._open("ro") as connection:
            if connection is None:
                return 0
            return connection.execute("SELECT max(version) FROM versions").fetchone()[0] or 0

    def read(self, version: int | None = None) -> D | None:
        """See `DocumentStore`."""
        with self._open("ro") as connection:
            if connection is None:
                return None
            if version is None:
                return self._only(connection.execute(_LATEST))
            query = "SELECT document FROM versions WHERE version = ?"
            return self._only(connection.execute(query, (version,)))

    def history(self, most: int, before: int | None = None) -> list[D]:
        """See `DocumentStore`."""
        with self._open("ro") as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT document FROM versions WHERE version < coalesce(?, version + 1) "
                "ORDER BY version DESC LIMIT ?",
                (before, most),
            ).fetchall()
        return [self.kind.decode(document) for (document,) in rows]

    def add(self, change: Change[D]) -> D | None:
        """See `DocumentStore`."""
        self._make()
        with self._open("rw") as connection:
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            made = changed(self.kind, self._only(connection.execute(_LATEST)), change)
            if made is not None:
                connection.execute(
                    "INSERT INTO versions VALUES (?, ?)", (made.version, msgspec.json.encode(made))
                )
            connection.execute("COMMIT")
        return made

    def close(self) -> None:
        """See `DocumentStore`; a connection lives for one question."""

    def _only(self, cursor: sqlite3.Cursor) -> D | None:
        row = cursor.fetchone()
        return None if row is None else self.kind.decode(row[0])

    @contextlib.contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection | None]:
        """A connection for one question; None if there is no file."""
        if not self._path.exists():
            yield None
            return
        connection: sqlite3.Connection | None = None
        journal = self._path.with_name(f"{self._path.name}-journal")
        if mode == "ro" and journal.exists() and os.access(self._path, os.W_OK):
            mode = "rw"  # what a crash left half-written is taken back by who may write
        try:
            connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=_LOCK_SECONDS,
            )
            connection.execute("PRAGMA synchronous = FULL")
            self._check(connection)
            yield connection
        except sqlite3.Error as error:
            raise LedgerUnavailable(
                f"The {self.kind.what} in {self._path} cannot be used: {error}. Make the file "
                "readable and writable for this process, or bring it back from a backup."
            ) from error
        finally:
            if connection is not None:
                connection.close()

    def _check(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != self.kind.application_id:
            raise WorkspaceError(
                f"{self._path} is no file of the {self.kind.what}. Move it away, or use another "
                "workspace."
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
                connection.execute(f"PRAGMA application_id = {self.kind.application_id}")
                connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            finally:
                connection.close()
            with contextlib.suppress(FileExistsError):
                os.link(partial, self._path)  # unlike a rename, leaves one that is there
        except (OSError, sqlite3.Error) as error:
            raise WorkspaceError(f"{self._path} cannot be made: {error}.") from error
        finally:
            partial.unlink(missing_ok=True)
