"""The index's SQLite file: how it is opened, made, and told from that of another ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sentinel.domain import WorkspaceError
from sentinel.ledger import index_schema as schema
from sentinel.ledger.base import Ledger
from sentinel.ledger.sqlite_errors import cannot_open
from sentinel.log.entries import fingerprint

_LOCK_SECONDS: Final = 10.0
_CHECKPOINT_PAGES: Final = 4000
_CACHE_KIB: Final = 64 << 10


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode."""
    return sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=_LOCK_SECONDS
    )


def open_index(path: Path, ledger: Ledger) -> sqlite3.Connection:
    """A connection that writes the index of a ledger; its tables are there, if only empty.

    Raises:
        WorkspaceError: The file is something else, or cannot be written.
        LedgerUnavailable: It is locked, or the disk is full or failing.
    """
    connection: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = connect(path)
        _prepare(connection, path, ledger)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise cannot_open(error, path, derived=True) from error
        if isinstance(error, OSError):
            raise WorkspaceError(
                f"Cannot write in the folder {path.parent}: {error.strerror}. Make it writable."
            ) from error
        raise
    return connection


def head_of(ledger: Ledger) -> str:
    """Fingerprint of the ledger's first group, which tells one ledger from another."""
    first = next(iter(ledger.groups()), None)
    return "" if first is None else fingerprint(first)


def _prepare(connection: sqlite3.Connection, path: Path, ledger: Ledger) -> None:
    """Make the tables, anew where they are not those of this ledger."""
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and application != schema.APPLICATION_ID:
        raise WorkspaceError(
            f"{path} is a SQLite file, but no index of a ledger. Name another file."
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _belongs(connection, ledger):
            _make_tables(connection)
        connection.execute(f"CREATE TABLE IF NOT EXISTS voids {schema.TABLES['voids']}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _belongs(connection: sqlite3.Connection, ledger: Ledger) -> bool:
    """Whether the tables are of this version and made from this ledger."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != schema.FORMAT_VERSION:
        return False
    through, head, tail_sequence, tail = connection.execute(
        "SELECT indexed_through, head, tail_sequence, tail FROM bookmark"
    ).fetchone()
    if through == 0:
        return True
    last = next(iter(ledger.groups(tail_sequence - 1)), None)
    return last is not None and fingerprint(last) == tail and head_of(ledger) == head


def _make_tables(connection: sqlite3.Connection) -> None:
    for (name,) in connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table'"
    ).fetchall():
        connection.execute(f'DROP TABLE "{name}"')
    for name, columns in schema.TABLES.items():
        connection.execute(f"CREATE TABLE {name} {columns}")
    for statement in schema.INDEXES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO bookmark VALUES (0, '', 0, '')")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {schema.FORMAT_VERSION}")
