"""Where alerts, what was told of them, and who acknowledged them are kept: a file of the workspace.

One process looks and tells (`sentinel monitor`); people acknowledge from others. Whatever is read
and written together is so in one transaction.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import astuple

from sentinel.alerts.states import Held, Key
from sentinel.domain import SentinelError
from sentinel.workspace_database import WorkspaceDatabase

APPLICATION_ID: Final = 0x534E414C
"""Marks the file as one of alerts ("SNAL"), in SQLite's header."""
FORMAT_VERSION: Final = 1
KEEP_DIGESTS_US: Final = 60 * 86_400_000_000
"""So long it is remembered that a digest was sent; each is sent within its day or week."""

_TABLES: Final = """
CREATE TABLE alerts (
    name TEXT NOT NULL, subject TEXT NOT NULL, alert BLOB NOT NULL, PRIMARY KEY (name, subject)
) WITHOUT ROWID;
CREATE TABLE told (
    channel TEXT NOT NULL, name TEXT NOT NULL, subject TEXT NOT NULL,
    state TEXT NOT NULL, fired_at_us INTEGER NOT NULL, at_us INTEGER NOT NULL,
    PRIMARY KEY (channel, name, subject)
) WITHOUT ROWID;
CREATE TABLE acknowledged (
    name TEXT PRIMARY KEY, by TEXT NOT NULL, why TEXT NOT NULL,
    at_us INTEGER NOT NULL, until_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE channels (channel TEXT PRIMARY KEY, delivery BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE digests (digest TEXT PRIMARY KEY, at_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outcome_hours (
    hour INTEGER PRIMARY KEY, decisions INTEGER NOT NULL, stopped INTEGER NOT NULL
) WITHOUT ROWID;
"""


class Told(msgspec.Struct, frozen=True):
    """What a channel was told last of an alert.

    Attributes:
        state: "firing" or "resolved".
        fired_at_us: Of which time that it fired.
        at_us: When it was told.
    """

    state: str
    fired_at_us: int
    at_us: int


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody has taken an alert on: it is not told again until it is resolved.

    Attributes:
        name: Of the alert. Of several subjects it is about those that fired by then.
        by, why: Who, and what they say.
        at_us, until_us: From when to when it holds at most, microseconds UTC.
    """

    name: str
    by: str
    why: str
    at_us: int
    until_us: int

    def covers(self, one: Held) -> bool:
        """Whether it is about an alert: of the same name, and fired before it."""
        return one.name == self.name and 0 < one.fired_at_us <= self.at_us


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel does.

    Attributes:
        sent_at_us: When it last took something; 0 if never.
        attempts: Failures since then.
        failed_at_us: The last of them.
        problem: What was wrong last; empty if nothing.
    """

    sent_at_us: int = 0
    attempts: int = 0
    failed_at_us: int = 0
    problem: str = ""


class Known(NamedTuple):
    """What is known of a channel, and of who is on which alert.

    Attributes:
        told: What the channel was told last of each alert.
        acknowledged: What holds now, by the name of the alert.
        delivery: How the channel does; None if it was never used.
        problem: Why the file could not be read; None if it was.
    """

    told: Mapping[Key, Told]
    acknowledged: Mapping[str, Acknowledgement]
    delivery: Delivery | None
    problem: SentinelError | None = None


