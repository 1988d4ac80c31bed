"""What a model says of the imported history, so that a historic transaction has an answer.

Not part of the ledger: scores of the past are recomputed whenever a model is promoted.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import WorkspaceError
from sentinel.ledger.sqlite_errors import cannot_open, unavailable

APPLICATION_ID: Final = 0x534E5453
"""Marks the file as scores of the history ("SNTS"), in SQLite's header."""
FORMAT_VERSION: Final = 1

Scored = tuple[Sequence[str], npt.NDArray[np.float64], npt.NDArray[np.bool_]]
"""Transaction ids, float64 (n,) calibrated probabilities, bool (n,) whether called fraud."""


class HistoricScore(msgspec.Struct, frozen=True, kw_only=True):
    """A model's answer for a historic transaction.

    Attributes:
        transaction_id: The transaction.
        fraud_probability: Calibrated probability of fraud, 0 to 1.
        is_fraud: Whether it reaches the model's fraud threshold.
        model_version: Who says so.
    """

    transaction_id: str
    fraud_probability: float
    is_fraud: bool
    model_version: str


class HistoryScores:
    """Batch scores of historic transactions by one model version.

    `replace` puts a complete new file in place of the old one, so that readers in any process
    see all scores of one version or all of the other. From one thread at a time, and `replace`
    in one process at a time.

    Args:
        path: The SQLite file; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reader: sqlite3.Connection | None = None
        self._inode = 0
        self._version = ""

    def replace(self, version: str, scored: Iterable[Scored]) -> int:
        """Put new scores in place of the old ones, all at once.

        Args:
            version: Version of the model that scored.
            scored: The scores in portions.

        Returns:
            Number of scores.

        Raises:
            LedgerUnavailable: The disk is full or failing; the old scores stay.
            WorkspaceError: The folder cannot be written.
        """
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            count = _write(fresh, version, scored)
            with fresh.open("rb") as file:
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except sqlite3.Error as error:
            raise unavailable(error, fresh, "write the scores of the history to") from error
        except OSError as error:
            raise WorkspaceError(
                f"Cannot write {self.path}: {error.strerror}. Make its folder writable."
            ) from error
        finally:
            fresh.unlink(missing_ok=True)
        return count

    def find(self, transaction_id: str) -> HistoricScore | None:
        """The score of a historic transaction; None: it has none.

        Raises:
            LedgerUnavailable: The file cannot be read right now.
            WorkspaceError: It is something else, or of another version.
        """
        reader = self._current()
        if reader is None:
            return None
        try:
            row = reader.execute(
                "SELECT probability, is_fraud FROM scores WHERE transaction_id = ? LIMIT 1",
                (transaction_id,),
            ).fetchone()
        except sqlite3.Error as error:
            raise unavailable(error, self.path, "read") from error
        if row is None:
            return None
        return HistoricScore(
            transaction_id=transaction_id,
            fraud_probability=row[0],
            is_fraud=bool(row[1]),
            model_version=self._version,
        )

    def version(self) -> str | None:
        """Version of the model whose scores these are; None: there are none.

        Raises:
            LedgerUnavailable: The file cannot be read right now.
            WorkspaceError: It is something else, or of another version.
        """
        return None if self._current() is None else self._version

    def close(self) -> None:
        """Release the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _current(self) -> sqlite3.Connection | None:
        """A connection to the file that is in place now."""
        try:
            inode = self.path.stat().st_ino
        except FileNotFoundError:
            self.close()
            return None
        if self._reader is not None and inode == self._inode:
            return self._reader
        self.close()
        reader: sqlite3.Connection | None = None
        try:
            reader = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False
            )
            (application,) = reader.execute("PRAGMA application_id").fetchone()
            (format_version,) = reader.execute("PRAGMA user_version").fetchone()
            if (application, format_version) != (APPLICATION_ID, FORMAT_VERSION):
                raise WorkspaceError(
                    f"{self.path} does not hold scores of the history in format "
                    f"{FORMAT_VERSION}. Delete it and promote a model."
                )
            (self._version,) = reader.execute("SELECT version FROM model").fetchone()
        except BaseException as error:
            if reader is not None:
                reader.close()
            if isinstance(error, sqlite3.Error):
                raise cannot_open(error, self.path, derived=True) from error
            raise
        self._reader, self._inode = reader, inode
        return reader


def _write(path: Path, version: str, scored: Iterable[Scored]) -> int:
    count = 0
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # Nothing to protect: the file counts only once it is complete and renamed.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        connection.execute("BEGIN")
        connection.execute("CREATE TABLE model (version TEXT NOT NULL)")
        connection.execute("INSERT INTO model VALUES (?)", (version,))
        connection.execute("CREATE TABLE scores (transaction_id TEXT, probability REAL, is_fraud)")
        for ids, probabilities, is_fraud in scored:
            connection.executemany(
                "INSERT INTO scores VALUES (?, ?, ?)",
                zip(ids, probabilities.tolist(), is_fraud.tolist(), strict=True),
            )
            count += len(ids)
        connection.execute("CREATE INDEX scores_by_id ON scores (transaction_id)")
        connection.execute("COMMIT")
    finally:
        connection.close()
    return count
