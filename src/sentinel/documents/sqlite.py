"""Versions of a document in a file of the workspace, which nobody but its owner can write."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Generic

from sentinel.documents.store import Change, D, Kind, changed
from sentinel.workspace_database import WorkspaceDatabase

FORMAT_VERSION: Final = 1

_TABLES: Final = """
CREATE TABLE versions (version INTEGER PRIMARY KEY, document BLOB NOT NULL);
"""
_LATEST: Final = "SELECT version, document FROM versions ORDER BY version DESC LIMIT 1"


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
        self.shown = str(path)
        self._file = WorkspaceDatabase(
            path,
            application_id=kind.application_id,
            format_version=FORMAT_VERSION,
            tables=_TABLES,
            holds=kind.what,
            file_of=f"the {kind.what}",
        )

    def latest(self) -> int:
        """See `DocumentStore`."""
        with self._file.open("ro") as connection:
            if connection is None:
                return 0
            return connection.execute("SELECT max(version) FROM versions").fetchone()[0] or 0

    def read(self, version: int | None = None) -> D | None:
        """See `DocumentStore`."""
        with self._file.open("ro") as connection:
            if connection is None:
                return None
            if version is None:
                row = connection.execute(_LATEST).fetchone()
            else:
                query = "SELECT version, document FROM versions WHERE version = ?"
                row = connection.execute(query, (version,)).fetchone()
            return None if row is None else self.kind.decode(row[1])

    def history(self, most: int, before: int | None = None) -> list[D]:
        """See `DocumentStore`."""
        with self._file.open("ro") as connection:
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT document FROM versions WHERE version < coalesce(?, version + 1) "
                "ORDER BY version DESC LIMIT ?",
                (before, most),
            ).fetchall()
        return [self.kind.decode(document) for (document,) in rows]

    def add(self, change: Change[D], *, over_unreadable: bool = False) -> D | None:
        """See `DocumentStore`."""
        self._file.make()
        with self._file.open("rw") as connection:
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            latest = connection.execute(_LATEST).fetchone()
            made = changed(self.kind, latest, change, over_unreadable=over_unreadable)
            if made is not None:
                connection.execute("INSERT INTO versions VALUES (?, ?)", (made[0].version, made[1]))
            connection.execute("COMMIT")
        return None if made is None else made[0]

    def close(self) -> None:
        """See `DocumentStore`; a connection lives for one question."""
