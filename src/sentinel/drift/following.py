"""Follows the log and counts each decision once, into the hour that its payment happened in.

    read    groups of the log behind the place that the record has reached
    count   vectors and scores into the cells of the model's own reference
    test    hours that are over, in order, each once
    keep    counts, detectors, changes and the new place, in one transaction

All of it is decided by the log alone, its clock included: an hour is over once the log holds an
entry that was received `late_us` after its end. So a process that is killed goes on from its last
transaction, and a record that is made anew from the log is the same.
"""

from __future__ import annotations

import logging
import time
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ModelError
from sentinel.drift.anchor import Anchor, covered, why_moved
from sentinel.drift.detector import DriftDetector, HourCounts
from sentinel.drift.figures import Change
from sentinel.drift.notices import HOUR_US
from sentinel.drift.open_streams import Columns, FindModel, OpenStream, Rows
from sentinel.drift.reference import DriftReference
from sentinel.drift.rows import Progress, Step, StreamRow, Tally
from sentinel.drift.store import DriftStore
from sentinel.ledger.base import Ledger
from sentinel.log.entries import (
    FLAG_DEGRADED,
    GROUP_FORMAT,
    OUTCOME_BITS,
    Group,
    GroupKind,
    check_format,
)
from sentinel.settings.drift import DriftSettings

log = logging.getLogger(__name__)

BATCH_ROWS: Final = 50_000
"""Decisions that are taken in between two transactions, at most; one group more may follow."""
BATCH_SECONDS: Final = 2.0
MOST_STREAMS: Final = 4
"""Models whose hours are open at once; decisions of a further one are not counted."""


class _Payment(msgspec.Struct, array_like=True, gc=False):
    """The leading fields of `Transaction`: decoding skips all that names a person or a card."""

    transaction_id: str
    event_time_us: int
    received_at_us: int


class _Decisions(msgspec.Struct, array_like=True):
    """The leading fields of `DecisionGroup`."""

    format: int
    plan_hash: str
    model_name: str
    model_version: str
    transactions: list[_Payment]
    vectors: bytes
    scores: msgspec.Raw
    probabilities: bytes
    flags: bytes


_decode = msgspec.msgpack.Decoder(_Decisions).decode


