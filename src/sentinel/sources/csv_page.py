"""A block of a CSV file: its bytes, its lines, and the records that they make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

LINE_FEED: Final = 10
CARRIAGE_RETURN: Final = 13

NUL_BYTE: Final = "the line holds a NUL byte, which is no text; was the file cut off or damaged?"


@dataclass(frozen=True)
class BadRecord:
    """A physical line that is no row.

    Attributes:
        rank: Readable records of the block in front of it.
        line: Lines of the block in front of it.
        text: The line.
        reason: What is wrong with it.
    """

    rank: int
    line: int
    text: bytes
    reason: str


@dataclass(frozen=True)
class Scan:
    """The complete records at the beginning of a buffer.

    Attributes:
        taken: Bytes of the buffer that they cover; 0 = there is no complete record yet.
        clean: The readable records.
        records: How many those are; empty lines are none.
        lines: Lines that ``taken`` covers.
        multiline: Whether a value of ``clean`` holds a line end.
        bad: What is left out of ``clean``.
    """

    taken: int
    clean: bytes
    records: int
    lines: int
    multiline: bool = False
    bad: tuple[BadRecord, ...] = ()
    starts: Positions = field(default_factory=lambda: np.empty(0, np.int64))
    ends: Positions = field(default_factory=lambda: np.empty(0, np.int64))

    def lines_of(self, records: Positions) -> Positions:
        """Lines of the block in front of readable records, counted from 0.

        Args:
            records: Places among the readable records, from 0.
        """
        if len(self.starts):
            return np.searchsorted(self.ends, self.starts[records])
        data = np.frombuffer(self.clean, np.uint8)
        ends = line_ends(self.clean, data)
        starts = np.concatenate([[0], ends[:-1] + 1])
        return np.flatnonzero(~_blank(data, starts, ends))[records]


@dataclass(frozen=True)
class QuotedFields:
    """Quoted fields: places of their quotes, and quotes that open nothing, with the reason."""

    opening: Positions
    closing: Positions
    bad: tuple[tuple[int, str], ...] = ()

    def hold(self, places: Positions) -> npt.NDArray[np.bool_]:
        """Which places are inside a quoted field."""
        index = np.searchsorted(self.opening, places, side="right") - 1
        if not len(self.opening):
            return np.zeros(len(places), np.bool_)
        within: npt.NDArray[np.bool_] = np.less(places, self.closing[np.maximum(index, 0)])
        within[index < 0] = False
        return within


class Page:
    """A buffer, its lines, and (once quoted fields are known) its records."""

    def __init__(
        self,
        buffer: bytes,
        data: npt.NDArray[np.uint8],
        ends: Positions,
        quotes: Positions,
    ) -> None:
        self.buffer = buffer
        self.data = data
        self.ends = ends
        self.quotes = quotes
        self.quoted = QuotedFields(np.empty(0, np.int64), np.empty(0, np.int64))
        self.inside = np.zeros(len(ends), np.bool_)
        self.record_ends = ends
        self._reasons: dict[int, str] = {}  # by line

    def line_end(self, place: int) -> int:
        """Where the line of a place ends."""
        line = int(np.searchsorted(self.ends, place))
        return int(self.ends[line]) if line < len(self.ends) else len(self.data)

    def line(self, number: int) -> bytes:
        """A line with its end, by its number from 0."""
        start = int(self.ends[number - 1]) + 1 if number else 0
        return self.buffer[start : int(self.ends[number]) + 1]

    def record_start(self, place: int) -> int:
        """Where the record of a place begins."""
        record = int(np.searchsorted(self.record_ends, place))
        return int(self.record_ends[record - 1]) + 1 if record else 0

    def short_records(self) -> tuple[Positions, Positions]:
        """Start and end of records that stand on one line."""
        starts = np.concatenate([[0], self.record_ends[:-1] + 1])
        lines = np.searchsorted(self.ends, self.record_ends) - np.searchsorted(self.ends, starts)
        chosen = lines == 0
        return starts[chosen], self.record_ends[chosen]

    def lay_out(self, quoted: QuotedFields) -> None:
        """Divide the buffer into records; every line of a bad field is a record of its own."""
        self.quoted = quoted
        outside = ~quoted.hold(self.ends)
        self.inside = ~outside
        self.record_ends = self.ends[outside]
        self._reasons = {}
        regions = [(self.record_start(place), place, reason) for place, reason in quoted.bad]
        for start, place, reason in regions:
            first, last = np.searchsorted(self.ends, [start, place]).tolist()
            outside[first : last + 1] = True
            for line in range(first, min(last + 1, len(self.ends))):
                self._reasons[line] = reason
        self.inside = ~outside
        self.record_ends = self.ends[outside]

    def several_lines(self) -> QuotedFields:
        """The quoted fields that hold line ends."""
        quoted, ends = self.quoted, self.ends[self.inside]
        index = np.unique(np.searchsorted(quoted.opening, ends, side="right") - 1)
        return QuotedFields(quoted.opening[index], quoted.closing[index])

    def result(self) -> Scan:
        """The records, without those that are bad."""
        ends = self.record_ends
        if not len(ends):
            return Scan(0, b"", 0, 0)
        taken = int(ends[-1]) + 1
        starts = np.concatenate([[0], ends[:-1] + 1])
        blank = _blank(self.data, starts, ends)
        lines = int(np.searchsorted(self.ends, taken))
        reasons = {
            int(np.searchsorted(ends, self.ends[line])): reason
            for line, reason in self._reasons.items()
        }
        nul = np.flatnonzero(self.data[:taken] == 0) if b"\0" in self.buffer else ()
        for record in np.unique(np.searchsorted(ends, nul)).tolist() if len(nul) else ():
            reasons.setdefault(record, NUL_BYTE)
        good = ~blank
        marks = [record for record in sorted(reasons) if not blank[record]]
        good[marks] = False
        ranks = np.cumsum(good)
        pieces, bad, begin = [], [], 0
        for record in marks:
            start, end = int(starts[record]), int(ends[record]) + 1
            pieces.append(self.buffer[begin:start])
            begin = end
            line = int(np.searchsorted(self.ends, start))
            bad.append(BadRecord(int(ranks[record]), line, self.buffer[start:end], reasons[record]))
        pieces.append(self.buffer[begin:taken])
        return Scan(
            taken,
            b"".join(pieces),
            int(good.sum()),
            lines,
            bool(self.inside[:lines].any()),
            tuple(bad),
            starts[good],
            self.ends,
        )


def plain_lines(buffer: bytes, data: npt.NDArray[np.uint8], ends: Positions) -> Scan:
    """Records of a buffer without quotes: its lines."""
    taken = int(ends[-1]) + 1
    blank = _blank(data, np.concatenate([[0], ends[:-1] + 1]), ends)
    return Scan(taken, buffer[:taken], len(ends) - int(blank.sum()), len(ends))


def line_ends(buffer: bytes, data: npt.NDArray[np.uint8]) -> Positions:
    """Last bytes of lines, which end with a line feed, a carriage return, or both."""
    feeds = data == LINE_FEED
    ends = np.flatnonzero(feeds)
    if b"\r" not in buffer:
        return ends
    returns = data == CARRIAGE_RETURN
    first = int(len(ends) > 0 and ends[0] == 0)
    if np.count_nonzero(returns) == np.count_nonzero(data[ends[first:] - 1] == CARRIAGE_RETURN):
        return ends
    returns[:-1] &= ~feeds[1:]
    return np.flatnonzero(feeds | returns)


def _blank(
    data: npt.NDArray[np.uint8], starts: Positions, ends: Positions
) -> npt.NDArray[np.bool_]:
    length = ends - starts
    only_end = (length == 1) & (data[starts] == CARRIAGE_RETURN) & (data[ends] == LINE_FEED)
    blank: npt.NDArray[np.bool_] = (length == 0) | only_end
    return blank
