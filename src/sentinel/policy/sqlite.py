"""Versions of the policy in a file of the workspace, which nobody but its owner can write."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from sentinel.domain import LedgerUnavailable, WorkspaceError
from sentinel.policy.store import Change, changed
from sentinel.policy.versions import PolicyVersion, decode_version

APPLICATION_ID: Final = 0x534E5450
"""Marks the file as policies ("SNTP"), in SQLite's header."""
FORMAT_VERSION: Final = 1

_TABLES: Final = """
CREATE TABLE versions (version INTEGER PRIMARY KEY, document BLOB NOT NULL);
"""
_LATEST: Final = "SELECT document FROM versions ORDER BY version DESC LIMIT 1"
_LOCK_SECONDS: Final = 2.0


class SqlitePolicies:
    """Versions in a SQLite file; it is made by the first change.

    Args:
        path: The file.

    Attributes:
        shown: The same, as text.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.shown = str(path)

    def latest(self) -> int:
        """See `PolicyStore`."""
        with self._open("ro") as connection:
            if connection is None:
                return 0
            return connection.execute("SELECT max(version) FROM versions").fetchone()[0] or 0

    def read(self, version: int | None = None) -> PolicyVersion | None:
        """See `PolicyStore`."""
        with self._open("ro") as connection:
            if connection is None:
                return None
            if version is None:
                return _only(connection.execute(_LATEST))
            query = "SELECT document FROM versions WHERE version = ?"
            return _only(connection.execute(query, (version,)))

    def history(self, most: int, before: int | None = None) -> list[PolicyVersion]:
        """See `PolicyStore`."""
        with self._open("ro") as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT document FROM versions WHERE version < coalesce(?, version + 1) "
                "ORDER BY version DESC LIMIT ?",
                (before, most),
            ).fetchall()
        return [decode_version(document) for (document,) in rows]

    def add(self, change: Change) -> PolicyVersion | None:
        """See `PolicyStore`."""
        self._make()
        with self._open("rw") as connection:
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            made = changed(_only(connection.execute(_LATEST)), change)
            if made is not None:
                connection.execute(
                    "INSERT INTO versions VALUES (?, ?)", (made.version, msgspec.json.encode(made))
                )
            connection.execute("COMMIT")
        return made

    def close(self) -> None:
        """See `PolicyStore`; a connection lives for one question."""

    @contextlib.contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection | None]:
        """A connection for one question; None if there is no file."""
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
            connection.execute("PRAGMA synchronous = FULL")
            self._check(connection)
            yield connection
        except sqlite3.Error as error:
            raise LedgerUnavailable(
                f"The policy in {self._path} cannot be used: {error}. Make the file readable and "
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
                f"{self._path} is no file of policies. Move it away, or use another workspace."
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


def _only(cursor: sqlite3.Cursor) -> PolicyVersion | None:
    row = cursor.fetchone()
    return None if row is None else decode_version(row[0])
