"""The tables of a PostgreSQL ledger: which version a database has, and bringing it up to date.

Alembic and SQLAlchemy are loaded only where there is something to do: a scorer's image can do
without them, and its start need not wait for them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from sentinel.domain import WorkspaceError
from sentinel.ledger.database import Database
from sentinel.ledger.postgres_errors import cannot_open

VERSIONS: Final = ("0001",)
"""All revisions of `sentinel/ledger/migrations`, oldest first."""
FOLDER: Final = Path(__file__).with_name("migrations")


@dataclass(frozen=True)
class Tables:
    """Tables in the schema of a ledger that have revisions of their own.

    Attributes:
        what: What they are, in words.
        folder: Alembic's folder of their revisions.
        version_table: Where their revision is noted.
        versions: All revisions, oldest first.
    """

    what: str
    folder: Path
    version_table: str
    versions: tuple[str, ...]


LEDGER: Final = Tables("ledger", FOLDER, "alembic_version", VERSIONS)


def lock_key(namespace: str, purpose: str) -> int:
    """Key of an advisory lock, signed 64 bits: the same in every process, of this ledger alone."""
    digest = hashlib.sha256(f"sentinel/{namespace}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def version_of(
    connection: psycopg.Connection, database: Database, tables: Tables = LEDGER
) -> str | None:
    """The revision that a database has; None if its tables are not there.

    Raises:
        WorkspaceError: A newer Sentinel wrote it, or something else owns the schema.
    """
    name = f"{database.namespace}.{tables.version_table}"
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (name,)).fetchone()
    if found is None or not found[0]:
        return None
    query = sql.SQL("SELECT version_num FROM {}").format(
        sql.Identifier(database.namespace, tables.version_table)
    )
    row = connection.execute(query).fetchone()
    if row is None:
        return None
    version = str(row[0])
    if version not in tables.versions:
        raise WorkspaceError(
            f"The {tables.what} in {database.shown} has schema version {version}, this Sentinel "
            f"knows up to {tables.versions[-1]}. Install the version that wrote it, or name "
            "another database or ledger.namespace."
        )
    return version


def migrate(
    connection: psycopg.Connection, database: Database, tables: Tables = LEDGER
) -> tuple[str | None, str]:
    """Bring tables up to date; makes them where there are none.

    Processes that do so at once wait for each other.

    Args:
        connection: In autocommit mode; for this alone.
        database: Where it leads.
        tables: Which ones.

    Returns:
        The revisions before (None if there were none) and after.

    Raises:
        WorkspaceError: It may not be done by this user, a newer Sentinel wrote the ledger, or
            something else owns the schema.
        LedgerUnavailable: The database cannot be used right now.
    """
    key = lock_key(database.namespace, "migrate")
    try:
        connection.execute("SET statement_timeout = 0")  # a large log may take its time
        connection.execute("SELECT pg_advisory_lock(%s)", (key,))
        try:
            before = version_of(connection, database, tables)
            if before != tables.versions[-1]:
                _make_namespace(connection, database)
                _upgrade(connection, database, tables)
        finally:
            if not connection.closed:
                connection.execute("SELECT pg_advisory_unlock(%s)", (key,))
    except psycopg.Error as error:
        raise cannot_open(error, database) from error
    return before, tables.versions[-1]


def _make_namespace(connection: psycopg.Connection, database: Database) -> None:
    found = connection.execute(
        "SELECT 1 FROM pg_namespace WHERE nspname = %s", (database.namespace,)
    )
    if found.fetchone() is None:
        name = sql.Identifier(database.namespace)
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))


def _upgrade(connection: psycopg.Connection, database: Database, tables: Tables) -> None:
    try:
        import sqlalchemy
        import sqlalchemy.pool
        from alembic import command
        from alembic.config import Config
    except ModuleNotFoundError as error:
        raise WorkspaceError(
            f"The tables of the {tables.what} in {database.shown} are not up to date, and "
            f"{error.name} is not installed here. Run `sentinel ledger migrate` where all of "
            "Sentinel is installed."
        ) from None
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=sqlalchemy.pool.StaticPool
    )
    config = Config()
    config.set_main_option("script_location", str(tables.folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["namespace"] = database.namespace
    config.attributes["version_table"] = tables.version_table
    config.attributes["append_lock"] = lock_key(database.namespace, "append")
    try:
        connection.autocommit = False
        with engine.connect() as migrating:
            config.attributes["connection"] = migrating
            command.upgrade(config, "head")
            migrating.commit()
    except sqlalchemy.exc.DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from error
        raise
    finally:
        if not connection.closed:
            connection.rollback()
            connection.autocommit = True
