"""Where the keys of a deployment are, as its settings say."""

from __future__ import annotations

from sentinel.access.store import KeyStore
from sentinel.settings import Settings


def open_store(settings: Settings) -> KeyStore:
    """The keys of a deployment. Nothing is made or reached before it is asked.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    if settings.ledger.url:
        from sentinel.access.postgres import PostgresKeys
        from sentinel.ledger.database import database_of

        return PostgresKeys(database_of(settings))
    from sentinel.access.sqlite import SqliteKeys

    return SqliteKeys(settings.workspace / "keys.db")


def migrate_keys(settings: Settings) -> None:
    """Make the tables of keys beside a ledger in PostgreSQL, or bring them up to date.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `sentinel.ledger.open`.
    """
    if settings.ledger.url:
        from sentinel.access.postgres import TABLES
        from sentinel.ledger.database import database_of
        from sentinel.ledger.postgres import migrate

        migrate(database_of(settings), TABLES)
