"""Small SQLite files of a workspace: for their owner alone, marked, opened for one question."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sentinel.domain import LedgerUnavailable, WorkspaceError

_LOCK_SECONDS: Final = 2.0


@dataclass(frozen=True)
class WorkspaceDatabase:
    """A SQLite file that is made by its first change.

    It may be replaced while a process runs, so no connection is kept.

    Attributes:
        path: The file.
        application_id: Marks it, in SQLite's header.
        format_version: Of its tables.
        tables: The statements that make them.
        holds: What is in it, after "the": "policy", "keys".
        file_of: The same as in "is no file of the policy".
    """

    path: Path
    application_id: int
    format_version: int
    tables: str
    holds: str
    file_of: str

    @contextlib.contextmanager
    def open(self, mode: str) -> Iterator[sqlite3.Connection | None]:
        """A connection in autocommit mode for one question; None if there is no file.

        Args:
            mode: "ro" or "rw".

        Raises:
            LedgerUnavailable: The file cannot be used right now; also for what SQLite raises
                within the block.
            WorkspaceError: It is something else, or of another format.
        """
        if not self.path.exists():
            yield None
            return
        connection: sqlite3.Connection | None = None
        journal = self.path.with_name(f"{self.path.name}-journal")
        if mode == "ro" and journal.exists() and os.access(self.path, os.W_OK):
            mode = "rw"  # what a crash left half-written is taken back by who may write
        try:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,
                timeout=_LOCK_SECONDS,
            )
            connection.execute("PRAGMA synchronous = FULL")
            self._check(connection)
            yield connection
        except sqlite3.Error as error:
            raise LedgerUnavailable(
                f"The {self.holds} in {self.path} cannot be used: {error}. Make the file readable "
                "and writable for this process, or bring it back from a backup."
            ) from error
        finally:
            if connection is not None:
                connection.close()

    def make(self) -> None:
        """Make the file, whole or not at all; another process or thread may do the same.

        Raises:
            WorkspaceError: It cannot be made.
        """
        if self.path.exists():
            return
        own = f"{os.getpid()}.{threading.get_ident()}"
        partial = self.path.with_name(f".{self.path.name}.{own}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            connection = sqlite3.connect(partial, isolation_level=None)
            try:
                connection.executescript(self.tables)
                connection.execute(f"PRAGMA application_id = {self.application_id}")
                connection.execute(f"PRAGMA user_version = {self.format_version}")
            finally:
                connection.close()
            with contextlib.suppress(FileExistsError):
                os.link(partial, self.path)  # unlike a rename, leaves one that is there
        except (OSError, sqlite3.Error) as error:
            raise WorkspaceError(f"{self.path} cannot be made: {error}.") from error
        finally:
            partial.unlink(missing_ok=True)

    def _check(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != self.application_id:
            raise WorkspaceError(
                f"{self.path} is no file of {self.file_of}. Move it away, or use another workspace."
            )
        if version != self.format_version:
            raise WorkspaceError(
                f"{self.path} has format {version}, this Sentinel reads {self.format_version}. "
                "Install the version that wrote it."
            )
