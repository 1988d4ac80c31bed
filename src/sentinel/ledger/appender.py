"""The writing end of a PostgreSQL ledger: one statement per append, tried until it is settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

from sentinel.domain import (
    AlreadyRecorded,
    LedgerInUse,
    LedgerUnavailable,
    SentinelError,
    Verdict,
    WorkspaceError,
)
from sentinel.ledger import schema
from sentinel.ledger.append_call import Row, append_values, call_append, prepare_append
from sentinel.ledger.append_in_flight import AppendInFlight
from sentinel.ledger.base import AppendDone, Appended, Standing
from sentinel.ledger.connections import Connection, connect
from sentinel.ledger.database import Database
from sentinel.ledger.group_keys import GroupKeys
from sentinel.ledger.postgres_errors import cannot_open, is_passing, unavailable
from sentinel.log.entries import GroupKind

log = logging.getLogger(__name__)

# A plan is made while the tables are small and nobody has counted their rows, and is kept: it must
# be the one for large tables, which looks each id up.
_PLANS: Final = """
SELECT set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false),
       set_config('enable_mergejoin', 'off', false),
       set_config('plan_cache_mode', 'force_generic_plan', false)"""
_TAIL: Final = "SELECT coalesce(max(first_sequence + entries - 1), 0) FROM {ns}.groups"
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_LOCK_SECONDS: Final = 1.5
_SHOWN_IDS: Final = 5


class _Answer(NamedTuple):
    """What `append_group` returns; see its migration."""

    status: str
    sequence: int
    received_at_us: int
    recorded: list[bytes] | None
    ids: list[bytes] | None
    sequences: list[int]
    is_fraud: list[bool | None]
    label_sequences: list[int]


class Appender:
    """Appends from one thread at a time, over one connection that is replaced when it breaks.

    Args:
        database: Where to.
        exclusive: As the only writer. While the connection lives, a lock on the server keeps
            others out; when it was lost, the log's end tells whether one came in between.

    Raises:
        WorkspaceError: Another process appends, and one of the two must be the only one.
        LedgerUnavailable: The database cannot be used right now.
    """

    def __init__(self, database: Database, *, exclusive: bool) -> None:
        self._database = database
        self._exclusive = exclusive
        self._namespace = sql.Identifier(database.namespace)
        self._connection: Connection | None = None
        self._expected: int | None = None
        self._closing = threading.Event()
        try:
            self._connection = self._connect()
            if exclusive:
                self._expected = self._tail(self._connection)
        except psycopg.Error as error:
            self.close()
            raise cannot_open(error, database) from error
        except BaseException:
            self.close()
            raise

    def append(
        self,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        keys: GroupKeys,
        token: bytes,
    ) -> Appended:
        """Append a group with the ids that it brings; see `Ledger.append`."""
        return self._appended(
            self._ask((kind.value, entries, received_at_us, payload, *keys, token)), entries
        )

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        keys: GroupKeys,
        token: bytes,
        done: AppendDone,
    ) -> bool:
        """`append` on an event loop, without waiting and without trying again.

        Nobody else uses this object until ``done`` was called; see `Ledger.begin_append`.

        Returns:
            False if there is no connection; nothing was done then.
        """
        connection = self._connection
        if connection is None:
            return False

        began = time.monotonic()

        def ended(row: Row | None, error: psycopg.Error | None) -> None:
            if row is None:
                assert error is not None
                problem = unavailable(error, self._database, "append to")
                self._drop()
                late = time.monotonic() - began >= self._database.retry_seconds
                if late or not is_passing(error):
                    done(None, problem)
                    return
                log.warning("%s Trying again.", problem)
                done(None, None)
                return
            try:
                appended = self._appended(_Answer(*row), entries)
            except SentinelError as refused:
                done(None, refused)
            except Exception as fault:  # noqa: BLE001 -- whoever waits is told
                done(None, LedgerUnavailable(f"The ledger failed unexpectedly: {fault!r}."))
            else:
                done(appended, None)

        values = append_values(
            kind.value, entries, received_at_us, payload, *keys, token, expected=self._expected
        )
        AppendInFlight(loop, connection, values, ended)
        return True

    def _appended(self, answer: _Answer, entries: int) -> Appended:
        """What an answer says.

        Raises:
            AlreadyRecorded, LedgerUnavailable: See `PostgresLedger.append`.
        """
        if answer.status == "recorded":
            assert answer.recorded is not None
            raise _already_recorded([i.decode() for i in answer.recorded], self._database)
        if answer.status == "given up":
            raise LedgerUnavailable(
                f"This append to {self._database.shown} was given up before it came. Append the "
                "group anew, under another token."
            )
        if answer.status == "moved":
            self._expected = answer.sequence
            raise LedgerUnavailable(
                f"The log in {self._database.shown} has gone on to entry {answer.sequence} without "
                "this process: an append whose answer was lost, or another writer. What was made "
                "of the log has to be made anew."
            )
        if self._exclusive:
            self._expected = answer.sequence + entries - 1
        return Appended(answer.sequence, answer.received_at_us, _before(answer))

    def close(self) -> None:
        """Release the connection and with it the right to append."""
        self._closing.set()
        self._drop()

    def _ask(self, values: tuple[Any, ...]) -> _Answer:
        """The statement's answer, tried again for as long as the server is gone."""
        started = time.monotonic()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                asked = append_values(*values, expected=self._expected)
                return _Answer(*call_append(self._connection, asked))
            except psycopg.Error as error:
                # Whether it is in the log is not known; the token tells when it is tried again.
                self._drop()
                left = started + self._database.retry_seconds - time.monotonic()
                if left <= 0 or not is_passing(error):
                    raise unavailable(error, self._database, "append a group to") from error
                log.warning("%s Trying again.", unavailable(error, self._database, "append to"))
            except WorkspaceError as error:
                # The server may not have noticed yet that the connection before this one is gone.
                left = started + self._database.retry_seconds - time.monotonic()
                if left <= 0:
                    raise LedgerUnavailable(str(error)) from error
            if self._closing.wait(min(pause, left)):
                raise LedgerUnavailable(
                    f"The ledger {self._database.shown} was closed in the middle of an append."
                )
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _connect(self) -> Connection:
        """A connection that holds the lock of a writer."""
        connection = connect(self._database)
        try:
            connection.execute(_PLANS)
            prepare_append(connection, self._namespace)
            if not self._locked(connection):
                raise LedgerInUse(
                    f"Another process is writing the ledger {self._database.shown}. "
                    + (
                        "With embedded state only one may: stop it first, use another "
                        "ledger.namespace, or share the state in Redis."
                        if self._exclusive
                        else "It keeps its state to itself (state.backend = embedded) and must be "
                        "alone: stop it first."
                    )
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _locked(self, connection: Connection) -> bool:
        """Take the lock. A process that was just killed may hold it for another moment."""
        call = "pg_try_advisory_lock" if self._exclusive else "pg_try_advisory_lock_shared"
        query = sql.SQL("SELECT {}(%s)").format(sql.SQL(call))
        key = schema.lock_key(self._database.namespace, "write")
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            row = connection.execute(query, (key,)).fetchone()
            if row == (True,):
                return True
            if self._closing.wait(0.1) or time.monotonic() > deadline:
                return False

    def _tail(self, connection: Connection) -> int:
        row = connection.execute(sql.SQL(_TAIL).format(ns=self._namespace)).fetchone()
        assert row is not None
        return int(row[0])

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def standing(sequence: int, is_fraud: bool | None, label_sequence: int) -> Standing:
    """A `Standing` of what the database says."""
    if is_fraud is None:
        return Standing(sequence, None, 0)
    return Standing(sequence, Verdict.FRAUD if is_fraud else Verdict.LEGITIMATE, label_sequence)


def _before(answer: _Answer) -> dict[str, Standing]:
    if answer.ids is None:
        return {}
    columns = (answer.ids, answer.sequences, answer.is_fraud, answer.label_sequences)
    return {
        identifier.decode(): standing(sequence, is_fraud, label_sequence)
        for identifier, sequence, is_fraud, label_sequence in zip(*columns, strict=True)
    }


def _already_recorded(ids: list[str], database: Database) -> AlreadyRecorded:
    shown = ", ".join(repr(i) for i in ids[:_SHOWN_IDS])
    more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    return AlreadyRecorded(
        f"The log in {database.shown} holds {shown}{more} already; nothing was appended. Leave "
        "out what is recorded and append the rest.",
        ids=tuple(ids),
    )
