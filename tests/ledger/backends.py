"""The ledgers that the contract is checked on."""

from __future__ import annotations

import itertools
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import psycopg
from psycopg import sql

from sentinel.ledger.base import Ledger
from sentinel.ledger.database import Database
from sentinel.ledger.postgres import PostgresLedger
from sentinel.ledger.sqlite import SqliteLedger

_numbers = itertools.count()


class Backend(Protocol):
    """A place for one ledger."""

    def open_writer(self) -> Ledger: ...

    def open_reader(self) -> Ledger: ...

    def empty(self) -> Ledger:
        """A writer of a ledger that holds nothing, whatever was there before."""
        ...


class SqliteBackend:
    """In a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "ledger.db"

    def open_writer(self) -> Ledger:
        return SqliteLedger.open_writer(self.path)

    def open_reader(self) -> Ledger:
        return SqliteLedger.open_reader(self.path)

    def empty(self) -> Ledger:
        self.path = self._folder / f"ledger-{next(_numbers)}.db"
        return self.open_writer()


class PostgresBackend:
    """In a schema of its own."""

    def __init__(self, url: str) -> None:
        self.database = Database(url, f"test_{next(_numbers)}", retry_seconds=5.0)

    def open_writer(self) -> PostgresLedger:
        return PostgresLedger.open_writer(self.database, exclusive=True)

    def open_reader(self) -> PostgresLedger:
        return PostgresLedger.open_reader(self.database)

    def open_shared(self) -> PostgresLedger:
        return PostgresLedger.open_writer(self.database, exclusive=False)

    def empty(self) -> PostgresLedger:
        names = ("groups", "transactions", "labels", "tokens", "state_rebuilds", "label_effects")
        tables = [sql.Identifier(self.database.namespace, name) for name in names]
        missing = (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)
        with suppress(*missing), psycopg.connect(self.database.url, autocommit=True) as connection:
            connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables)))
        return self.open_writer()
