"""The queryable tables, derived from the ledger's groups and rebuilt from them at will."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sentinel.domain import Reason, Transaction, WorkspaceError
from sentinel.ledger import index_schema as schema
from sentinel.ledger.base import Ledger
from sentinel.ledger.index_file import connect, head_of, open_index
from sentinel.ledger.index_queries import IndexQueries
from sentinel.ledger.index_rows import Chunk
from sentinel.ledger.sqlite_errors import unavailable
from sentinel.log.entries import (
    Group,
    GroupKind,
    decode_decisions,
    fingerprint,
)

CHUNK_ENTRIES: Final = 4096
"""Entries that go into the index in one transaction, or one group if that has more."""


def number_features(_plan: str, feature: int, value: float | None, contribution: float) -> Reason:
    """Names a reason's feature by its number, for want of the plan."""
    return Reason(feature=f"feature {feature}", value=value, contribution=contribution, words="")


class LedgerIndex(IndexQueries):
    """The index of a ledger.

    Any number of processes may have it open, and any of them may call `catch_up`. Where the
    file is missing, of another version, or made from another ledger, it is built anew.

    Args:
        path: SQLite file of the index.
        ledger: The ledger it is derived from.

    Raises:
        WorkspaceError: The file is something else, or cannot be written.
        LedgerUnavailable: It is locked, or the disk is full or failing.
    """

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self._ledger = ledger
        self._filling = threading.Lock()
        self._writer = open_index(path, ledger)
        super().__init__(path, connect(path))
        self._known_through = -1
        self._model_ids: dict[tuple[str, str, str], int] = {}

    def close(self) -> None:
        """Release the file."""
        self._reader.close()
        self._writer.close()

    def catch_up(self, limit: int | None = None) -> int:
        """Index what the ledger holds beyond `indexed_through`.

        Args:
            limit: Stop once so many entries are indexed; None to stop at the end of the ledger.

        Returns:
            Number of entries indexed.

        Raises:
            LedgerUnavailable: Ledger or index cannot be used right now. What was indexed before
                stays; call again.
            WorkspaceError: A newer Sentinel wrote the ledger.
        """
        done = 0
        with self._filling:
            while limit is None or done < limit:
                room = CHUNK_ENTRIES if limit is None else min(CHUNK_ENTRIES, limit - done)
                if self._ledger.last_sequence() <= self._known_through:
                    break
                indexed = self._index_chunk(room)
                if indexed == 0:
                    break
                done += indexed
        return done

    def transaction(self, transaction_id: str) -> Transaction | None:
        """A transaction with its attributes, read from the ledger."""
        found = self.find(transaction_id)
        if found is None:
            return None
        group = self.group_of(found.sequence)
        row = found.sequence - group.first_sequence
        if group.kind == GroupKind.DECISIONS:
            return decode_decisions(group.payload).transactions[row]
        from sentinel.ledger.imports import imported_transaction

        return imported_transaction(group, row)

    def group_of(self, sequence: int) -> Group:
        """The group that holds an indexed entry."""
        group = next(iter(self._ledger.groups(sequence - 1)), None)
        if group is None:
            raise WorkspaceError(
                f"The index {self.path} knows of sequence {sequence}, the ledger does not: they "
                "do not belong together. Delete the index; it is made anew."
            )
        return group

    def _index_chunk(self, room: int) -> int:
        with self._writing() as connection:
            (through,) = connection.execute("SELECT indexed_through FROM bookmark").fetchone()
            if through != self._known_through:
                self._recall(through)
            # Until the commit is through, what is remembered here is not to be relied on.
            self._known_through = -1
            chunk = Chunk(self._model_ids)
            models_before = len(self._model_ids)
            for group in self._ledger.groups(through):
                chunk.add(group)
                if chunk.entries >= room:
                    break
            if chunk.tail is None:
                self._known_through = through
                return 0
            new_models = list(self._model_ids.items())[models_before:]
            connection.executemany(
                "INSERT INTO models VALUES (?, ?, ?, ?)", [(i, *key) for key, i in new_models]
            )
            self._insert(connection, chunk, through + 1)
        self._known_through = chunk.through
        return chunk.entries

    def _insert(self, connection: sqlite3.Connection, chunk: Chunk, first: int) -> None:
        connection.executemany(schema.INSERT_IMPORTED, chunk.imported)
        connection.executemany(schema.INSERT_DECISIONS, chunk.decisions)
        connection.executemany(schema.INSERT_LABELS, chunk.labels)
        connection.executemany(schema.INSERT_VOIDS, chunk.voids)
        for statement in schema.JUDGE:
            connection.execute(statement, (first, chunk.through))
        self._add_runs(connection, first, chunk.through)
        assert chunk.tail is not None
        tail = fingerprint(chunk.tail)
        connection.execute(
            "UPDATE bookmark SET indexed_through = ?, tail_sequence = ?, tail = ?, "
            "head = CASE head WHEN '' THEN ? ELSE head END",
            (
                chunk.through,
                chunk.tail.first_sequence,
                tail,
                head_of(self._ledger) if first == 1 else "",
            ),
        )

    def _add_runs(self, connection: sqlite3.Connection, first: int, through: int) -> None:
        """Append the runs that a chunk completes."""
        beyond = schema.first_beyond_runs(first - 1)
        while beyond < schema.first_beyond_runs(through):
            last = beyond + (1 << schema.RUN_BITS) - 1
            run = beyond >> schema.RUN_BITS
            added = sum(
                connection.execute(statement, (run, beyond, last)).rowcount
                for statement in schema.ADD_RUN
            )
            if added:
                connection.execute("INSERT INTO runs VALUES (?)", (run,))
            beyond = last + 1

    def _recall(self, through: int) -> None:
        """Read anew what is kept in memory between chunks: another process went on."""
        rows = self._writer.execute("SELECT name, version, plan_hash, model_id FROM models")
        self._model_ids = {(name, version, plan): i for name, version, plan, i in rows}
        self._known_through = through

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; rolled back where anything fails."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise unavailable(error, self.path, "write the index", derived=True) from error
