"""Where drift is kept: a SQLite file of the workspace, or tables beside a ledger in PostgreSQL.

Both take the same statements: ``{t}`` stands before the name of a table, ``%s`` for a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from sentinel.workspace_database import WorkspaceDatabase

if TYPE_CHECKING:
    from sentinel.ledger.connections import Connection
    from sentinel.ledger.database import Database
    from sentinel.ledger.schema import Tables
    from sentinel.settings import Settings

FILE: Final = "drift.db"
_APPLICATION_ID: Final = 0x534E5444  # "SNTD"
_FORMAT_VERSION: Final = 1

_TABLES: Final = """
CREATE TABLE {t}progress (
    id integer PRIMARY KEY CHECK (id = 1),
    generation bigint NOT NULL,
    through bigint NOT NULL,
    clock_us bigint NOT NULL
);
CREATE TABLE {t}streams (
    id bigint PRIMARY KEY,
    model_name text NOT NULL,
    model_version text NOT NULL,
    reference text NOT NULL,
    first_sequence bigint NOT NULL,
    last_sequence bigint NOT NULL,
    tested_hour bigint NOT NULL,
    problem text NOT NULL,
    state {blob} NOT NULL,
    UNIQUE (model_name, model_version, reference)
);
CREATE TABLE {t}hours (
    stream bigint NOT NULL,
    first_hour bigint NOT NULL,
    hours integer NOT NULL,
    events {blob} NOT NULL,
    counts {blob} NOT NULL,
    PRIMARY KEY (stream, first_hour)
);
CREATE TABLE {t}tallies (
    model_name text NOT NULL,
    model_version text NOT NULL,
    hour bigint NOT NULL,
    counted bigint NOT NULL,
    degraded bigint NOT NULL,
    late bigint NOT NULL,
    uncounted bigint NOT NULL,
    approved bigint NOT NULL,
    reviewed bigint NOT NULL,
    declined bigint NOT NULL,
    PRIMARY KEY (model_name, model_version, hour)
);
CREATE TABLE {t}changes (
    stream bigint NOT NULL,
    at_hour bigint NOT NULL,
    segment text NOT NULL,
    feature text NOT NULL,
    document {blob} NOT NULL,
    PRIMARY KEY (stream, at_hour, segment, feature)
);
CREATE TABLE {t}notices (
    id bigint PRIMARY KEY,
    document {blob} NOT NULL
);
CREATE TABLE {t}requested (
    model_version text NOT NULL,
    at_hour bigint NOT NULL,
    PRIMARY KEY (model_version, at_hour)
);
"""
_LABEL_TABLES: Final = """
CREATE TABLE IF NOT EXISTS {t}labels (
    id integer PRIMARY KEY CHECK (id = 1),
    document {blob} NOT NULL
);
"""
# Readers hold the monitor up no more than it does them. A file of before there was the table of
# labels gets it by the first change: versions that do not know it leave it alone.
SQLITE_LABEL_TABLES: Final = _LABEL_TABLES.replace("{t}", "").replace("{blob}", "blob")
SQLITE_TABLES: Final = (
    "PRAGMA journal_mode = WAL;"
    + _TABLES.replace("{t}", "").replace("{blob}", "blob")
    + SQLITE_LABEL_TABLES
)
POSTGRES_LABEL_TABLES: Final = _LABEL_TABLES.replace("{blob}", "bytea")
POSTGRES_TABLES: Final = _TABLES.replace("{blob}", "bytea")

T = TypeVar("T")


class Rows(Protocol):
    """What a statement found."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...


Execute = Callable[..., Rows]
"""Runs a statement with the values for its ``%s``, in order."""


class DriftTables(Protocol):
    """A place for the tables. All methods are safe from any thread, and wait.

    Attributes:
        shown: Where it is, without a password.
    """

    shown: str

    def ask(self, job: Callable[[Execute], T], otherwise: T) -> T:
        """Read as of one moment; ``otherwise`` where the tables were never made.

        Raises:
            LedgerUnavailable: They cannot be read right now.
            WorkspaceError: They are something else, or of another version.
        """
        ...

    def change(self, job: Callable[[Execute], T]) -> T:
        """Change in one transaction, which ``job`` takes back by raising; made where missing.

        Raises:
            LedgerUnavailable: It cannot be done right now; nothing was changed, unless a connection
                was lost in the middle.
            WorkspaceError: The tables are something else, or may not be made by this user.
        """
        ...

    def have_labels(self, execute: Execute, *, make: bool = False) -> bool:
        """Whether there is the table of labels, which records of before do not have.

        Args:
            execute: Of the transaction.
            make: Make it where it is missing and this user may.
        """
        ...

    def close(self) -> None:
        """Release it."""
        ...