class DriftFollower:
    """Follows the log for one deployment. For one thread.

    Args:
        store: The record.
        reader: The log.
        find_model: Finds references.
        settings: When hours are over, and how they are tested.

    Attributes:
        progress: How far the log was followed; None before the first step.
        counted: Decisions that this process took in, by what became of them.
        entries: Entries of the log that it took in, by kind.
        found: Changes of the last step.
    """

    def __init__(
        self, store: DriftStore, reader: Ledger, find_model: FindModel, settings: DriftSettings
    ) -> None:
        self._store = store
        self._reader = reader
        self._find_model = find_model
        self._settings = settings
        self._late_us = int(settings.late_minutes * 60e6)
        self._streams: dict[tuple[str, str], OpenStream] = {}
        self._known: dict[tuple[str, str, str], StreamRow] = {}
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._changes: list[tuple[int, Change]] = []
        self._anchor: Anchor | None = None
        self._anchor_moved = False
        self._clock_us = 0
        self.progress: Progress | None = None
        self.counted = dict.fromkeys(("counted", "degraded", "late", "uncounted"), 0)
        self.entries = dict.fromkeys(GroupKind, 0)
        self.found: list[tuple[StreamRow, Change]] = []

    @property
    def streams(self) -> int:
        """How many models are in memory."""
        return len(self._streams)

    @property
    def evidence(self) -> tuple[float, float] | None:
        """Average evidence, and what makes an alarm of it; None if nothing is tested.

        The larger one of features and of the scores of the model that decided last.
        """
        found = [
            (one.detector.average, one.detector.threshold)
            for one in (self._anchored(), self._latest())
            if one is not None and one.detector is not None
        ]
        return max(found, default=None)

    def reference_of(self, stream: StreamRow) -> DriftReference | None:
        """The reference of a stream; None if it has none, or is not in memory."""
        found = self._streams.get((stream.model_name, stream.model_version))
        return None if found is None or found.model is None else found.model.reference

    def step(self) -> int:
        """Take in a part of the log.

        Returns:
            How many entries; 0 at the end of the log.

        Raises:
            LedgerUnavailable, WorkspaceError: Nothing was taken in; a later step does.
        """
        try:
            return self._step()
        except BaseException:
            self.forget()  # what is in memory may be ahead of the record
            raise

    def forget(self) -> None:
        """Read the record anew with the next step, and look for references again."""
        self._streams.clear()
        self._known.clear()
        self._tallies.clear()
        self._changes.clear()
        self._anchor, self._anchor_moved = None, False
        self.progress = None

    def _step(self) -> int:
        begun = self._load()
        self.found = []
        entries = dict.fromkeys(GroupKind, 0)
        through, rows, until = begun.through, 0, time.monotonic() + BATCH_SECONDS
        for group in self._reader.groups(begun.through):
            if group.kind == GroupKind.DECISIONS:
                self._take(group)
                rows += group.entries
            entries[group.kind] += group.entries
            through = group.first_sequence + group.entries - 1
            self._tell_time(max(self._clock_us, group.received_at_us))
            full = rows >= BATCH_ROWS or len(self._streams) > 2 * MOST_STREAMS
            if full or time.monotonic() > until:
                break
        if through == begun.through:
            return 0
        self._keep(begun, through)
        for kind, count in entries.items():
            self.entries[kind] += count
        return through - begun.through

    def _load(self) -> Progress:
        found = self._store.progress()
        if self.progress is not None and found != self.progress:
            self.forget()  # it is to be made anew, or another process went on
        if self.progress is None:
            if found.through and self._reader.last_sequence() < found.through:
                log.warning(
                    "The log is shorter than the part of it that was counted: it was replaced. "
                    "Drift is counted anew from its beginning."
                )
                self._store.forget_counts()
                found = self._store.progress()
            self._clock_us = found.clock_us
            for row in self._store.streams():
                self._known[row.model_name, row.model_version, row.reference] = row
            self._anchor = self._store.anchor()
            rows = list(self._known.values())
            latest = max((row.last_sequence for row in rows), default=0)
            for row in rows:
                is_open = row.reference and self._store.open_hours(row)
                key = (row.model_name, row.model_version)
                if (is_open or row.last_sequence == latest) and key not in self._streams:
                    self._open(*key)
            self.progress = found
        return self.progress

    # ---------------------------------------------------------------------------------- count

    def _take(self, group: Group) -> None:
        decided = _decode(group.payload)
        check_format(decided.format, GROUP_FORMAT)
        key = (decided.model_name, decided.model_version)
        stream = self._streams.get(key) or self._open(*key)
        if stream.row.first_sequence == 0:
            stream.row = msgspec.structs.replace(stream.row, first_sequence=group.first_sequence)
        stream.touched = True
        stream.row = msgspec.structs.replace(
            stream.row, last_sequence=group.first_sequence + group.entries - 1
        )
        n = group.entries
        flags = np.frombuffer(decided.flags, np.uint8 if decided.format == 1 else "<u4")
        received = np.fromiter((t.received_at_us for t in decided.transactions), np.int64, n)
        happened = np.fromiter((t.event_time_us for t in decided.transactions), np.int64, n)
        if self._clock_us == 0:
            self._clock_us = int(received[0])
        arrived = np.maximum(received, group.floor_us) // HOUR_US
        hours = np.minimum(happened // HOUR_US, arrived)
        degraded = (flags & FLAG_DEGRADED) != 0
        # Hours that were tested stay closed, also where the wait was made longer since.
        closed = ~degraded & (hours < max(self._first_open(), stream.row.tested_hour + 1))
        happened_in = hours
        hours = np.where(closed, np.maximum(arrived, self._clock_us // HOUR_US), hours)
        # A scorer whose clock was ahead closes hours for the others. What is not late by the clock
        # of the scorer that decided on it is counted in the hour that is open.
        ahead = self._clock_us > received
        in_time = ahead & (happened_in >= (received - self._late_us) // HOUR_US)
        late = closed & ~in_time
        columns = None
        if stream.model is not None:
            columns = stream.model.columns(decided.plan_hash)
            if columns is not None and (columns < 0).any():
                columns = None
            self._note_problem(stream, decided.plan_hash, columns)
        counted = ~degraded & ~late if columns is not None else np.zeros(n, np.bool_)
        self._tally(key, hours, flags, counted, degraded, late)
        vectors = np.frombuffer(decided.vectors, "<f4").reshape(n, -1)
        scores = np.frombuffer(decided.probabilities, "<f8").astype(np.float32)
        if columns is not None:
            stream.wait(columns, vectors, scores, hours, counted)
        if self._anchor is None and stream.detector is not None:
            self._move_anchor(stream)
        anchor = self._anchored()
        if anchor is None or anchor is stream or anchor.model is None:
            return
        columns = anchor.model.columns(decided.plan_hash)
        if columns is not None and (columns >= 0).any():
            counted = ~degraded & ~late & (hours > anchor.row.tested_hour)
            anchor.wait(columns, vectors, None, hours, counted)

    def _note_problem(self, stream: OpenStream, plan_hash: str, columns: Columns | None) -> None:
        problem = stream.model.reference.too_short if stream.model is not None else ""
        if columns is None:
            problem = (
                f"its vectors are of plan {plan_hash}, which is not kept here or lacks features"
            )
        if problem != stream.row.problem:
            stream.row = msgspec.structs.replace(stream.row, problem=problem)

    def _tally(
        self,
        key: tuple[str, str],
        hours: Rows,
        flags: npt.NDArray[np.unsignedinteger],
        counted: npt.NDArray[np.bool_],
        degraded: npt.NDArray[np.bool_],
        late: npt.NDArray[np.bool_],
    ) -> None:
        outcomes = flags & OUTCOME_BITS
        for hour in np.unique(hours):
            here = hours == hour
            of_hour = int(here.sum())
            tally = self._tallies.setdefault((*key, int(hour)), Tally())
            known = [int((here & some).sum()) for some in (counted, degraded, late)]
            tally.counted += known[0]
            tally.degraded += known[1]
            tally.late += known[2]
            tally.uncounted += of_hour - sum(known)
            tally.approved += int((here & (outcomes == 0)).sum())
            tally.reviewed += int((here & (outcomes == 1)).sum())
            tally.declined += int((here & (outcomes == 2)).sum())

    def _open(self, name: str, version: str) -> OpenStream:
        """Bring the stream of a model into memory."""
        key = (name, version)
        found = self._find_model(name, version)
        anchor = self._anchor_row()
        is_anchor = anchor is not None and (anchor.model_name, anchor.model_version) == key
        if not isinstance(found, str) and self._counting() >= MOST_STREAMS and not is_anchor:
            found = f"more than {MOST_STREAMS} models decided within the hours that are open"
        reference = "" if isinstance(found, str) else found.reference.digest
        row = self._known.get((name, version, reference))
        if row is None:
            number = max((one.id for one in self._known.values()), default=0) + 1
            row = StreamRow(
                id=number,
                model_name=name,
                model_version=version,
                reference=reference,
                first_sequence=0,
                last_sequence=0,
                tested_hour=-1,
                problem="",
            )
            self._known[name, version, reference] = row
        stream = OpenStream(row, None, None)
        if isinstance(found, str):
            stream.row = msgspec.structs.replace(row, problem=found)
            log.info("Drift of version %s of %s is not counted: %s.", version, name, found)
        else:
            stream.model = found
            self._bring_detector(stream, found.reference)
            self._streams[key] = stream
            self._choose_tested(stream)
            for hour in self._store.open_hours(row):
                stream.open[hour.first_hour] = (hour.events.copy(), hour.counts.copy())
        self._streams[key] = stream
        return stream

    def _bring_detector(self, stream: OpenStream, reference: DriftReference) -> None:
        problem = reference.too_short
        if not problem:
            state = self._store.state(stream.row.id)
            try:
                stream.detector = (
                    DriftDetector.from_bytes(reference, self._settings, state)
                    if state
                    else DriftDetector(reference, self._settings)
                )
            except ModelError as error:
                log.warning("The detector of %s begins anew. %s", stream.row.model_version, error)
                stream.detector = DriftDetector(reference, self._settings)
        stream.row = msgspec.structs.replace(stream.row, problem=problem)

    # --------------------------------------------------------------------------------- anchor

    def _latest(self) -> OpenStream | None:
        """The stream of the model that decided last."""
        return max(self._streams.values(), key=lambda one: one.row.last_sequence, default=None)

    def _anchor_row(self) -> StreamRow | None:
        if self._anchor is None:
            return None
        number = self._anchor.stream
        return next((row for row in self._known.values() if row.id == number), None)

    def _anchored(self) -> OpenStream | None:
        """The stream that features are tested in, brought into memory; None if there is none."""
        row = self._anchor_row()
        if row is None:
            return None
        key = (row.model_name, row.model_version)
        stream = self._streams.get(key) or self._open(*key)
        return stream if stream.row.id == row.id else None

    def _move_anchor(self, to: OpenStream) -> None:
        self._anchor = Anchor(stream=to.row.id, from_hour=self._clock_us // HOUR_US)
        self._anchor_moved = True
        for stream in self._streams.values():
            self._choose_tested(stream)

    def _choose_tested(self, stream: OpenStream) -> None:
        """Have a stream test what the anchor does not; the anchor tests all."""
        if stream.detector is None or stream.model is None:
            return
        tested = np.ones(len(stream.model.reference.bins.columns), np.bool_)
        row = self._anchor_row()
        if row is not None and row.id != stream.row.id:
            anchor = self._anchored()
            if anchor is not None and anchor.model is not None and anchor.detector is not None:
                tested = ~covered(stream.model.reference, anchor.model.reference)
        stream.detector.test_columns(tested)

    def _renew_anchor(self) -> None:
        """Move the anchor to the model that decides, where that is due."""
        latest, anchor = self._latest(), self._anchored()
        if self._anchor is None or latest is None or latest is anchor:
            return
        if latest.detector is None or latest.model is None:
            return
        if anchor is None or anchor.detector is None:
            why = "the folder of the model before is not here"
        else:
            anchor.detector.columns = self._columns_of_latest(anchor)
            hours = self._first_open() - self._anchor.from_hour
            days = self._settings.anchor_days
            why = why_moved(anchor.detector, latest.model.reference, hours, days)
        if why:
            log.info(
                "Features are held against the reference of version %s from now on: %s.",
                *(latest.row.model_version, why),
            )
            self._move_anchor(latest)

    def _counting(self) -> int:
        return sum(stream.is_open for stream in self._streams.values())

    # ----------------------------------------------------------------------------------- test

    def _first_open(self) -> int:
        """The first hour that is not over, by the log's clock."""
        return (self._clock_us - self._late_us) // HOUR_US

    def _tell_time(self, clock_us: int) -> None:
        before = self._first_open()
        self._clock_us = clock_us
        if self._first_open() > before:
            for stream in self._streams.values():
                self._test(stream, self._first_open())
            self._renew_anchor()

    def _test(self, stream: OpenStream, first_open: int) -> None:
        """Test the hours of a stream that are over."""
        stream.count()
        over = sorted(h for h in stream.open if stream.row.tested_hour < h < first_open)
        for hour in over:
            events, counts = stream.open[hour]
            if stream.detector is not None:
                stream.detector.columns = self._columns_of_latest(stream)
                changes = stream.detector.advance(HourCounts(hour, counts, events))
                for change in (*stream.detector.ended, *changes):
                    self._changes.append((stream.row.id, change))
                self.found += [(stream.row, change) for change in changes]
                stream.tested = True
        if over:
            stream.row = msgspec.structs.replace(stream.row, tested_hour=over[-1])
            stream.touched = True

    def _columns_of_latest(self, stream: OpenStream) -> int:
        """How many columns the payments of the model that decides have."""
        latest = self._latest()
        model = stream.model if latest is None or latest.model is None else latest.model
        assert model is not None
        return len(model.reference.bins.columns)

    # ----------------------------------------------------------------------------------- keep

    def _keep(self, begun: Progress, through: int) -> None:
        step = Step(begun, through, self._clock_us)
        step.tallies = self._tallies
        step.changes = self._changes
        for stream in self._streams.values():
            stream.count()
            if stream.touched:
                step.streams.append(stream.row)
            if stream.tested and stream.detector is not None:
                step.states[stream.row.id] = stream.detector.to_bytes()
            for hour in stream.changed:
                step.hours[stream.row.id, hour] = stream.open[hour]
        step.anchor = self._anchor if self._anchor_moved else None
        self._store.keep(step)
        self._anchor_moved = False
        self.progress = begun._replace(through=through, clock_us=self._clock_us)
        for tally in self._tallies.values():
            for what in self.counted:
                self.counted[what] += getattr(tally, what)
        self._tallies, self._changes = {}, []
        self._settle()

    def _settle(self) -> None:
        """Forget what is kept: hours that were tested, and models that decide no more."""
        latest = max((one.row.last_sequence for one in self._streams.values()), default=0)
        for key, stream in list(self._streams.items()):
            row = stream.row
            self._known[row.model_name, row.model_version, row.reference] = row
            stream.touched, stream.tested = False, False
            stream.changed.clear()
            for hour in [hour for hour in stream.open if hour <= row.tested_hour]:
                del stream.open[hour]
            anchor = self._anchor.stream if self._anchor else 0
            if not stream.open and row.last_sequence != latest and row.id != anchor:
                del self._streams[key]

    def look_again(self) -> None:
        """Look for references again that were not found, with the next decision."""
        for key, stream in list(self._streams.items()):
            if stream.model is None:
                del self._streams[key]
