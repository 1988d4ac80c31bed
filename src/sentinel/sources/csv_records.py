"""Where the records of a CSV file begin and end, counted apart from the parser that reads them.

RFC 4180: a field that begins with a quote ends with one; in between, a quote is written twice
and line ends are text. A quote elsewhere in a field is text as well. Files break these rules: an
inch sign at the start of a name opens a field that nobody closes, and a parser takes all that
follows, up to the next quote anywhere, for one value. This scanner finds such lines:

* the closing quote is followed by text, or there is none: the field was never meant to be quoted;
* lines inside a quoted field have as many fields as the table, and values such as its columns
  have: they are rows;
* a record over several lines has too few or too many fields.

The line on which such a field opens is bad, alone; reading goes on in the next line. So no line
is ever lost inside a value of another one. A quoted field over several lines that breaks none of
these rules is what it says.

All is done on whole blocks with numpy; only blocks with an irregular quote are walked quote by
quote.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

_Positions = npt.NDArray[np.int64]

_LF: Final = 10
_CR: Final = 13
_SAMPLE_LINES: Final = 200
_CHECKED_LINES: Final = 100

NEVER_CLOSED: Final = (
    "the field opens with a quote that is never closed; the rows that follow are read on their "
    "own. Close it, or write the quote twice inside a quoted field"
)
TEXT_AFTER_QUOTE: Final = (
    "text follows the closing quote of a field; a quote inside a quoted field is written twice"
)
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
    starts: _Positions = field(default_factory=lambda: np.empty(0, np.int64))
    ends: _Positions = field(default_factory=lambda: np.empty(0, np.int64))

    def line_of(self, record: int) -> int:
        """Lines of the block in front of a readable record, counted from 0."""
        if len(self.starts):
            return int(np.searchsorted(self.ends, self.starts[record]))
        ends = _line_ends(np.frombuffer(self.clean, np.uint8), has_lone_returns(self.clean))
        starts = np.concatenate([[0], ends[:-1] + 1])
        filled = np.flatnonzero(~_blank(np.frombuffer(self.clean, np.uint8), starts, ends))
        return int(filled[record])


class RecordScanner:
    """Finds the records of one table.

    Args:
        delimiter, quote: One ASCII character each; no quote: "".
        width: Fields of a record.
    """

    def __init__(self, delimiter: str, quote: str, width: int) -> None:
        self._delimiter = ord(delimiter)
        self._quote = ord(quote) if quote else -1
        self._quote_bytes = quote.encode()
        self._width = width
        self._classes: list[str] = []
        self._separates = np.zeros(256, np.bool_)
        self._separates[[_LF, _CR, self._delimiter]] = True

    def scan(self, buffer: bytes, final: bool, *, give_up: bool = False) -> Scan:
        """The complete records of a buffer that begins with a record.

        Args:
            buffer: Text in UTF-8 (or any encoding in which ASCII is ASCII).
            final: Whether the file ends here.
            give_up: Whether a field that is still open is taken for one that is never closed.
        """
        if final and buffer and buffer[-1:] not in (b"\n", b"\r"):
            buffer += b"\n"
        if not final and buffer.endswith(b"\r"):
            buffer = buffer[:-1]  # a line feed may follow
        lone = has_lone_returns(buffer)
        quoted = bool(self._quote_bytes) and self._quote_bytes in buffer
        if not (quoted or lone or b"\0" in buffer):
            return _plain(buffer)
        return self._scan(buffer, lone, final or give_up)

    def _scan(self, buffer: bytes, lone: bool, final: bool) -> Scan:
        data = np.frombuffer(buffer, np.uint8)
        ends = _line_ends(data, lone)
        quotes = np.flatnonzero(data == self._quote) if self._quote >= 0 else np.empty(0, np.int64)
        page = _Page(buffer, data, ends, quotes)
        spans = self._regular(page, final)
        swallowing: set[int] = set()
        while True:
            if spans is None:
                spans = self._irregular(page, final, swallowing)
            page.lay_out(spans)
            more = self._swallowing(page) - swallowing
            if not more:
                break
            swallowing |= more
            spans = None
        return page.result()

    def _regular(self, page: _Page, final: bool) -> _Spans | None:
        """Quoted fields if all quotes of the page keep the rules, else None.

        With an odd number of quotes in front of it, a place is inside a quoted field. A pair
        inside a field closes and opens it without anything in between.
        """
        data, quotes = page.data, page.quotes
        opening, closing = quotes[0::2], quotes[1::2]
        if final and len(quotes) % 2:
            return None
        before = data[opening - 1]
        good = self._separates[before] | (before == self._quote)
        if len(opening) and opening[0] == 0:
            good[0] = True
        if not good.all():
            return None
        after = data[np.minimum(closing + 1, len(data) - 1)]
        if not (self._separates[after] | (after == self._quote) | (closing + 1 == len(data))).all():
            return None
        if len(opening) > len(closing):
            closing = np.append(closing, len(data))
        return _Spans(opening, closing)

    def _irregular(self, page: _Page, final: bool, swallowing: set[int]) -> _Spans:
        """Quoted fields, quote by quote, and those that are none."""
        data, quotes = page.data, page.quotes
        starts_field = self._separates[data[quotes - 1]] | (quotes == 0)
        last = len(data) - 1
        ends_field = self._separates[data[np.minimum(quotes + 1, last)]] | (quotes == last)
        places, opens, closes = quotes.tolist(), starts_field.tolist(), ends_field.tolist()
        opening: list[int] = []
        closing: list[int] = []
        bad: list[tuple[int, str]] = []
        count, index, resume = len(places), 0, 0
        while index < count:
            place = places[index]
            if place < resume or not opens[index]:
                index += 1
                continue
            if place in swallowing:
                bad.append((place, NEVER_CLOSED))
                resume = page.line_end(place) + 1
                index += 1
                continue
            close = index + 1
            while close + 1 < count and places[close + 1] == places[close] + 1:
                close += 2
            if close >= count:
                if not final:
                    opening.append(place)
                    closing.append(len(data))
                    break
                bad.append((place, NEVER_CLOSED))
                resume = page.line_end(place) + 1
                index += 1
            elif closes[close]:
                opening.append(place)
                closing.append(places[close])
                index = close + 1
            else:
                end = page.line_end(place)
                bad.append((place, NEVER_CLOSED if places[close] > end else TEXT_AFTER_QUOTE))
                resume = end + 1
                index += 1
        return _Spans(np.array(opening, np.int64), np.array(closing, np.int64), tuple(bad))

    def _swallowing(self, page: _Page) -> set[int]:
        """Opening quotes of fields that hold rows, or that make records of a wrong length."""
        if not page.inside.any():
            return set()
        spans = page.several_lines()
        if self._width == 1:
            return set(spans.opening.tolist())
        first = np.searchsorted(page.ends, spans.opening)
        last = np.searchsorted(page.ends, spans.closing)
        delimiters = np.flatnonzero(page.data == self._delimiter)
        bounds = np.concatenate([[0], page.ends + 1])
        per_line = np.diff(np.searchsorted(delimiters, bounds))
        suspects = np.concatenate([[0], np.cumsum(per_line >= self._width - 1)])
        complete = np.minimum(last + 1, len(page.ends))
        inside = suspects[complete] - suspects[np.minimum(first + 1, complete)]
        free = delimiters[~page.spans.hold(delimiters)]
        found: set[int] = set()
        for index in np.flatnonzero(inside > 0).tolist():
            if not self._classes:
                self._learn(page)
            place = int(spans.opening[index])
            start = page.record_start(place)
            column = int(np.searchsorted(free, place) - np.searchsorted(free, start))
            if self._holds_rows(page, int(first[index]), int(last[index]), column):
                found.add(place)
        record = np.searchsorted(page.record_ends, spans.opening)
        bounds = np.concatenate([[0], page.record_ends + 1])
        fields = np.diff(np.searchsorted(free, bounds)) + 1
        whole = record < len(page.record_ends)
        wrong = np.zeros(len(record), np.bool_)
        wrong[whole] = fields[record[whole]] != self._width
        return found | set(spans.opening[wrong].tolist())

    def _learn(self, page: _Page) -> None:
        """What the columns hold, by rows that stand on one line."""
        rows = []
        for start, end in page.short_records(_SAMPLE_LINES):
            fields = self._split(page.buffer[start:end])
            if len(fields) == self._width:
                rows.append(fields)
        if rows:
            self._classes = [class_of(column) for column in zip(*rows, strict=True)]

    def _holds_rows(self, page: _Page, first: int, last: int, column: int) -> bool:
        """Whether lines within a quoted field are rows of the table.

        Args:
            page: The buffer.
            first, last: Lines with the opening and the closing quote.
            column: Place of the field, from 0.
        """
        inner = range(first + 1, min(last, len(page.ends)))
        for line in inner[:_CHECKED_LINES]:
            fields = self._split(page.line(line))
            if len(fields) == self._width and self._fit(list(enumerate(fields))) is not False:
                return True
        if last >= len(page.ends):
            return False
        # The quotes may stand in the same column of two rows that follow each other.
        opened, closed = (
            page.line(line).rstrip(b"\r\n").split(bytes([self._delimiter]))
            for line in (first, last)
        )
        if len(opened) != self._width or len(closed) != self._width:
            return False
        texts = [part.decode("utf8", "replace").strip(chr(self._quote)) for part in opened]
        around = list(enumerate(texts))[column + 1 :]
        texts = [part.decode("utf8", "replace").strip(chr(self._quote)) for part in closed]
        around += list(enumerate(texts))[:column]
        return self._fit(around) is True

    def _fit(self, values: list[tuple[int, str]]) -> bool | None:
        """Whether values are such as their columns have; None where every text would fit."""
        if not self._classes:
            return None
        telling = [(self._classes[column], value) for column, value in values]
        telling = [(kind, value) for kind, value in telling if kind != "text" and value.strip()]
        if not telling:
            return None
        fitting = sum(class_of((value,)) in _FITTING[kind] for kind, value in telling)
        return fitting * 2 >= len(telling)

    def _split(self, line: bytes) -> list[str]:
        text = line.decode("utf8", "replace").rstrip("\r\n")
        if self._quote < 0 or chr(self._quote) not in text:
            return text.split(chr(self._delimiter))
        reader = csv.reader([text], delimiter=chr(self._delimiter), quotechar=chr(self._quote))
        try:
            return next(reader, [])
        except csv.Error:  # a field that is longer than the module allows
            return []


@dataclass(frozen=True)
class _Spans:
    """Quoted fields: places of their quotes, and quotes that open nothing, with the reason."""

    opening: _Positions
    closing: _Positions
    bad: tuple[tuple[int, str], ...] = ()

    def hold(self, places: _Positions) -> npt.NDArray[np.bool_]:
        """Which places are inside a quoted field."""
        index = np.searchsorted(self.opening, places, side="right") - 1
        if not len(self.opening):
            return np.zeros(len(places), np.bool_)
        within: npt.NDArray[np.bool_] = np.less(places, self.closing[np.maximum(index, 0)])
        within[index < 0] = False
        return within


class _Page:
    """A buffer, its lines, and (once quoted fields are known) its records."""

    def __init__(
        self,
        buffer: bytes,
        data: npt.NDArray[np.uint8],
        ends: _Positions,
        quotes: _Positions,
    ) -> None:
        self.buffer = buffer
        self.data = data
        self.ends = ends
        self.quotes = quotes
        self.spans = _Spans(np.empty(0, np.int64), np.empty(0, np.int64))
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

    def short_records(self, most: int) -> list[tuple[int, int]]:
        """Start and end of records that stand on one line."""
        starts = np.concatenate([[0], self.record_ends[:-1] + 1])
        lines = np.searchsorted(self.ends, self.record_ends) - np.searchsorted(self.ends, starts)
        chosen = np.flatnonzero(lines == 0)[:most]
        return list(
            zip(starts[chosen].tolist(), (self.record_ends[chosen] + 1).tolist(), strict=True)
        )

    def lay_out(self, spans: _Spans) -> None:
        """Divide the buffer into records; every line of a bad field is a record of its own."""
        self.spans = spans
        outside = ~spans.hold(self.ends)
        self.inside = ~outside
        self.record_ends = self.ends[outside]
        self._reasons = {}
        regions = [(self.record_start(place), place, reason) for place, reason in spans.bad]
        for start, place, reason in regions:
            first, last = np.searchsorted(self.ends, [start, place]).tolist()
            outside[first : last + 1] = True
            for line in range(first, min(last + 1, len(self.ends))):
                self._reasons[line] = reason
        self.inside = ~outside
        self.record_ends = self.ends[outside]

    def several_lines(self) -> _Spans:
        """The quoted fields that hold line ends."""
        spans, ends = self.spans, self.ends[self.inside]
        index = np.unique(np.searchsorted(spans.opening, ends, side="right") - 1)
        return _Spans(spans.opening[index], spans.closing[index])

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


def _plain(buffer: bytes) -> Scan:
    """Records of a buffer without quotes: its lines."""
    taken = buffer.rfind(b"\n") + 1
    clean = buffer[:taken]
    lines = records = clean.count(b"\n")
    if b"\n\n" in clean or b"\n\r\n" in clean or clean[:1] == b"\n" or clean[:2] == b"\r\n":
        data = np.frombuffer(clean, np.uint8)
        ends = np.flatnonzero(data == _LF)
        starts = np.concatenate([[0], ends[:-1] + 1])
        records -= int(_blank(data, starts, ends).sum())
    return Scan(taken, clean, records, lines)


def has_lone_returns(buffer: bytes) -> bool:
    """Whether a carriage return without line feed ends a line."""
    return buffer.count(b"\r") != buffer.count(b"\r\n")


def _line_ends(data: npt.NDArray[np.uint8], lone: bool) -> _Positions:
    ends = data == _LF
    if lone:
        returns = data == _CR
        returns[:-1] &= data[1:] != _LF
        ends |= returns
    return np.flatnonzero(ends)


def _blank(
    data: npt.NDArray[np.uint8], starts: _Positions, ends: _Positions
) -> npt.NDArray[np.bool_]:
    length = ends - starts
    only_end = (length == 1) & (data[starts] == _CR) & (data[ends] == _LF)
    blank: npt.NDArray[np.bool_] = (length == 0) | only_end
    return blank


_FITTING: Final = {"number": ("number",), "date": ("date",), "code": ("code", "number")}
_NUMBER: Final = re.compile(r"[+-]?[\d.,]*\d[.,]?([eE][+-]?\d+)?")
_DATE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:.*)?")


def class_of(values: tuple[str, ...]) -> str:
    """number, date, code (digits and letters without blanks) or text: what most values are."""
    given = [value.strip() for value in values if value.strip()]
    for kind, pattern in (("date", _DATE), ("number", _NUMBER)):
        if given and sum(bool(pattern.fullmatch(value)) for value in given) >= 0.9 * len(given):
            return kind
    if given and all(
        " " not in value and any(character.isdigit() for character in value) for value in given
    ):
        return "code"
    return "text"