def open_tables(settings: Settings) -> DriftTables:
    """Those of a deployment. Nothing is made or reached before it is asked.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    if settings.ledger.url:
        from sentinel.ledger.database import database_of

        return PostgresTables(database_of(settings))
    return SqliteTables(settings.workspace / FILE)


def drift_tables() -> Tables:
    """The tables beside a ledger in PostgreSQL."""
    from sentinel.ledger.schema import Tables

    return Tables(
        what="drift",
        folder=Path(__file__).with_name("migrations"),
        version_table="drift_schema",
        versions=("0001", "0002"),
    )


class SqliteTables:
    """Tables in a file, which the first change makes.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.shown = str(path)
        self._file = WorkspaceDatabase(
            path,
            application_id=_APPLICATION_ID,
            format_version=_FORMAT_VERSION,
            tables=SQLITE_TABLES,
            holds="record of drift",
            file_of="the record of drift",
        )

    def ask(self, job: Callable[[Execute], T], otherwise: T) -> T:
        """See `DriftTables`."""
        with self._file.open("ro") as connection:
            if connection is None:
                return otherwise
            connection.execute("BEGIN")
            return job(lambda query, *values: connection.execute(_sqlite(query), values))

    def change(self, job: Callable[[Execute], T]) -> T:
        """See `DriftTables`."""
        self._file.make()
        with self._file.open("rw") as connection:
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = job(lambda query, *values: connection.execute(_sqlite(query), values))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return done

    def have_labels(self, execute: Execute, *, make: bool = False) -> bool:
        """See `DriftTables`."""
        if make:
            execute(SQLITE_LABEL_TABLES)
            return True
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'labels'"
        return execute(query).fetchone() is not None

    def close(self) -> None:
        """Nothing is open between two questions."""


class PostgresTables:
    """Tables in the schema of a ledger.

    Args:
        database: The ledger's.
    """

    def __init__(self, database: Database) -> None:
        from sentinel.ledger.tables_beside import TablesBeside

        self.shown = database.shown
        self._prefix = f'"{database.namespace}".drift_'
        self._tables = TablesBeside(database, "drift_progress")

    def ask(self, job: Callable[[Execute], T], otherwise: T) -> T:
        """See `DriftTables`."""

        def read(connection: Connection) -> T:
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                if not self._tables.are_made(connection):
                    return otherwise
                return job(self._execute(connection))

        return self._tables.run(read, "read the record of drift in")

    def change(self, job: Callable[[Execute], T]) -> T:
        """See `DriftTables`."""

        def write(connection: Connection) -> T:
            with connection.transaction():
                return job(self._execute(connection))

        if not self._tables.run(self._tables.are_made, "find the record of drift in"):
            self._tables.make(drift_tables())
        return self._tables.run(write, "change the record of drift in")

    def have_labels(self, execute: Execute, *, make: bool = False) -> bool:
        """See `DriftTables`; here `sentinel ledger migrate` makes it."""
        name = f"{self._prefix}labels"
        row = execute("SELECT to_regclass(%s) IS NOT NULL", name).fetchone()
        return bool(row and row[0])

    def close(self) -> None:
        """Release the connections."""
        self._tables.close()

    def _execute(self, connection: Connection) -> Execute:
        def execute(query: str, *values: Sequence[Any]) -> Rows:
            return connection.execute(query.replace("{t}", self._prefix).encode(), values)

        return execute


def migrate_drift(settings: Settings) -> None:
    """Make the tables beside a ledger in PostgreSQL, or bring them up to date.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `sentinel.ledger.open`.
    """
    if settings.ledger.url:
        from sentinel.ledger.database import database_of
        from sentinel.ledger.postgres import migrate

        migrate(database_of(settings), drift_tables())


def _sqlite(query: str) -> str:
    return query.replace("{t}", "").replace("%s", "?")
