"""The ledger on PostgreSQL: for several scorers at once, and for one that keeps its log elsewhere.

Why it is set up as it is: docs/decisions/104-a-ledger-that-many-write.md.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from sentinel.domain import LedgerUnavailable, SentinelError, WorkspaceError
from sentinel.ledger import schema
from sentinel.ledger.appender import Appender, standing
from sentinel.ledger.base import (
    AppendDone,
    Appended,
    LabelEffect,
    PieceEffect,
    Standing,
    StateRebuild,
)
from sentinel.ledger.connections import Connection, Connections, connect
from sentinel.ledger.database import Database
from sentinel.ledger.group_keys import keys_of
from sentinel.ledger.postgres_errors import cannot_open
from sentinel.log.entries import GROUP_FORMAT, Group, GroupKind, in_format, kind_of

_APPENDERS: Final = 2
"""Of a log that many write: while one waits for the disk, the next has its group there already."""
_READ_ROWS: Final = (8, 64, 512)
_READ_BYTES: Final = 4 << 20
_REBUILDS_ROWS: Final = 1_000
_NO_END: Final = (1 << 63) - 1

_TAIL: Final = """
SELECT first_sequence + entries - 1, received_at_us FROM {ns}.groups
ORDER BY first_sequence DESC LIMIT 1"""
_READ: Final = """
SELECT first_sequence, entries, kind, received_at_us, floor_us, payload FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY first_sequence)
              - octet_length(payload) AS bytes_before
    FROM (
        SELECT * FROM {ns}.groups
        WHERE first_sequence >= coalesce(
            (SELECT max(first_sequence) FROM {ns}.groups WHERE first_sequence <= %(start)s), 1)
        AND first_sequence + entries > %(start)s
        ORDER BY first_sequence LIMIT %(rows)s
    ) AS following
) AS sized WHERE bytes_before < %(bytes)s ORDER BY first_sequence"""
_REBUILDS: Final = """
SELECT number, view, entity_key, position, through_sequence FROM {ns}.state_rebuilds
WHERE plan_hash = %s AND number > %s ORDER BY number LIMIT %s"""

_PIECE: Final = 100
"""Kind of a row of label_effects that stands for a piece of an import. Its sequence is negative, so
that it is never a label's, and its positions are those of all entries, flat."""

_EFFECTS: Final = """
SELECT transaction_id, label_sequence, kind, positions FROM {ns}.label_effects
WHERE plan_hash = %s AND label_sequence > %s ORDER BY label_sequence LIMIT %s"""


