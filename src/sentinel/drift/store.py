"""The record of drift, kept: counts of hours, what was found in them, and what people said of it.

One process writes counts (`sentinel.drift.following`): the place in the log that they reach stands
in the same transaction, so that each entry is counted once, whenever that process ends. All of it
but notices can be made anew from the log (`DriftStore.forget_counts`). What it is asked is in
`sentinel.drift.reader`, where it is kept in `sentinel.drift.tables`.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from sentinel.domain import ConfigurationError, LedgerUnavailable, NotFound, WorkspaceError
from sentinel.drift.label_figures import LabelFigures
from sentinel.drift.notices import DAY_HOURS, MOST_NOTICES, Notice
from sentinel.drift.reader import DriftReader, every_notice, hours_where
from sentinel.drift.rows import ANCHOR_ROW, Step, StreamRow, Tally, packed
from sentinel.drift.tables import Execute, open_tables
from sentinel.settings import Settings

MOST_CHANGES: Final = 10_000
"""Changes that are kept; the oldest are dropped."""

_STREAM: Final = StreamRow.__struct_fields__
_TALLY: Final = Tally.__struct_fields__
_ADD_TALLY: Final = (
    f"INSERT INTO {{t}}tallies AS kept (model_name, model_version, hour, {', '.join(_TALLY)}) "
    f"VALUES ({', '.join(['%s'] * (3 + len(_TALLY)))}) "
    "ON CONFLICT (model_name, model_version, hour) DO UPDATE SET "
    + ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in _TALLY)
)
_PUT_STREAM: Final = (
    f"INSERT INTO {{t}}streams ({', '.join(_STREAM)}, state) "
    f"VALUES ({', '.join(['%s'] * (len(_STREAM) + 1))}) "
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
_COUNTED: Final = ("hours", "tallies", "changes", "streams")


class DriftStore(DriftReader):
    """The record of a deployment, to be changed as well as asked; see `DriftReader`.

    Args:
        tables: Where it is.
    """

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
                execute(_PUT_STREAM, ANCHOR_ROW, "", "", "", 0, 0, -1, "", b"")
                execute(
                    "UPDATE {t}streams SET state = %s WHERE id = %s",
                    *(msgspec.msgpack.encode(step.anchor), ANCHOR_ROW),
                )
            for (stream_id, hour), (events, counts) in step.hours.items():
                execute(_PUT_HOUR, stream_id, hour, 1, packed(events), packed(counts))
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
            rows = hours_where(execute, where, *span)
            execute("DELETE FROM {t}hours " + where, *span)
            events = np.stack([one.events for one in rows]).sum(axis=0, dtype=np.int64)
            counts = np.stack([one.counts for one in rows]).sum(axis=0, dtype=np.uint32)
            day = (packed(np.asarray(events)), packed(np.asarray(counts)))
            execute(_PUT_HOUR, stream.id, first, DAY_HOURS, *day)
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
            for notice in every_notice(execute):
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

    def note_requested(self, model_version: str, at_hour: int) -> bool:
        """Note that a retraining is asked for because of an alarm; False if it was before."""

        def write(execute: Execute) -> bool:
            done = execute(
                "INSERT INTO {t}requested VALUES (%s, %s) ON CONFLICT DO NOTHING",
                *(model_version, at_hour),
            )
            return done.rowcount == 1

        return self._tables.change(write)


def open_drift(settings: Settings) -> DriftStore:
    """The record of a deployment. Nothing is made or reached before it is asked.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    return DriftStore(open_tables(settings))
