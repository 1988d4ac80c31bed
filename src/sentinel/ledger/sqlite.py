"""The ledger on SQLite: one table of groups, one fsync per append, one writing process.

Why it is set up as it is: docs/decisions/030-ledger-groups-and-index.md.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from filelock import FileLock, Timeout

from sentinel.domain import LedgerInUse, LedgerUnavailable, WorkspaceError
from sentinel.ledger.base import Appended
from sentinel.ledger.sqlite_errors import cannot_open, unavailable
from sentinel.ledger.sqlite_file import (
    FORMAT_VERSION,
    check_or_make,
    connect,
    make_where_missing,
    open_for_reading,
)
from sentinel.log.entries import GROUP_FORMAT, Group, GroupKind, in_format, kind_of

_INSERT: Final = "INSERT INTO groups VALUES (?, ?, ?, ?, ?)"
_TAIL: Final = """
SELECT first_sequence + entries - 1, received_at_us FROM groups
ORDER BY first_sequence DESC LIMIT 1"""
_START: Final = "SELECT max(first_sequence) FROM groups WHERE first_sequence <= ?"
_LARGE_BYTES: Final = 1 << 18
"""A payload from this size on is read in pieces of it: SQLite's module holds the interpreter while
it takes a value out of a row, 10 ms for an import of 65,000 payments."""
_READ: Final = f"""
SELECT first_sequence, entries, kind, received_at_us, length(payload),
       CASE WHEN length(payload) < {_LARGE_BYTES} THEN payload END
