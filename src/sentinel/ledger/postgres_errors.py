"""What PostgreSQL's errors mean for Sentinel, in words that say what to do next."""

from __future__ import annotations

from typing import Final

import psycopg

from sentinel.domain import LedgerUnavailable, WorkspaceError
from sentinel.ledger.database import Database

_ADVICE: Final = {
    "28P01": "the password is wrong; set PGPASSWORD, ~/.pgpass or the one in ledger.url",
    "28000": "the server does not let this user in; check the user and pg_hba.conf",
    "3D000": "there is no such database; make it with `createdb`, or name another",
    "42501": "this user lacks a right; let it own the schema (`CREATE SCHEMA ... AUTHORIZATION "
    "...`), or run `sentinel ledger migrate` as its owner and grant this user its tables",
    "53100": "the server's disk is full; free some space, then try again",
    "53300": "the server has no connection left; raise max_connections or run fewer scorers",
    "57014": "it took longer than ledger.statement_seconds; look for locks (pg_locks) and load",
    "57P03": "the server is starting up or shutting down; try again",
    "25006": "the server is read-only, most likely a standby; name the primary",
    "54000": "the group is larger than a record may be; write it in smaller parts",
    "42P01": "its tables are not there; run `sentinel ledger migrate`",
    "42883": "its functions are not there; run `sentinel ledger migrate`",
}
_SET_UP_WRONGLY: Final = ("28", "3D", "42")
_PASSING: Final = ("08", "53300", "55P03", "57", "40", "25006")


def is_passing(error: psycopg.Error) -> bool:
    """Whether trying again soon may help: the server went away, is busy or is starting."""
    if error.sqlstate is None:
        # The connection broke, or there was none: the server said nothing.
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)) and not (
            # Said while connecting, when psycopg knows no code.
            _code(error)
        )
    return error.sqlstate.startswith(_PASSING)


def unavailable(error: psycopg.Error, database: Database, doing: str) -> LedgerUnavailable:
    """The error of a ledger in use that cannot be read or written right now.

    Args:
        error: What PostgreSQL said.
        database: The ledger's.
        doing: What failed, as in "append a group to".
    """
    return LedgerUnavailable(f"Cannot {doing} {database.shown}: {_words(error, database)}.")


def cannot_open(error: psycopg.Error, database: Database) -> LedgerUnavailable | WorkspaceError:
    """The error of a ledger that cannot be opened: set up wrongly, or unavailable right now."""
    kind = WorkspaceError if _code(error).startswith(_SET_UP_WRONGLY) else LedgerUnavailable
    return kind(f"Cannot open the ledger {database.shown}: {_words(error, database)}.")


def _code(error: psycopg.Error) -> str:
    """SQLSTATE; where a connection was refused, found by what the server said. Empty: none."""
    if error.sqlstate:
        return error.sqlstate
    text = str(error)
    if "password authentication failed" in text or "no password supplied" in text:
        return "28P01"
    if "pg_hba.conf" in text or ("role" in text and "does not exist" in text):
        return "28000"
    if "database" in text and "does not exist" in text:
        return "3D000"
    return ""


def _words(error: psycopg.Error, database: Database) -> str:
    said = " ".join(str(error).split()).rstrip(".")
    if database.password:
        said = said.replace(database.password, "***")
    advice = _ADVICE.get(_code(error))
    if advice is None and error.sqlstate is None:
        advice = "the server does not answer; check that it runs and that host and port are right"
    name = error.sqlstate or type(error).__name__
    return f"{advice} ({name}: {said})" if advice else f"{name}: {said}"
