"""Where the versions of a document are, as a deployment's settings say."""

from __future__ import annotations

from sentinel.documents.store import D, DocumentStore, Kind
from sentinel.settings import Settings


def open_documents(settings: Settings, kind: Kind[D]) -> DocumentStore[D]:
    """The versions of a deployment. Nothing is made or reached before it is asked.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    if settings.ledger.url:
        from sentinel.documents.postgres import PostgresDocuments
        from sentinel.ledger.database import database_of

        return PostgresDocuments(kind, database_of(settings))
    from sentinel.documents.sqlite import SqliteDocuments

    return SqliteDocuments(kind, settings.workspace / kind.file)


def migrate_documents(settings: Settings, kind: Kind[D]) -> None:
    """Make the table of versions beside a ledger in PostgreSQL, or bring it up to date.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `sentinel.ledger.open`.
    """
    if settings.ledger.url:
        from sentinel.ledger.database import database_of
        from sentinel.ledger.postgres import migrate

        migrate(database_of(settings), kind.tables())