FROM groups WHERE first_sequence >= ? ORDER BY first_sequence LIMIT ?"""

_READ_ROWS: Final = (8, 64, 512)
_READ_BYTES: Final = 4 << 20

CHECKPOINT_BYTES: Final = 8 << 20
"""The writer looks after the write-ahead log itself once so much was appended. With a
`Checkpointer` running next to it hardly anything is left to do then."""
_WAL_KEPT_BYTES: Final = 64 << 20


class SqliteLedger:
    """A ledger in one SQLite file. Made by `open_writer` or `open_reader`.

    Appends must come from one thread at a time, which may be another than the one that opened
    the ledger. Reads are safe from any thread, and any process, while appends go on.

    Attributes:
        path: The file.
        group_format: Format that decisions are appended in, GROUP_FORMAT or an older one.
    """

    def __init__(self, path: Path, writer: sqlite3.Connection | None, lock: FileLock | None):
        self.path = path
        self.group_format = GROUP_FORMAT
        self._writer = writer
        self._lock = lock
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._unchecked_bytes = 0
        self._last_sequence, self._last_received_at_us = self._tail()

    @property
    def appends_at_once(self) -> int:
        """One: see `Ledger`."""
        return 1

    @property
    def appends_on_loop(self) -> bool:
        """No: see `Ledger`."""
        return False

    @classmethod
    def open_writer(cls, path: Path) -> Self:
        """Open for appending, as the only process that does; makes the file where there is none.

        Raises:
            WorkspaceError: Another process appends to it, it is no ledger, it was written by a
                newer Sentinel, or it cannot be written at all.
            LedgerUnavailable: The disk is full or failing.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_name(path.name + ".lock"), timeout=0, thread_local=False)
            lock.acquire()
        except Timeout:
            raise LedgerInUse(
                f"Another process is writing the ledger {path}. Stop it first, or use another "
                "workspace."
            ) from None
        except OSError as error:
            raise WorkspaceError(
                f"Cannot write in the folder {path.parent}: {error.strerror}. Make it a writable "
                "folder, or use another workspace."
            ) from error
        connection: sqlite3.Connection | None = None
        try:
            make_where_missing(path)
            connection = connect(path, "rw")
            if not os.access(path, os.W_OK):  # SQLite would say so at the first append only
                raise WorkspaceError(f"The ledger {path} is read-only; make it writable.")
            check_or_make(connection, path)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
            return cls(path, connection, lock)
        except BaseException as error:
            if connection is not None:
                connection.close()
            lock.release()
            if isinstance(error, sqlite3.Error):
                raise cannot_open(error, path) from error
            raise

    @classmethod
    def open_reader(cls, path: Path) -> Self:
        """Open for reading only, whether or not a process is appending.

        Raises:
            WorkspaceError: There is no ledger, it is none, or a newer Sentinel wrote it.
            LedgerUnavailable: It cannot be read right now.
        """
        return cls(path, None, None)

    def begin_append(self, *_: object, **__: object) -> bool:
        """No: a disk has to be waited for."""
        return False

    def append(
        self,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        *,
        transaction_ids: Sequence[str] = (),
        token: bytes | None = None,
    ) -> Appended:
        """Append a group; see `Ledger.append`.

        The one process that writes knows what it has appended, so the ids and the token go unused.

        Raises:
            LedgerUnavailable: It could not be made durable; nothing was appended.
            ValueError: No entries, or ``received_at_us`` runs backwards.
        """
        if entries < 1:
            raise ValueError(f"A group holds at least one entry, not {entries}.")
        if received_at_us < self._last_received_at_us:
            raise ValueError(
                f"received_at_us runs backwards: {received_at_us} after "
                f"{self._last_received_at_us}. Stamp entries in the order they are appended in."
            )
        if self._writer is None:
            raise LedgerUnavailable(
                f"The ledger {self.path} is {'closed' if self._closed else 'open for reading'}: "
                "nothing can be appended. Open it with open_writer."
            )
        payload = in_format(kind, payload, self.group_format)
        first = self._last_sequence + 1
        try:
            self._writer.execute(_INSERT, (first, entries, kind.value, received_at_us, payload))
        except sqlite3.Error as error:
            self._erase_traces()
            raise unavailable(error, self.path, "append a group to") from error
        self._last_sequence += entries
        self._last_received_at_us = received_at_us
        self._unchecked_bytes += len(payload) + 4096
        if self._unchecked_bytes >= CHECKPOINT_BYTES:
            self._unchecked_bytes = 0
            # The group is durable in the write-ahead log whether or not this succeeds.
            with contextlib.suppress(sqlite3.Error):
                self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        group = Group(
            first_sequence=first,
            entries=entries,
            kind=kind,
            received_at_us=received_at_us,
            payload=payload,
        )
        return Appended(first, received_at_us, group=group)

    def last_sequence(self) -> int:
        """Sequence of the last entry, 0 if there is none."""
        return self._last_sequence if self._lock else self._tail()[0]

    def last_received_at_us(self) -> int:
        """`received_at_us` of the last entry, 0 if there is none."""
        return self._last_received_at_us if self._lock else self._tail()[1]

    def groups(self, after: int = 0) -> Iterator[Group]:
        """Groups that hold entries with a sequence above ``after``, in order.

        No read lock outlives a step of the iterator, so a slow consumer holds nothing up.

        Raises:
            LedgerUnavailable: The file cannot be read right now.
        """
        with self._reading() as connection:
            (start,) = connection.execute(_START, (after + 1,)).fetchone()
        start = start or 1
        step = 0
        while True:
            with self._reading() as connection:
                groups = _read_some(connection, start, _READ_ROWS[step])
            if not groups:
                return
            last = groups[-1]
            start = last.first_sequence + last.entries
            for group in groups:
                if group.first_sequence + group.entries - 1 > after:
                    yield group
            step = min(step + 1, len(_READ_ROWS) - 1)

    def close(self) -> None:
        """Release the file and the right to append. May be called more than once."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tail(self) -> tuple[int, int]:
        with self._reading() as connection:
            row = connection.execute(_TAIL).fetchone()
        return row or (0, 0)

    def _erase_traces(self) -> None:
        """Make sure that a failed append stays failed after a crash.

        When the sync fails, the group's frames are complete in the write-ahead log and a
        recovery would take them for committed. Any further commit overwrites them.
        """
        with contextlib.suppress(sqlite3.Error):
            assert self._writer is not None
            self._writer.execute(f"PRAGMA user_version = {FORMAT_VERSION}")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread uses meanwhile."""
        connection = self._take()
        try:
            yield connection
        except sqlite3.Error as error:
            connection.close()
            raise unavailable(error, self.path, "read") from error
        except BaseException:
            connection.close()
            raise
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _take(self) -> sqlite3.Connection:
        if self._closed:
            raise LedgerUnavailable(f"The ledger {self.path} is closed: open it again.")
        try:
            return self._idle.pop()
        except IndexError:
            return open_for_reading(self.path)


class Checkpointer:
    """Moves what the write-ahead log holds into the ledger's file, beside the writer.

    Run from another process, so that the writer's commits do not wait for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def run(self) -> None:
        """One passive checkpoint: never waits for the writer or for readers.

        Raises:
            LedgerUnavailable: The disk is full or failing.
        """
        try:
            if self._connection is None:
                self._connection = connect(self._path, "rw")
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            raise unavailable(error, self._path, "checkpoint") from error

    def close(self) -> None:
        """Release the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _read_some(connection: sqlite3.Connection, start: int, rows: int) -> list[Group]:
    """A few groups, bounded by number and by size."""
    groups: list[Group] = []
    size = 0
    cursor = connection.execute(_READ, (start, rows))
    for first, entries, kind, received_at_us, length, payload in cursor:
        if payload is None:
            payload = _large_payload(connection, first)
        groups.append(
            Group(
                first_sequence=first,
                entries=entries,
                kind=kind_of(kind),
                received_at_us=received_at_us,
                payload=payload,
            )
        )
        size += length
        if size >= _READ_BYTES:
            break
    cursor.close()
    return groups


def _large_payload(connection: sqlite3.Connection, first_sequence: int) -> bytes:
    """The payload of the group that begins there."""
    blob = connection.blobopen("groups", "payload", first_sequence, readonly=True)
    with contextlib.closing(blob):
        return b"".join(iter(lambda: blob.read(_LARGE_BYTES), b""))