class AlertStore:
    """Alerts of a workspace; the file is made by the first change. Threads may share it.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = WorkspaceDatabase(
            path,
            application_id=APPLICATION_ID,
            format_version=FORMAT_VERSION,
            tables=_TABLES,
            holds="alerts",
            file_of="alerts",
        )
        self._unwritten: dict[tuple[str, Key], Told] = {}
        self._known: dict[str, Known] = {}
        self._lock = threading.Lock()

    def held(self) -> dict[Key, Held]:
        """All alerts."""
        with self._file.open("ro") as connection:
            return {} if connection is None else _held(connection)

    def keep(self, held: Mapping[Key, Held]) -> None:
        """Put alerts in the place of those that are kept.

        An acknowledgement ends with its alert, and what was told of one that is kept no more is
        forgotten.
        """
        with self._change() as connection:
            if _held(connection) == held:
                return
            connection.execute("DELETE FROM alerts")
            connection.executemany(
                "INSERT INTO alerts VALUES (?, ?, ?)",
                [(*key, msgspec.json.encode(one)) for key, one in held.items()],
            )
            connection.execute(
                "DELETE FROM told WHERE (name, subject) NOT IN (SELECT name, subject FROM alerts)"
            )
            going_on = {one.name for one in held.values() if one.state == "firing"}
            for (name,) in connection.execute("SELECT name FROM acknowledged").fetchall():
                if name not in going_on:
                    connection.execute("DELETE FROM acknowledged WHERE name = ?", (name,))

    def told(self, channel: str) -> dict[Key, Told]:
        """What a channel was told last of each alert, whether it could be written or not."""
        with self._file.open("ro") as connection:
            query = "SELECT name, subject, state, fired_at_us, at_us FROM told WHERE channel = ?"
            rows = [] if connection is None else connection.execute(query, (channel,)).fetchall()
        found = {(name, subject): Told(*rest) for name, subject, *rest in rows}
        return found | self._unwritten_of(channel)

    def _unwritten_of(self, channel: str) -> dict[Key, Told]:
        with self._lock:
            return {key: told for (by, key), told in self._unwritten.items() if by == channel}

    def known(self, channel: str, now_us: int) -> Known:
        """What there is to know before a channel is told.

        While the file cannot be read it is what was read last, and what this process told since.
        """
        try:
            found = Known(
                told=self.told(channel),
                acknowledged=self.acknowledged(now_us),
                delivery=self.deliveries().get(channel),
            )
        except SentinelError as error:
            before = self._known.get(channel, Known({}, {}, None))
            told = {**before.told, **self._unwritten_of(channel)}
            return before._replace(told=told, problem=error)
        self._known[channel] = found
        return found

    def note_told(
        self, channel: str, alerts: Iterable[Held], now_us: int, problem: str = ""
    ) -> None:
        """Remember that a channel took a message about alerts.

        While the file cannot be written, as on a full disk, this process remembers it, so that
        nobody is told again and again; it is written with what is told next.

        Args:
            channel: Its name.
            alerts: What it was told of.
            now_us: When, microseconds UTC.
            problem: What was wrong all the same; empty if nothing.

        Raises:
            LedgerUnavailable, WorkspaceError: It could not be written.
        """
        with self._lock:
            for one in alerts:
                self._unwritten[channel, one.key] = Told(one.state, one.fired_at_us, now_us)
            written = self._unwritten.copy()
        rows = [(by, *key, *astuple(told)) for (by, key), told in written.items()]
        with self._change() as connection:
            connection.executemany("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?, ?, ?)", rows)
            _put_delivery(connection, channel, Delivery(sent_at_us=now_us, problem=problem))
        with self._lock:
            for key, told in written.items():
                if self._unwritten.get(key) is told:
                    del self._unwritten[key]

    def note_failed(self, channel: str, problem: str, now_us: int) -> Delivery:
        """Remember that a channel did not; returns how it does now."""
        with self._change() as connection:
            before = _deliveries(connection).get(channel, Delivery())
            after = msgspec.structs.replace(
                before, attempts=before.attempts + 1, failed_at_us=now_us, problem=problem
            )
            _put_delivery(connection, channel, after)
        return after

    def deliveries(self) -> dict[str, Delivery]:
        """How each channel does that was ever used."""
        with self._file.open("ro") as connection:
            return {} if connection is None else _deliveries(connection)

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Take an alert on; a later acknowledgement takes the place of an earlier one."""
        with self._change() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?)",
                astuple(acknowledgement),
            )

    def acknowledged(self, now_us: int) -> dict[str, Acknowledgement]:
        """What holds now, by the name of the alert."""
        with self._file.open("ro") as connection:
            if connection is None:
                return {}
            rows = connection.execute(
                "SELECT name, by, why, at_us, until_us FROM acknowledged WHERE until_us > ?",
                (now_us,),
            ).fetchall()
        return {
            name: Acknowledgement(name=name, by=by, why=why, at_us=at_us, until_us=until_us)
            for name, by, why, at_us, until_us in rows
        }

    def digest_sent(self, digest: str) -> bool:
        """Whether a digest was sent already."""
        with self._file.open("ro") as connection:
            if connection is None:
                return False
            query = "SELECT 1 FROM digests WHERE digest = ?"
            return connection.execute(query, (digest,)).fetchone() is not None

    def note_digest(self, digest: str, now_us: int) -> None:
        """Remember that a digest was sent."""
        with self._change() as connection:
            connection.execute("INSERT OR REPLACE INTO digests VALUES (?, ?)", (digest, now_us))
            connection.execute("DELETE FROM digests WHERE at_us < ?", (now_us - KEEP_DIGESTS_US,))

    def count_outcomes(self, hour: int, decisions: int, stopped: int, *, keep_hours: int) -> None:
        """Add decisions to those of an hour (since 1970), and forget the oldest hours."""
        with self._change() as connection:
            connection.execute(
                "INSERT INTO outcome_hours VALUES (?, ?, ?) ON CONFLICT (hour) DO UPDATE SET "
                "decisions = decisions + excluded.decisions, stopped = stopped + excluded.stopped",
                (hour, decisions, stopped),
            )
            connection.execute("DELETE FROM outcome_hours WHERE hour <= ?", (hour - keep_hours,))

    def outcomes(self) -> tuple[int, int]:
        """Decisions of the hours that are kept, and those among them that stopped a payment."""
        with self._file.open("ro") as connection:
            if connection is None:
                return 0, 0
            query = "SELECT coalesce(sum(decisions), 0), coalesce(sum(stopped), 0)"
            decisions, stopped = connection.execute(f"{query} FROM outcome_hours").fetchone()
        return int(decisions), int(stopped)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction."""
        self._file.make()
        with self._file.open("rw") as connection:
            assert connection is not None
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # SQLite has ended it where the disk is full
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")


def _held(connection: sqlite3.Connection) -> dict[Key, Held]:
    rows = connection.execute("SELECT alert FROM alerts ORDER BY name, subject").fetchall()
    found = [msgspec.json.decode(alert, type=Held) for (alert,) in rows]
    return {one.key: one for one in found}


def _deliveries(connection: sqlite3.Connection) -> dict[str, Delivery]:
    rows = connection.execute("SELECT channel, delivery FROM channels").fetchall()
    return {channel: msgspec.json.decode(body, type=Delivery) for channel, body in rows}


def _put_delivery(connection: sqlite3.Connection, channel: str, delivery: Delivery) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO channels VALUES (?, ?)", (channel, msgspec.json.encode(delivery))
    )