class PostgresLedger:
    """A ledger in a schema of a PostgreSQL database. Made by `open_writer` or `open_reader`.

    As many threads may append at once as there are appenders; all else is safe from any thread.
    Connections that break are replaced.

    Attributes:
        database: Where it is.
        group_format: Format that decisions are appended in, GROUP_FORMAT or an older one.
    """

    def __init__(self, database: Database, *appenders: Appender) -> None:
        self.database = database
        self.group_format = GROUP_FORMAT
        self._appenders = appenders
        self._idle: SimpleQueue[Appender] = SimpleQueue()
        for appender in appenders:
            self._idle.put(appender)
        self._connections = Connections(database)
        self._closed = False
        self._tail_query = self._named(_TAIL)
        self._read_query = self._named(_READ)

    @property
    def appends_at_once(self) -> int:
        """See `Ledger`."""
        return max(1, len(self._appenders))

    @property
    def appends_on_loop(self) -> bool:
        """Yes: see `Ledger`."""
        return True

    @classmethod
    def open_writer(cls, database: Database, *, exclusive: bool) -> Self:
        """Open for appending; makes the tables, or brings them up to date, where that is due.

        Args:
            database: Where the ledger is.
            exclusive: As the only process that appends.

        Raises:
            ConfigurationError: The URL cannot be understood.
            WorkspaceError: Another process appends to it and one of the two must be the only one;
                a newer Sentinel wrote it; or this user may not do what is needed.
            LedgerUnavailable: The database cannot be used right now.
        """
        migrate(database)
        appenders: list[Appender] = []
        try:
            while len(appenders) < (1 if exclusive else _APPENDERS):
                appenders.append(Appender(database, exclusive=exclusive))
        except BaseException:
            for appender in appenders:
                appender.close()
            raise
        return cls(database, *appenders)

    @classmethod
    def open_reader(cls, database: Database) -> Self:
        """Open for reading only, whether or not processes are appending.

        Raises:
            ConfigurationError: The URL cannot be understood.
            WorkspaceError: There is no ledger, its tables are of another version, or this user may
                not read it.
            LedgerUnavailable: The database cannot be used right now.
        """
        version = _version(database)
        if version is None:
            raise WorkspaceError(
                f"There is no ledger in schema {database.namespace!r} of {database.shown}. Import "
                "transactions or start Sentinel first, or name another ledger.namespace."
            )
        if version != schema.VERSIONS[-1]:
            raise WorkspaceError(
                f"The ledger {database.shown} has schema version {version}, this Sentinel needs "
                f"{schema.VERSIONS[-1]}. Run `sentinel ledger migrate`."
            )
        return cls(database)

    @classmethod
    def exists(cls, database: Database) -> bool:
        """Whether there is a ledger.

        Raises:
            ConfigurationError, WorkspaceError, LedgerUnavailable: See `open_reader`.
        """
        return _version(database) is not None

    @classmethod
    def delete(cls, database: Database) -> bool:
        """Delete a ledger with all it holds; returns whether there was one.

        Raises:
            WorkspaceError: A process is writing it, or this user may not.
            LedgerUnavailable: The database cannot be used right now.
        """
        if not cls.exists(database):
            return False
        appender = Appender(database, exclusive=True)
        try:
            with connect(database) as connection:
                name = sql.Identifier(database.namespace)
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(name))
        except psycopg.Error as error:
            raise cannot_open(error, database) from error
        finally:
            appender.close()
        return True

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
        """Append a group; see `Ledger.append`. Outlasts a lost connection for `retry_seconds`.

        Raises:
            AlreadyRecorded: The log holds some of the transactions or labels; nothing was appended.
            LedgerUnavailable: It could not be made durable in time, or another process broke into
                a log that this one was alone to write.
            ValueError: No entries.
        """
        if entries < 1:
            raise ValueError(f"A group holds at least one entry, not {entries}.")
        if self._closed or not self._appenders:
            raise LedgerUnavailable(
                f"The ledger {self.database.shown} is "
                f"{'closed' if self._closed else 'open for reading'}: nothing can be appended. "
                "Open it with open_writer."
            )
        payload = in_format(kind, payload, self.group_format)
        keys = keys_of(kind, payload, transaction_ids)
        appender = self._idle.get()
        try:
            appended = appender.append(
                kind, entries, received_at_us, payload, keys, token or secrets.token_bytes(16)
            )
        finally:
            self._idle.put(appender)
        return _with_group(appended, kind, entries, payload)

    def begin_append(
        self,
        loop: asyncio.AbstractEventLoop,
        kind: GroupKind,
        entries: int,
        received_at_us: int,
        payload: bytes,
        *,
        transaction_ids: Sequence[str],
        token: bytes,
        done: AppendDone,
    ) -> bool:
        """See `Ledger.begin_append`. For groups of decisions; others are decoded for their ids."""
        if kind != GroupKind.DECISIONS or self._closed:
            return False
        try:
            appender = self._idle.get_nowait()
        except Empty:
            return False

        def ended(appended: Appended | None, error: SentinelError | None) -> None:
            self._idle.put(appender)
            if appended is not None:
                appended = _with_group(appended, kind, entries, payload)
            done(appended, error)

        begun = False
        try:
            payload = in_format(kind, payload, self.group_format)
            keys = keys_of(kind, payload, transaction_ids)
            begun = appender.begin(loop, kind, entries, received_at_us, payload, keys, token, ended)
        finally:
            if not begun:
                self._idle.put(appender)
        return begun

    def last_sequence(self) -> int:
        """Sequence of the last entry, 0 if there is none."""
        return self._tail()[0]

    def last_received_at_us(self) -> int:
        """`received_at_us` of the last entry, 0 if there is none."""
        return self._tail()[1]

    def groups(self, after: int = 0) -> Iterator[Group]:
        """Groups that hold entries with a sequence above ``after``, in order.

        Nothing is held on the server between two steps of the iterator.

        Raises:
            LedgerUnavailable: The database cannot be used right now.
        """
        start = after + 1
        step = 0
        while groups := self._read_some(start, _READ_ROWS[step]):
            yield from groups
            start = groups[-1].first_sequence + groups[-1].entries
            step = min(step + 1, len(_READ_ROWS) - 1)

    def verdicts(
        self, transaction_ids: Sequence[str], *, before: int | None = None
    ) -> Mapping[str, Standing]:
        """See `SharedLedger.verdicts`."""
        query = self._named("SELECT * FROM {ns}.standings(%s::bytea[], %s::bigint)")
        end = _NO_END if before is None else before
        wanted = [identifier.encode() for identifier in transaction_ids]

        def read(connection: Connection) -> list[tuple[bytes, int, bool | None, int]]:
            return connection.execute(query, (wanted, end)).fetchall()

        return {
            identifier.decode(): standing(sequence, is_fraud, label_sequence)
            for identifier, sequence, is_fraud, label_sequence in self._connections.run(
                read, "read"
            )
            if sequence or label_sequence
        }

    def settle(self, token: bytes) -> int:
        """See `SharedLedger.settle`."""
        query = self._named("SELECT {ns}.settle(%s)")

        def ask(connection: Connection) -> int:
            (sequence,) = _one(connection.execute(query, (token,)))
            return int(sequence)

        return self._connections.run(ask, "settle an append to")

    def record_rebuild(self, rebuild: StateRebuild) -> None:
        """See `SharedLedger.record_rebuild`."""
        query = self._named(
            "INSERT INTO {ns}.state_rebuilds (plan_hash, view, entity_key, position, "
            "through_sequence) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        )
        plan_hash, view, entity_key, *rest = rebuild
        values = (plan_hash, view, entity_key.encode(), *rest)
        self._connections.run(
            lambda connection: connection.execute(query, values), "record a rebuild in"
        )

    def last_rebuild(self, plan_hash: str) -> int:
        """See `SharedLedger.last_rebuild`."""
        query = self._named(
            "SELECT coalesce(max(number), 0) FROM {ns}.state_rebuilds WHERE plan_hash = %s"
        )
        (number,) = self._connections.run(
            lambda connection: _one(connection.execute(query, (plan_hash,))), "read"
        )
        return int(number)

    def rebuilds(self, plan_hash: str, *, after: int = 0) -> Iterator[StateRebuild]:
        """See `SharedLedger.rebuilds`."""
        query = self._named(_REBUILDS)
        number = after
        while True:

            def read(connection: Connection, after: int = number) -> list[tuple[Any, ...]]:
                return connection.execute(query, (plan_hash, after, _REBUILDS_ROWS)).fetchall()

            rows = self._connections.run(read, "read")
            if not rows:
                return
            for _, view, entity_key, position, through in rows:
                yield StateRebuild(plan_hash, view, entity_key.decode(), position, through)
            number = rows[-1][0]

    def rebuilt_position(self, plan_hash: str, view: str, entity_key: str) -> int:
        """See `SharedLedger.rebuilt_position`."""
        query = self._named(
            "SELECT coalesce(max(position), 0) FROM {ns}.state_rebuilds WHERE plan_hash = %s "
            "AND view = %s AND entity_key = %s AND through_sequence >= 0"
        )
        values = (plan_hash, view, entity_key.encode())
        (position,) = self._connections.run(
            lambda connection: _one(connection.execute(query, values)), "read"
        )
        return int(position)

    def record_label_effects(self, effects: Sequence[LabelEffect]) -> None:
        """See `SharedLedger.record_label_effects`."""
        query = self._named(
            "INSERT INTO {ns}.label_effects (plan_hash, transaction_id, label_sequence, kind, "
            "positions) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
        )
        rows = [
            (e.plan_hash, e.transaction_id.encode(), e.label_sequence, e.kind, list(e.positions))
            for e in effects
        ]

        def write(connection: Connection) -> None:
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(query, rows)

        if rows:
            self._connections.run(write, "record effects of log entries in")

    def record_piece_effect(self, effect: PieceEffect) -> None:
        """See `SharedLedger.record_piece_effect`."""
        query = self._named(
            "INSERT INTO {ns}.label_effects (plan_hash, transaction_id, label_sequence, kind, "
            "positions) VALUES (%s, ''::bytea, %s, %s, %s::bigint[]) ON CONFLICT DO NOTHING"
        )
        values = (effect.plan_hash, -effect.first_sequence, _PIECE, list(effect.positions))
        self._connections.run(
            lambda connection: connection.execute(query, values), "record effects of an import in"
        )

    def piece_effects(self, plan_hash: str) -> Iterator[PieceEffect]:
        """See `SharedLedger.piece_effects`."""
        query = self._named(
            "SELECT label_sequence, positions FROM {ns}.label_effects WHERE plan_hash = %s "
            "AND label_sequence < %s ORDER BY label_sequence DESC LIMIT 1"
        )
        before = 0
        while True:

            def read(connection: Connection, before: int = before) -> tuple[Any, ...] | None:
                return connection.execute(query, (plan_hash, before)).fetchone()

            row = self._connections.run(read, "read")
            if row is None:
                return
            before = row[0]
            yield PieceEffect(plan_hash, -before, row[1])

    def label_effects(self, plan_hash: str) -> Iterator[LabelEffect]:
        """See `SharedLedger.label_effects`."""
        query = self._named(_EFFECTS)
        after = -1
        while True:

            def read(connection: Connection, after: int = after) -> list[tuple[Any, ...]]:
                return connection.execute(query, (plan_hash, after, _REBUILDS_ROWS)).fetchall()

            rows = self._connections.run(read, "read")
            if not rows:
                return
            for identifier, sequence, kind, positions in rows:
                yield LabelEffect(plan_hash, identifier.decode(), sequence, kind, tuple(positions))
            after = rows[-1][1]

    def close(self) -> None:
        """Release the connections and the right to append. May be called more than once."""
        self._closed = True
        self._connections.close()
        for appender in self._appenders:
            appender.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _named(self, query: str) -> sql.Composed:
        return sql.SQL(query).format(ns=sql.Identifier(self.database.namespace))

    def _tail(self) -> tuple[int, int]:
        row = self._connections.run(lambda c: c.execute(self._tail_query).fetchone(), "read")
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def _read_some(self, start: int, rows: int) -> list[Group]:
        """A few groups, bounded by number and by size."""
        wanted = {"start": start, "rows": rows, "bytes": _READ_BYTES}

        def read(connection: Connection) -> list[Group]:
            with connection.cursor(binary=True) as cursor:
                return [
                    Group(
                        first_sequence=first,
                        entries=entries,
                        kind=kind_of(kind),
                        received_at_us=received_at_us,
                        payload=payload,
                        floor_us=floor_us,
                    )
                    for first, entries, kind, received_at_us, floor_us, payload in cursor.execute(
                        self._read_query, wanted
                    )
                ]

        return self._connections.run(read, "read")


def migrate(database: Database, tables: schema.Tables = schema.LEDGER) -> tuple[str | None, str]:
    """Bring a ledger's tables, or those beside it, up to date.

    Returns:
        The schema versions before (None if there were none) and after.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `PostgresLedger.open_writer`.
    """
    try:
        with connect(database) as connection:
            before = schema.version_of(connection, database, tables)
            if before == tables.versions[-1]:
                return before, before
            return schema.migrate(connection, database, tables)
    except psycopg.Error as error:
        raise cannot_open(error, database) from error


def _with_group(appended: Appended, kind: GroupKind, entries: int, payload: bytes) -> Appended:
    group = Group(
        first_sequence=appended.first_sequence,
        entries=entries,
        kind=kind,
        received_at_us=appended.received_at_us,
        payload=payload,
    )
    return appended._replace(group=group)


def _version(database: Database) -> str | None:
    try:
        with connect(database) as connection:
            return schema.version_of(connection, database)
    except psycopg.Error as error:
        raise cannot_open(error, database) from error


def _one(cursor: psycopg.Cursor[Any]) -> Any:
    row = cursor.fetchone()
    assert row is not None  # the statements here always give one
    return row
