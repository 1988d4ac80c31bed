"""The record of drift: counts of hours, what was found in them, and what people said of it.

One process writes counts (`sentinel.drift.following`): the place in the log that they reach stands
in the same transaction, so that each entry is counted once, whenever that process ends. All of it
but notices can be made anew from the log (`DriftStore.forget_counts`).
"""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ConfigurationError, LedgerUnavailable, NotFound, WorkspaceError
from sentinel.drift.anchor import Anchor
from sentinel.drift.bins import SCORE
from sentinel.drift.figures import Change
from sentinel.drift.label_figures import ALL_PAYMENTS, LabelChange, LabelFigures
from sentinel.drift.notices import HOUR_US, MOST_NOTICES, Notice, plan_of, silence_of
from sentinel.drift.tables import DriftTables, Execute, open_tables
from sentinel.settings import Settings

log = logging.getLogger(__name__)

MOST_CHANGES: Final = 10_000
"""Changes that are kept; the oldest are dropped."""
MOST_ROWS_READ: Final = 20_000
"""Hours that one question reads."""
DAY_HOURS: Final = 24

Counts = npt.NDArray[np.uint32]
Events = npt.NDArray[np.int64]


class Progress(NamedTuple):
    """How far the log was followed.

    Attributes:
        generation: Rises when everything is to be counted anew.
        through: Sequence of the last entry that was taken in.
        clock_us: When that entry was received: the clock by which hours end, microseconds UTC.
    """

    generation: int
    through: int
    clock_us: int


class StreamRow(msgspec.Struct, frozen=True, kw_only=True):
    """The payments that one model decided, held against its reference.

    Attributes:
        id: Counted from 1.
        model_name, model_version: The champion that decided.
        reference: Digest of its reference; empty if it has none.
        first_sequence, last_sequence: Its first and last decision in the log so far.
        tested_hour: The last hour that was tested, since 1970; -1 before the first.
        problem: Why nothing is tested; empty if it is.
    """

    id: int
    model_name: str
    model_version: str
    reference: str
    first_sequence: int
    last_sequence: int
    tested_hour: int
    problem: str


class HourRow(NamedTuple):
    """What the payments of some hours looked like.

    Attributes:
        first_hour: Since 1970.
        hours: How many hours: 1, or `DAY_HOURS` once they are old.
        events: int64 (segments,).
        counts: uint32 (segments, cells).
    """

    first_hour: int
    hours: int
    events: Events
    counts: Counts


class Tally(msgspec.Struct, kw_only=True):
    """Decisions of a model in an hour. Each one is counted, degraded, late or uncounted.

    Attributes:
        counted: In the counts of the hour.
        degraded: Left out: what it did not know says nothing of the customer's data.
        late: Left out: the hour of the payment was over and tested.
        uncounted: Left out: its model has no reference, or its vector lacks features of it.
        approved, reviewed, declined: All of them, by outcome.
    """

    counted: int = 0
    degraded: int = 0
    late: int = 0
    uncounted: int = 0
    approved: int = 0
    reviewed: int = 0
    declined: int = 0

    @property
    def decided(self) -> int:
        """All of them."""
        return self.counted + self.degraded + self.late + self.uncounted


TallyKey = tuple[str, str, int]
"""Model name, model version, hour since 1970."""


class RecordedChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change, and what was said of it.

    Attributes:
        stream: Whose payments changed.
        model_version: The champion that decided them.
        change: What the detector named.
        silence: Why it raises no alarm now; None if it does, while it is on.
        plan: What explains it; None if nothing was said in advance.
    """

    stream: int
    model_version: str
    change: Change
    silence: Notice | None
    plan: Notice | None

    @property
    def raises_alarm(self) -> bool:
        """Whether it is on and not silenced; it alarms if its model is the one that decides."""
        return self.change.ended_hour is None and self.silence is None


@dataclass
class Step:
    """What following a part of the log has changed; kept whole or not at all.

    Attributes:
        begun: Where it began.
        through, clock_us: Where it ended; see `Progress`.
        streams: Those that are new or went on.
        states: Detectors' states by stream, where they went on.
        hours: By stream and hour, as they are now.
        tallies: To be added to those that are kept.
        anchor: Where it moved to; None if it stays.
        changes: By stream: new ones, and those that ended.
    """

    begun: Progress
    through: int
    clock_us: int
    streams: list[StreamRow] = field(default_factory=list)
    states: dict[int, bytes] = field(default_factory=dict)
    hours: dict[tuple[int, int], tuple[Events, Counts]] = field(default_factory=dict)
    tallies: dict[TallyKey, Tally] = field(default_factory=dict)
    anchor: Anchor | None = None
    changes: list[tuple[int, Change]] = field(default_factory=list)


_STREAM: Final = (
    "id, model_name, model_version, reference, first_sequence, last_sequence, tested_hour, problem"
)
_HOURS: Final = "SELECT first_hour, hours, events, counts FROM {t}hours "
_TALLY: Final = Tally.__struct_fields__
_ADD_TALLY: Final = (
    f"INSERT INTO {{t}}tallies AS kept (model_name, model_version, hour, {', '.join(_TALLY)}) "
    f"VALUES ({', '.join(['%s'] * (3 + len(_TALLY)))}) "
    "ON CONFLICT (model_name, model_version, hour) DO UPDATE SET "
    + ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in _TALLY)
)
_PUT_STREAM: Final = (
    f"INSERT INTO {{t}}streams ({_STREAM}, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) "
    "ON CONFLICT (id) DO UPDATE SET last_sequence = excluded.last_sequence, "
    "tested_hour = excluded.tested_hour, problem = excluded.problem"
)
_PUT_HOUR: Final = (
    "INSERT INTO {t}hours (stream, first_hour, hours, events, counts) VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (stream, first_hour) DO UPDATE SET hours = excluded.hours, "
    "events = excluded.events, counts = excluded.counts"
)
_PUT_CHANGE: Final = (
    "INSERT INTO {t}changes (stream, at_hour, segment, feature, document) "
    "VALUES (%s, %s, %s, %s, %s) "
    "ON CONFLICT (stream, at_hour, segment, feature) DO UPDATE SET document = excluded.document"
)
_ANCHOR_ROW: Final = 0
"""The row of the streams whose state is the anchor. Streams are counted from 1."""
_COUNTED: Final = ("hours", "tallies", "changes", "streams")


class DriftStore:
    """The record of a deployment. All methods are safe from any thread, and wait.

    All raise LedgerUnavailable where it cannot be reached, and WorkspaceError where it is something
    else or may not be used by this process.

    Args:
        tables: Where it is.
    """

    def __init__(self, tables: DriftTables) -> None:
        self._tables = tables
        self.shown = tables.shown

    # ------------------------------------------------------------------------------ following

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
        kept = self.state(_ANCHOR_ROW)
        return msgspec.msgpack.decode(kept, type=Anchor) if kept else None

    def open_hours(self, stream: StreamRow) -> list[HourRow]:
        """The hours of a stream that were not tested yet."""
        return self.hours(stream.id, stream.tested_hour + 1)

    def keep(self, step: Step) -> None:
        """Keep what following a part of the log has changed, in one transaction.

        Raises:
            LedgerUnavailable: Also if the record went on, or was forgotten, since the step began.
        """

        def write(execute: Execute) -> None:
            self._advance(execute, step)
            for stream in step.streams:
                execute(_PUT_STREAM, *msgspec.structs.astuple(stream), b"")
            for stream_id, state in step.states.items():
                execute("UPDATE {t}streams SET state = %s WHERE id = %s", state, stream_id)
            if step.anchor is not None:
                execute(_PUT_STREAM, _ANCHOR_ROW, "", "", "", 0, 0, -1, "", b"")
                execute(
                    "UPDATE {t}streams SET state = %s WHERE id = %s",
                    *(msgspec.msgpack.encode(step.anchor), _ANCHOR_ROW),
                )
            for (stream_id, hour), (events, counts) in step.hours.items():
                execute(_PUT_HOUR, stream_id, hour, 1, _packed(events), _packed(counts))
            for key, tally in step.tallies.items():
                execute(_ADD_TALLY, *key, *msgspec.structs.astuple(tally))
            for stream_id, change in step.changes:
                document = msgspec.json.encode(change)
                execute(
                    _PUT_CHANGE, stream_id, change.at_hour, change.segment, change.feature, document
                )

        self._tables.change(write)

    def _advance(self, execute: Execute, step: Step) -> None:
        begun = step.begun
        execute("INSERT INTO {t}progress VALUES (1, 0, 0, 0) ON CONFLICT (id) DO NOTHING")
        moved = execute(
            "UPDATE {t}progress SET through = %s, clock_us = %s "
            "WHERE generation = %s AND through = %s",
            *(step.through, step.clock_us, begun.generation, begun.through),
        )
        if moved.rowcount != 1:
            raise LedgerUnavailable(
                f"The record of drift in {self.shown} went on or was forgotten meanwhile. It is "
                "read anew."
            )

    def forget_counts(self) -> None:
        """Have everything counted anew from the log's beginning. Notices stay."""

        def write(execute: Execute) -> None:
            for table in _COUNTED:
                execute(f"DELETE FROM {{t}}{table}")
            execute("INSERT INTO {t}progress VALUES (1, 0, 0, 0) ON CONFLICT (id) DO NOTHING")
            execute("UPDATE {t}progress SET generation = generation + 1, through = 0, clock_us = 0")

        self._tables.change(write)

    def compact(self, stream: StreamRow, *, before_hour: int) -> bool:
        """Make one day of the oldest hours that were tested; returns whether there was one.

        Args:
            stream: Whose hours.
            before_hour: Only days that ended before it.
        """
        before_hour = min(before_hour, stream.tested_hour + 1)

        def write(execute: Execute) -> bool:
            row = execute(
                "SELECT min(first_hour) FROM {t}hours WHERE stream = %s AND hours = 1", stream.id
            ).fetchone()
            if row is None or row[0] is None:
                return False
            first = row[0] - row[0] % DAY_HOURS
            if first + DAY_HOURS > before_hour:
                return False
            span = (stream.id, first, first + DAY_HOURS)
            where = "WHERE stream = %s AND first_hour >= %s AND first_hour < %s"
            rows = _hour_rows(execute(_HOURS + where, *span).fetchall())
            execute("DELETE FROM {t}hours " + where, *span)
            events = np.stack([one.events for one in rows]).sum(axis=0, dtype=np.int64)
            counts = np.stack([one.counts for one in rows]).sum(axis=0, dtype=np.uint32)
            packed = (_packed(np.asarray(events)), _packed(np.asarray(counts)))
            execute(_PUT_HOUR, stream.id, first, DAY_HOURS, *packed)
            return True

        return self._tables.change(write)

    def drop_before(self, hour: int) -> None:
        """Drop counts of hours before one, and all changes but the latest `MOST_CHANGES`."""

        def write(execute: Execute) -> None:
            execute("DELETE FROM {t}hours WHERE first_hour + hours <= %s", hour)
            execute("DELETE FROM {t}tallies WHERE hour < %s", hour)
            execute("DELETE FROM {t}requested WHERE at_hour < %s", hour)
            execute(
                "DELETE FROM {t}changes WHERE at_hour < (SELECT coalesce(min(at_hour), 0) FROM "
                "(SELECT at_hour FROM {t}changes ORDER BY at_hour DESC LIMIT %s) AS latest)",
                MOST_CHANGES,
            )
            # A detector whose hours are all gone goes on with none that it knew.
            execute(
                "UPDATE {t}streams SET state = %s WHERE tested_hour >= 0 AND tested_hour < %s",
                *(b"", hour),
            )

        self._tables.change(write)

    # -------------------------------------------------------------------------------- reading

    def streams(self) -> list[StreamRow]:
        """All streams; that of the latest decision comes last."""

        def read(execute: Execute) -> list[StreamRow]:
            rows = execute(
                f"SELECT {_STREAM} FROM {{t}}streams WHERE id > %s ORDER BY last_sequence, id",
                _ANCHOR_ROW,
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
            return _hour_rows(
                execute(
                    _HOURS + "WHERE stream = %s AND first_hour >= %s AND first_hour < %s "
                    "ORDER BY first_hour LIMIT %s",
                    *(stream, since_hour, until_hour, MOST_ROWS_READ),
                ).fetchall()
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
            notices = _notices(execute)
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

    # --------------------------------------------------------------------------------- labels

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
            notices = _notices(execute)
            changes = tuple(_noticed(one, notices, now_us) for one in found.changes)
            return msgspec.structs.replace(found, changes=changes)

        return self._tables.ask(read, None)

    def make_labels(self) -> None:
        """See that what labels say can be kept, before it is worked out from the whole log.

        Raises:
            WorkspaceError: There is no table for it in PostgreSQL.
        """
        self._tables.change(self._need_labels)

    def _need_labels(self, execute: Execute) -> None:
        if not self._tables.have_labels(execute, make=True):
            raise WorkspaceError(
                f"The record of drift in {self.shown} has no table of labels. `sentinel ledger "
                "migrate` makes it."
            )

    def keep_labels(self, found: LabelFigures) -> None:
        """Put what labels say in the place of what was kept.

        Raises:
            WorkspaceError: There is no table for it in PostgreSQL.
        """
        document = msgspec.json.encode(found)

        def write(execute: Execute) -> None:
            self._need_labels(execute)
            execute(
                "INSERT INTO {t}labels VALUES (1, %s) "
                "ON CONFLICT (id) DO UPDATE SET document = excluded.document",
                document,
            )

        self._tables.change(write)

    # -------------------------------------------------------------------------------- notices

    def notices(self) -> list[Notice]:
        """Silences and planned changes, oldest first."""
        return self._tables.ask(_notices, [])

    def add_notice(self, notice: Notice) -> Notice:
        """Keep a silence or a planned change; returns it with its number.

        Raises:
            ConfigurationError: Its window is empty, or there are `MOST_NOTICES`.
        """
        if notice.until_us <= notice.from_us:
            raise ConfigurationError(
                "The window ends before it begins. Name an end that is later than its beginning."
            )

        def write(execute: Execute) -> Notice:
            last, count = execute(
                "SELECT coalesce(max(id), 0), count(*) FROM {t}notices"
            ).fetchone()
            if count >= MOST_NOTICES:
                raise ConfigurationError(
                    f"There are {count:,} silences and planned changes, as many as there may be."
                )
            kept = msgspec.structs.replace(notice, id=last + 1)
            execute("INSERT INTO {t}notices VALUES (%s, %s)", kept.id, msgspec.json.encode(kept))
            return kept

        return self._tables.change(write)

    def end_notice(self, number: int, now_us: int) -> Notice:
        """End a silence or a planned change now; one that has not begun never holds.

        Raises:
            NotFound: There is none of this number.
        """

        def write(execute: Execute) -> Notice:
            for notice in _notices(execute):
                if notice.id == number:
                    until_us = max(notice.from_us, min(notice.until_us, now_us))
                    ended = msgspec.structs.replace(notice, until_us=until_us)
                    execute(
                        "UPDATE {t}notices SET document = %s WHERE id = %s",
                        *(msgspec.json.encode(ended), number),
                    )
                    return ended
            raise NotFound(
                f"There is no silence or planned change {number}. `sentinel drift status` lists "
                "them."
            )

        return self._tables.change(write)

    # ----------------------------------------------------------------------------- retraining

    def note_requested(self, model_version: str, at_hour: int) -> bool:
        """Note that a retraining is asked for because of an alarm; False if it was before."""

        def write(execute: Execute) -> bool:
            done = execute(
                "INSERT INTO {t}requested VALUES (%s, %s) ON CONFLICT DO NOTHING",
                *(model_version, at_hour),
            )
            return done.rowcount == 1

        return self._tables.change(write)

    def requested(self, model_version: str, at_hour: int) -> bool:
        """Whether a retraining was asked for because of an alarm."""

        def read(execute: Execute) -> bool:
            query = "SELECT 1 FROM {t}requested WHERE model_version = %s AND at_hour = %s"
            return execute(query, model_version, at_hour).fetchone() is not None

        return self._tables.ask(read, False)

    def close(self) -> None:
        """Release it."""
        self._tables.close()


def open_drift(settings: Settings) -> DriftStore:
    """The record of a deployment. Nothing is made or reached before it is asked.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    return DriftStore(open_tables(settings))


def _packed(array: Events | Counts) -> bytes:
    little = array.astype("<i8" if array.dtype == np.int64 else "<u4", copy=False)
    return zlib.compress(little.tobytes(), 1)


def _hour_rows(rows: Iterable[Sequence[Any]]) -> list[HourRow]:
    found = []
    for first_hour, hours, packed_events, packed_counts in rows:
        events = np.frombuffer(zlib.decompress(packed_events), "<i8")
        counts = np.frombuffer(zlib.decompress(packed_counts), "<u4").reshape(len(events), -1)
        found.append(HourRow(first_hour, hours, events, counts))
    return found


def _stream(row: Sequence[Any]) -> StreamRow:
    return StreamRow(**dict(zip(StreamRow.__struct_fields__, row, strict=True)))


def _notices(execute: Execute) -> list[Notice]:
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
