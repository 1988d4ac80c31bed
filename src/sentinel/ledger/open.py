"""The one place that chooses a ledger's backend: SQLite in the workspace, or PostgreSQL.

PostgreSQL's driver is loaded only where it is chosen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentinel.domain import ConfigurationError
from sentinel.ledger.base import Ledger, SharedLedger
from sentinel.ledger.database import Database, database_of, is_url
from sentinel.ledger.sqlite import Checkpointer, SqliteLedger

if TYPE_CHECKING:
    from sentinel.ledger.held_lock import HeldLock
    from sentinel.ledger.postgres import PostgresLedger
    from sentinel.settings import Settings

DEFAULT_NAMESPACE: Final = "sentinel"


def open_writer(settings: Settings) -> Ledger:
    """The ledger, to append to; made where there is none.

    With embedded state this is the only process that appends; with shared state any number may.

    Raises:
        ConfigurationError: `ledger.url` is of no database that can hold a ledger.
        WorkspaceError: Another process appends to it, it is no ledger, a newer Sentinel wrote it,
            or it cannot be written at all.
        LedgerUnavailable: It cannot be reached, or the disk is full or failing.
    """
    if settings.ledger.url:
        return _open_postgres_writer(settings)
    ledger = SqliteLedger.open_writer(settings.ledger_path)
    ledger.group_format = settings.ledger.group_format
    return ledger


def open_shared(settings: Settings) -> SharedLedger:
    """The ledger, to append to beside other processes.

    Raises:
        ConfigurationError: The settings are not those of a ledger that many write.
        WorkspaceError, LedgerUnavailable: See `open_writer`.
    """
    if not settings.ledger.url or _exclusive(settings):
        raise ConfigurationError(
            "Several processes can write one ledger only in PostgreSQL and with shared state. Set "
            "SENTINEL_LEDGER__URL and SENTINEL_STATE__BACKEND=redis."
        )
    return _open_postgres_writer(settings)


def open_reader(settings: Settings) -> Ledger:
    """The ledger, to read, whether or not a scorer runs.

    Raises:
        ConfigurationError: `ledger.url` is of no database that can hold a ledger.
        WorkspaceError: There is no ledger yet, it is none, or a newer Sentinel wrote it.
        LedgerUnavailable: It cannot be read right now.
    """
    return _open_reader(_place_of(settings))


def ledger_exists(settings: Settings) -> bool:
    """Whether there is a ledger to open for reading.

    Raises:
        LedgerUnavailable: The database cannot be reached.
    """
    return _exists(_place_of(settings))


def migrate_ledger(settings: Settings) -> tuple[str | None, str] | None:
    """Bring the tables of a ledger in PostgreSQL up to date; makes them where there are none.

    Returns:
        The schema versions before (None: there was no ledger) and after; None: a ledger in SQLite
        has no tables to migrate.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `open_writer`.
    """
    if not settings.ledger.url:
        return None
    from sentinel.ledger.postgres import migrate

    return migrate(database_of(settings))


def grant_to_scorers(settings: Settings) -> str:
    """Let the role of scorers read a ledger in PostgreSQL and add to it, and nothing else.

    Returns:
        The role; empty if the settings name none, or the ledger is in SQLite.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `sentinel.ledger.grants`.
    """
    role = settings.ledger.scorer_role
    if not settings.ledger.url or not role:
        return ""
    from sentinel.ledger import grants

    grants.grant_to_scorers(database_of(settings), role)
    return role


def grant_to_monitor(settings: Settings) -> str:
    """Let the role of the monitor read a ledger in PostgreSQL and write the record of drift.

    Returns:
        The role; empty if the settings name none, or the ledger is in SQLite.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `sentinel.ledger.grants`.
    """
    role = settings.ledger.monitor_role
    if not settings.ledger.url or not role:
        return ""
    from sentinel.ledger import grants

    grants.grant_to_monitor(database_of(settings), role)
    return role


def held_lock(settings: Settings, purpose: str) -> HeldLock | None:
    """A lock on the ledger's database; None for a ledger in SQLite, where files will do.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    if not settings.ledger.url:
        return None
    from sentinel.ledger.held_lock import HeldLock

    return HeldLock(database_of(settings), purpose)


def delete_ledger(settings: Settings) -> bool:
    """Delete a ledger in PostgreSQL with all it holds. One in SQLite goes with its workspace.

    Returns:
        Whether there was one.

    Raises:
        WorkspaceError: A process is writing it, or this user may not.
        LedgerUnavailable: The database cannot be reached.
    """
    return bool(settings.ledger.url) and _postgres().delete(database_of(settings))


def ledger_name(settings: Settings) -> str:
    """Where the ledger is, fit to be shown: without a password."""
    return database_of(settings).shown if settings.ledger.url else str(settings.ledger_path)


# A ledger named on the command line of a process, which has no settings.


def named_on_command_line(settings: Settings) -> tuple[list[str], Mapping[str, str]]:
    """How to tell the indexer's process about the ledger.

    Returns:
        Arguments, which other users of the machine can see, and environment, which they cannot.
    """
    if not settings.ledger.url:
        return ["--ledger", str(settings.ledger_path)], os.environ
    database = database_of(settings)
    secret = {"PGPASSWORD": database.password} if database.password else {}
    return [
        *("--ledger", database.shown, "--namespace", database.namespace),
    ], os.environ | secret


def open_named(ledger: str, namespace: str = DEFAULT_NAMESPACE) -> Ledger:
    """A ledger to read, by the path or the URL that a command line gave.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `open_reader`.
    """
    return _open_reader(_place_named(ledger, namespace))


def named_exists(ledger: str, namespace: str = DEFAULT_NAMESPACE) -> bool:
    """Whether there is a ledger at the path or the URL that a command line gave."""
    return _exists(_place_named(ledger, namespace))


def checkpointer_of(ledger: str) -> Checkpointer | None:
    """What moves the ledger's write-ahead log along; None: its database does so by itself."""
    return None if is_url(ledger) else Checkpointer(Path(ledger))


# Where it is: a file, or a schema of a database.


def _place_of(settings: Settings) -> Path | Database:
    return database_of(settings) if settings.ledger.url else settings.ledger_path


def _place_named(ledger: str, namespace: str) -> Path | Database:
    return Database(ledger, namespace) if is_url(ledger) else Path(ledger)


def _open_reader(place: Path | Database) -> Ledger:
    if isinstance(place, Database):
        return _postgres().open_reader(place)
    return SqliteLedger.open_reader(place)


def _exists(place: Path | Database) -> bool:
    return _postgres().exists(place) if isinstance(place, Database) else place.exists()


def _open_postgres_writer(settings: Settings) -> PostgresLedger:
    ledger = _postgres().open_writer(database_of(settings), exclusive=_exclusive(settings))
    ledger.group_format = settings.ledger.group_format
    return ledger


def _exclusive(settings: Settings) -> bool:
    return settings.state.backend == "embedded"


def _postgres() -> type[PostgresLedger]:
    from sentinel.ledger.postgres import PostgresLedger

    return PostgresLedger
