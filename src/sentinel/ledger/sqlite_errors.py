"""What SQLite's errors mean for Sentinel, in words that say what to do next."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from sentinel.domain import LedgerUnavailable, WorkspaceError

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space, then try again",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only; make it writable",
    sqlite3.SQLITE_PERM: "access is denied; check the owner and mode of the file",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened; check that its folder exists and the "
    "owner and mode of both",
    sqlite3.SQLITE_BUSY: "another process holds a lock on it; stop that process, then try again",
    sqlite3.SQLITE_LOCKED: "another connection holds a lock on it; try again",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database; move it away or name another",
    sqlite3.SQLITE_IOERR: "the disk failed, or a limit on file sizes was met; check the disk, "
    "its quota and `ulimit -f`",
    sqlite3.SQLITE_TOOBIG: "the group is larger than a record may be; write it in smaller parts",
}

DAMAGED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""Primary codes of a file whose content cannot be used."""

_SET_UP_WRONGLY: Final = (
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
    *DAMAGED,
)


def primary_code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 where the error did not come from SQLite's core."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF


def unavailable(
    error: sqlite3.Error, path: Path, doing: str, *, derived: bool = False
) -> LedgerUnavailable:
    """The error of a file in use that cannot be read or written right now.

    Args:
        error: What SQLite said.
        path: The file.
        doing: What failed, as in "append a group to".
        derived: Whether the file can be made anew from the ledger.
    """
    return LedgerUnavailable(f"Cannot {doing} {path}: {_words(error, derived)}.")


def cannot_open(
    error: sqlite3.Error, path: Path, *, derived: bool = False
) -> LedgerUnavailable | WorkspaceError:
    """The error of a file that cannot be opened: set up wrongly, or unavailable right now."""
    kind = WorkspaceError if primary_code(error) in _SET_UP_WRONGLY else LedgerUnavailable
    return kind(f"Cannot open {path}: {_words(error, derived)}.")


def _words(error: sqlite3.Error, derived: bool) -> str:
    code = primary_code(error)
    advice = _ADVICE.get(code)
    if derived and code == sqlite3.SQLITE_CORRUPT:
        advice = "the file is damaged; delete it, it is made anew from the ledger"
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return f"{advice} ({name}: {error})" if advice else f"{name}: {error}"
