"""The record of drift, asked: how far the log was followed, what was counted, and what changed.

Its values are in `sentinel.drift.rows`; `sentinel.drift.store` keeps them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sentinel.drift.anchor import Anchor
from sentinel.drift.bins import SCORE
from sentinel.drift.figures import Change
from sentinel.drift.label_figures import ALL_PAYMENTS, LabelChange, LabelFigures
from sentinel.drift.notices import DAY_HOURS, HOUR_US, Notice, plan_of, silence_of
from sentinel.drift.rows import (
    ANCHOR_ROW,
    HourRow,
    Progress,
    RecordedChange,
    StreamRow,
    Tally,
    TallyKey,
    unpacked,
)
from sentinel.drift.tables import DriftTables, Execute

log = logging.getLogger(__name__)

MOST_ROWS_READ: Final = 20_000
"""Hours that one question reads."""

_STREAM: Final = ", ".join(StreamRow.__struct_fields__)
_TALLY: Final = Tally.__struct_fields__


class DriftReader:
    """The record of a deployment, to be asked. All methods are safe from any thread, and wait.

    All raise LedgerUnavailable where it cannot be reached, and WorkspaceError where it is something
    else or may not be used by this process.

    Args:
        tables: Where it is.
    """

    def __init__(self, tables: DriftTables) -> None:
        self._tables = tables
        self.shown = tables.shown

    def progress(self) -> Progress:
        """How far the log was followed."""

        def read(execute: Execute) -> Progress:
            row = execute("SELECT generation, through, clock_us FROM {t}progress").fetchone()
            return Progress(*row) if row else Progress(0, 0, 0)

        return self._tables.ask(read, Progress(0, 0, 0))

    def state(self, stream: int) -> bytes:
        """The detector's state of a stream; empty if it has none."""

        def read(execute: Execute) -> bytes:
            row = execute("SELECT state FROM {t}streams WHERE id = %s", stream).fetchone()
            return bytes(row[0]) if row else b""

        return self._tables.ask(read, b"")

    def anchor(self) -> Anchor | None:
        """Whose reference features are held against; None before the first."""
        kept = self.state(ANCHOR_ROW)
        return msgspec.msgpack.decode(kept, type=Anchor) if kept else None

    def open_hours(self, stream: StreamRow) -> list[HourRow]:
        """The hours of a stream that were not tested yet."""
        return self.hours(stream.id, stream.tested_hour + 1)

    def streams(self) -> list[StreamRow]:
        """All streams; that of the latest decision comes last."""

        def read(execute: Execute) -> list[StreamRow]:
            rows = execute(
                f"SELECT {_STREAM} FROM {{t}}streams WHERE id > %s ORDER BY last_sequence, id",
                ANCHOR_ROW,
            )
            return [_stream(row) for row in rows.fetchall()]

        return self._tables.ask(read, [])

    def hours(
        self, stream: int, since_hour: int = -(1 << 40), until_hour: int = 1 << 40
    ) -> list[HourRow]:
        """Counts of a stream, oldest first.

        Args:
            stream: Its id.
            since_hour, until_hour: Rows that begin in this span; the end is exclusive.

        Returns:
            At most `MOST_ROWS_READ` rows.
        """

        def read(execute: Execute) -> list[HourRow]:
            return hours_where(
                execute,
                "WHERE stream = %s AND first_hour >= %s AND first_hour < %s "
                "ORDER BY first_hour LIMIT %s",
                *(stream, since_hour, until_hour, MOST_ROWS_READ),
            )

        return self._tables.ask(read, [])

    def tallies(self, since_hour: int = 0) -> dict[TallyKey, Tally]:
        """Decisions by model and hour, from an hour on."""

        def read(execute: Execute) -> dict[TallyKey, Tally]:
            rows = execute(
                f"SELECT model_name, model_version, hour, {', '.join(_TALLY)} FROM {{t}}tallies "
                "WHERE hour >= %s ORDER BY hour LIMIT %s",
                *(since_hour, MOST_ROWS_READ),
            )
            return {
                (row[0], row[1], row[2]): Tally(**dict(zip(_TALLY, row[3:], strict=True)))
                for row in rows.fetchall()
            }

        return self._tables.ask(read, {})

    def decided(self, since_hour: int) -> dict[tuple[str, str], Tally]:
        """Decisions by model name and version, from an hour on."""
        found: dict[tuple[str, str], Tally] = {}
        for (name, version, _), tally in self.tallies(since_hour).items():
            found.setdefault((name, version), Tally()).add(tally)
        return found

    def changes(
        self, now_us: int, *, stream: int | None = None, most: int = 1_000
    ) -> list[RecordedChange]:
        """The latest changes, newest first, with what was said of them.

        Args:
            now_us: The clock, for silences.
            stream: Only those of one stream.
            most: So many.
        """

        def read(execute: Execute) -> list[RecordedChange]:
            notices = every_notice(execute)
            rows = execute(
                "SELECT c.stream, s.model_version, c.document FROM {t}changes AS c "
                "JOIN {t}streams AS s ON s.id = c.stream WHERE c.stream = coalesce(%s, c.stream) "
                "ORDER BY c.at_hour DESC, c.stream DESC, c.segment, c.feature LIMIT %s",
                *(stream, most),
            )
            return [
                _recorded(stream_id, version, bytes(document), notices, now_us)
                for stream_id, version, document in rows.fetchall()
            ]

        return self._tables.ask(read, [])

    def deciding(self) -> StreamRow | None:
        """The stream of the model that decides; None if no decision was followed.

        Scorers on different versions decide in turns, so that the newest decision says little: of
        models that take turns it is the one that decided most in this hour and the one before, by
        the log's clock. A model that has taken over altogether decides from its first payment on.
        """
        streams = self.streams()
        if not streams:
            return None
        newest = streams[-1]
        turns = [one for one in streams[:-1] if one.last_sequence > newest.first_sequence]
        if not turns:
            return newest
        tallies = self.tallies(self.progress().clock_us // HOUR_US - 1)
        decided: Counter[tuple[str, str]] = Counter()
        for (name, version, _), tally in tallies.items():
            decided[name, version] += tally.decided
        return max(
            (newest, *reversed(turns)), key=lambda one: decided[one.model_name, one.model_version]
        )

    def open_alarms(self, now_us: int) -> list[RecordedChange]:
        """Changes that are on and not silenced, newest first; see `changes_now`."""
        return [one for one in self.changes_now(now_us) if one.raises_alarm]

    def changes_now(self, now_us: int) -> list[RecordedChange]:
        """The latest changes of what decides now, newest first, whether on or not.

        Those of features are held against the anchor, whichever model decides; those of the score
        against the reference of the model that decides. What an earlier champion's scores did is
        over.
        """
        deciding, anchor = self.deciding(), self.anchor()
        if deciding is None:
            return []
        found = self.changes(now_us, stream=deciding.id)
        if anchor is not None and anchor.stream != deciding.id:
            of_features = self.changes(now_us, stream=anchor.stream)
            found += [one for one in of_features if one.change.feature != SCORE]
        return sorted(found, key=lambda one: -one.change.at_hour)

    def labels(self, now_us: int) -> LabelFigures | None:
        """What labels say of change, with what was said of it.

        None before anything is known, and where what is kept cannot be read: the watch of labels
        makes it anew from the log.

        Args:
            now_us: The clock, for silences.
        """

        def read(execute: Execute) -> LabelFigures | None:
            if not self._tables.have_labels(execute):
                return None
            row = execute("SELECT document FROM {t}labels WHERE id = 1").fetchone()
            if row is None:
                return None
            try:
                found = msgspec.json.decode(bytes(row[0]), type=LabelFigures)
            except msgspec.MsgspecError as error:
                log.warning(
                    "What labels say of change cannot be read in %s, and the monitor makes it anew "
                    "from the log: %s",
                    *(self.shown, error),
                )
                return None
            notices = every_notice(execute)
            changes = tuple(_noticed(one, notices, now_us) for one in found.changes)
            return msgspec.structs.replace(found, changes=changes)

        return self._tables.ask(read, None)

    def notices(self) -> list[Notice]:
        """Silences and planned changes, oldest first."""
        return self._tables.ask(every_notice, [])

    def requested(self, model_version: str, at_hour: int) -> bool:
        """Whether a retraining was asked for because of an alarm."""

        def read(execute: Execute) -> bool:
            query = "SELECT 1 FROM {t}requested WHERE model_version = %s AND at_hour = %s"
            return execute(query, model_version, at_hour).fetchone() is not None

        return self._tables.ask(read, False)

    def close(self) -> None:
        """Release it."""
        self._tables.close()


def hours_where(execute: Execute, where: str, *values: int) -> list[HourRow]:
    """Rows of hours that a condition chooses, within a transaction."""
    query = "SELECT first_hour, hours, events, counts FROM {t}hours " + where
    return [unpacked(*row) for row in execute(query, *values).fetchall()]


def _stream(row: Sequence[Any]) -> StreamRow:
    return StreamRow(**dict(zip(StreamRow.__struct_fields__, row, strict=True)))


def every_notice(execute: Execute) -> list[Notice]:
    """Silences and planned changes, oldest first, within a transaction."""
    rows = execute("SELECT document FROM {t}notices ORDER BY id").fetchall()
    return [msgspec.json.decode(bytes(row[0]), type=Notice) for row in rows]


def _noticed(change: LabelChange, notices: Sequence[Notice], now_us: int) -> LabelChange:
    """A change of labels with what was said of the days that it is about."""
    about = (change.name, ALL_PAYMENTS)
    since, found = change.since_day * DAY_HOURS, (change.found_day + 1) * DAY_HOURS - 1
    silence = silence_of(notices, *about, since, found, now_us)
    plan = plan_of(notices, *about, since, found)
    return msgspec.structs.replace(
        change,
        silence="" if silence is None else silence.why or "silenced",
        plan="" if plan is None else plan.why,
    )


def _recorded(
    stream: int, version: str, document: bytes, notices: Sequence[Notice], now_us: int
) -> RecordedChange:
    change = msgspec.json.decode(document, type=Change)
    about = (change.feature, change.segment)
    return RecordedChange(
        stream=stream,
        model_version=version,
        change=change,
        silence=silence_of(notices, *about, change.since_hour, change.at_hour, now_us),
        plan=plan_of(notices, *about, change.since_hour, change.at_hour),
    )
