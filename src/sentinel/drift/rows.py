"""What the record of drift holds: streams of payments, their hours, and the changes found in them.

`sentinel.drift.reader` asks for these values, and `sentinel.drift.store` keeps them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.drift.anchor import Anchor
from sentinel.drift.figures import Change
from sentinel.drift.notices import Notice

ANCHOR_ROW: Final = 0
"""The row of the streams whose state is the anchor. Streams are counted from 1."""

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


def packed(array: Events | Counts) -> bytes:
    """Events or counts of some hours as the record keeps them."""
    little = array.astype("<i8" if array.dtype == np.int64 else "<u4", copy=False)
    return zlib.compress(little.tobytes(), 1)


def unpacked(first_hour: int, hours: int, packed_events: bytes, packed_counts: bytes) -> HourRow:
    """A row of hours from what the record keeps of it; see `packed`."""
    events = np.frombuffer(zlib.decompress(packed_events), "<i8")
    counts = np.frombuffer(zlib.decompress(packed_counts), "<u4").reshape(len(events), -1)
    return HourRow(first_hour, hours, events, counts)


class Tally(msgspec.Struct, kw_only=True):
    """Decisions of a model in an hour. Each one is counted, degraded, late or uncounted.

    Attributes:
        counted: In the counts of the hour.
        degraded: Left out: what it did not know says nothing of the customer's data.
        late: Left out: the hour of the payment was closed, tested or not.
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

    def add(self, other: Tally) -> None:
        """Take the decisions of another hour in."""
        for what in self.__struct_fields__:
            setattr(self, what, getattr(self, what) + getattr(other, what))

    @property
    def left_out(self) -> str:
        """How many decisions are in no count of features, and why; empty if all are.

        >>> Tally(counted=60, degraded=2, uncounted=1).left_out
        '2 degraded, 1 without a reference, which are not counted.'
        """
        apart = [
            f"{count:,} {what}"
            for what, count in (
                ("degraded", self.degraded),
                ("late", self.late),
                ("without a reference", self.uncounted),
            )
            if count
        ]
        if not apart:
            return ""
        said = f"{', '.join(apart)}, which are not counted."
        return f"{said} {_LATE}" if self.late else said


_LATE: Final = (
    "A decision is late if the hour of its payment was closed when it came in, "
    "`drift.late_minutes` after its end, whether or not that hour was tested."
)


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
