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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ModelError
from sentinel.drift.counting import count_cells
from sentinel.drift.detector import DriftDetector, HourCounts
from sentinel.drift.figures import Change
from sentinel.drift.notices import HOUR_US
from sentinel.drift.reference import DriftReference
from sentinel.drift.segments import members
from sentinel.drift.store import Counts, DriftStore, Events, Progress, Step, StreamRow, Tally
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
COUNT_ROWS: Final = 8_192
"""Decisions of one model that wait to be counted together."""
MOST_STREAMS: Final = 4
"""Models whose hours are open at once; decisions of a further one are not counted."""

Rows = npt.NDArray[np.int64]
Columns = npt.NDArray[np.int64]


class FollowedModel(NamedTuple):
    """A model whose decisions are counted.

    Attributes:
        reference: What its payments looked like.
        columns: Finds its features in vectors of a plan, by the plan's hash: int64 (its features,);
            None if the plan is not known or lacks some.
    """

    reference: DriftReference
    columns: Callable[[str], Columns | None]


FindModel = Callable[[str, str], FollowedModel | str]
"""Finds a model by name and version; or says why its decisions cannot be counted."""


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


@dataclass
class _Stream:
    """A stream in memory.

    Attributes:
        model: Its reference; None where nothing is counted.
        detector: None where nothing is tested.
        open: Counts of hours that were not tested, or not kept yet, by hour.
        changed: Hours whose counts changed since the last transaction.
        waiting: Vectors, scores and hours that wait to be counted.
    """

    row: StreamRow
    model: FollowedModel | None
    detector: DriftDetector | None
    open: dict[int, tuple[Events, Counts]] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    waiting: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Rows]] = field(
        default_factory=list
    )
    rows_waiting: int = 0
    touched: bool = False
    tested: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it has counts that are not tested yet."""
        return bool(self.waiting) or any(hour > self.row.tested_hour for hour in self.open)


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
        self._streams: dict[tuple[str, str], _Stream] = {}
        self._known: dict[tuple[str, str, str], StreamRow] = {}
        self._tallies: dict[tuple[str, str, int], Tally] = {}
        self._changes: list[tuple[int, Change]] = []
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
        """Average evidence of the model that decided last, and what makes an alarm of it.

        None if nothing is tested for that model.
        """
        if not self._streams:
            return None
        detector = max(self._streams.values(), key=lambda one: one.row.last_sequence).detector
        return None if detector is None else (detector.average, detector.threshold)

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
            for row in list(self._known.values()):
                if row.reference and self._store.open_hours(row):
                    self._open(row.model_name, row.model_version)
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
        late = ~degraded & (hours < max(self._first_open(), stream.row.tested_hour + 1))
        hours = np.where(late, arrived, hours)
        columns = None
        if stream.model is not None:
            columns = stream.model.columns(decided.plan_hash)
            self._note_problem(stream, decided.plan_hash, columns)
        counted = ~degraded & ~late if columns is not None else np.zeros(n, np.bool_)
        self._tally(key, hours, flags, counted, degraded, late)
        if columns is None or not counted.any():
            return
        vectors = np.frombuffer(decided.vectors, "<f4").reshape(n, -1)
        scores = np.frombuffer(decided.probabilities, "<f8").astype(np.float32)
        own = len(columns) == vectors.shape[1] and bool((columns == np.arange(len(columns))).all())
        if not counted.all():
            vectors, scores, hours = vectors[counted], scores[counted], hours[counted]
        stream.waiting.append((vectors if own else vectors.take(columns, axis=1), scores, hours))
        stream.rows_waiting += len(scores)
        if stream.rows_waiting >= COUNT_ROWS:
            _count(stream)

    def _note_problem(self, stream: _Stream, plan_hash: str, columns: Columns | None) -> None:
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

    def _open(self, name: str, version: str) -> _Stream:
        """Bring the stream of a model into memory."""
        found = self._find_model(name, version)
        if not isinstance(found, str) and self._counting() >= MOST_STREAMS:
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
        stream = _Stream(row, None, None)
        if isinstance(found, str):
            stream.row = msgspec.structs.replace(row, problem=found)
            log.info("Drift of version %s of %s is not counted: %s.", version, name, found)
        else:
            stream.model = found
            self._bring_detector(stream, found.reference)
            for hour in self._store.open_hours(row):
                stream.open[hour.first_hour] = (hour.events.copy(), hour.counts.copy())
        self._streams[name, version] = stream
        return stream

    def _bring_detector(self, stream: _Stream, reference: DriftReference) -> None:
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

    def _test(self, stream: _Stream, first_open: int) -> None:
        """Test the hours of a stream that are over."""
        _count(stream)
        over = sorted(h for h in stream.open if stream.row.tested_hour < h < first_open)
        for hour in over:
            events, counts = stream.open[hour]
            if stream.detector is not None:
                changes = stream.detector.advance(HourCounts(hour, counts, events))
                for change in (*stream.detector.ended, *changes):
                    self._changes.append((stream.row.id, change))
                self.found += [(stream.row, change) for change in changes]
                stream.tested = True
        if over:
            stream.row = msgspec.structs.replace(stream.row, tested_hour=over[-1])
            stream.touched = True

    # ----------------------------------------------------------------------------------- keep

    def _keep(self, begun: Progress, through: int) -> None:
        step = Step(begun, through, self._clock_us)
        step.tallies = self._tallies
        step.changes = self._changes
        for stream in self._streams.values():
            _count(stream)
            if stream.touched:
                step.streams.append(stream.row)
            if stream.tested and stream.detector is not None:
                step.states[stream.row.id] = stream.detector.to_bytes()
            for hour in stream.changed:
                step.hours[stream.row.id, hour] = stream.open[hour]
        self._store.keep(step)
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
            if not stream.open and row.last_sequence != latest:
                del self._streams[key]

    def look_again(self) -> None:
        """Look for references again that were not found, with the next decision."""
        for key, stream in list(self._streams.items()):
            if stream.model is None:
                del self._streams[key]


def _count(stream: _Stream) -> None:
    """Count the vectors that wait."""
    if not stream.waiting:
        return
    assert stream.model is not None
    reference = stream.model.reference
    bins, segments = reference.bins, reference.segments
    vectors, scores, hours = (np.concatenate(parts) for parts in zip(*stream.waiting, strict=True))
    stream.waiting.clear()
    stream.rows_waiting = 0
    X = np.empty((len(scores), len(bins.columns)), np.float32)
    X[:, :-1], X[:, -1] = vectors, scores
    member = members(segments, X, bins.names)
    for hour in np.unique(hours):
        here = hours == hour
        if int(hour) not in stream.open:
            stream.open[int(hour)] = (
                np.zeros(len(segments), np.int64),
                np.zeros((len(segments), bins.cells), np.uint32),
            )
        events, counts = stream.open[int(hour)]
        count_cells(bins, X[here], member[here], counts)
        events += member[here].sum(axis=0)
        stream.changed.add(int(hour))


def columns_by_plan(
    find: Callable[[str], Columns | None], known: Mapping[str, Columns]
) -> Callable[[str], Columns | None]:
    """Finds columns once for each plan; a plan that was not found is looked for again.

    Args:
        find: Finds the columns of a plan by its hash.
        known: Those that need no looking.
    """
    found = dict(known)

    def columns(plan_hash: str) -> Columns | None:
        if plan_hash not in found:
            looked = find(plan_hash)
            if looked is None:
                return None
            found[plan_hash] = looked
        return found[plan_hash]

    return columns
