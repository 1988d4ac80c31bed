"""The ledger's SQLite file: how it is opened, marked and told from other files."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sentinel.domain import WorkspaceError
from sentinel.ledger.sqlite_errors import cannot_open

APPLICATION_ID: Final = 0x534E544C
"""Marks the file as a ledger ("SNTL"), in SQLite's header."""
FORMAT_VERSION: Final = 1

_TABLE: Final = """
CREATE TABLE groups (
    first_sequence INTEGER PRIMARY KEY,
    entries INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    payload BLOB NOT NULL
)"""

_LOCK_SECONDS: Final = 2.0


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection in autocommit mode, for one thread at a time.

    Args:
        path: The file.
        mode: "ro", "rw" or "rwc" (make the file where there is none).
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=_LOCK_SECONDS,
    )


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A read-only connection to a ledger.

    Raises:
        WorkspaceError: There is no ledger, it is none, or a newer Sentinel wrote it.
        LedgerUnavailable: It cannot be read right now.
    """
    if not path.exists():
        raise WorkspaceError(
            f"There is no ledger at {path}. Import transactions or start Sentinel first, or name "
            "another workspace."
        )
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(path, "ro")
        if not _is_ledger(connection, path):
            raise WorkspaceError(
                f"The ledger {path} is empty: its first start was cut short. Import transactions "
                "or start Sentinel again; either makes it whole."
            )
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise cannot_open(error, path) from error
        raise
    return connection


def _is_ledger(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether it is a ledger of this version; False: an empty file.

    Raises:
        WorkspaceError: It is something else.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0:
        return False
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise WorkspaceError(
            f"{path} is a SQLite file, but no Sentinel ledger. Move it away, or use another "
            "workspace."
        )
    if version != FORMAT_VERSION:
        raise WorkspaceError(
            f"The ledger {path} has format {version}, this Sentinel reads {FORMAT_VERSION}. "
            "Install the version that wrote it, or use another workspace."
        )
    return True


def make_where_missing(path: Path) -> None:
    """Make an empty ledger, whole or not at all, so that no reader finds half of one.

    The caller holds the writer's lock.

    Raises:
        WorkspaceError: The folder does not take it.
    """
    if path.exists():
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        for suffix in ("", "-wal", "-shm"):  # of a start that was cut short
            partial.with_name(partial.name + suffix).unlink(missing_ok=True)
        connection = connect(partial, "rwc")
        try:
            check_or_make(connection, partial)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing would hide a failure
        finally:
            connection.close()
        partial.replace(path)
    except OSError as error:
        raise WorkspaceError(
            f"The ledger {path} cannot be made: {error.strerror}. Make its folder writable, or "
            "use another workspace."
        ) from error


def check_or_make(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that a file is a ledger; an empty one becomes one.

    Raises:
        WorkspaceError: It is something else.
    """
    if _is_ledger(connection, path):
        return
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    connection.execute(_TABLE)
    connection.execute("COMMIT")
