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

from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.sources.csv_looks import Looks
from sentinel.sources.csv_page import (
    CARRIAGE_RETURN,
    LINE_FEED,
    Page,
    Positions,
    QuotedFields,
    Scan,
    line_ends,
    plain_lines,
)

_CHECKED_LINES: Final = 100
_FITTING_SHARE: Final = 0.75
_MOST_ROUNDS: Final = 20

NEVER_CLOSED: Final = (
    "the field opens with a quote that is never closed; the rows that follow are read on their "
    "own. Close it, or write the quote twice inside a quoted field"
)
TEXT_AFTER_QUOTE: Final = (
    "text follows the closing quote of a field; a quote inside a quoted field is written "
    'twice. If the file writes it as \\", set files.escape = "\\\\"'
)


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
        self._looks = Looks(delimiter, quote, width)
        self._separates = np.zeros(256, np.bool_)
        self._separates[[LINE_FEED, CARRIAGE_RETURN, self._delimiter]] = True
        self._beside = self._separates.copy()
        if quote:
            self._beside[self._quote] = True

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
        data = np.frombuffer(buffer, np.uint8)
        ends = line_ends(buffer, data)
        if not len(ends):
            return Scan(0, b"", 0, 0)
        quoted = bool(self._quote_bytes) and self._quote_bytes in buffer
        if not quoted and b"\0" not in buffer:
            if self._looks.wanted > 0:
                self._learn(buffer, np.concatenate([[0], ends[:-1] + 1]), ends)
            return plain_lines(buffer, data, ends)
        return self._scan(buffer, data, ends, final or give_up)

    def _scan(
        self, buffer: bytes, data: npt.NDArray[np.uint8], ends: Positions, final: bool
    ) -> Scan:
        quotes = np.flatnonzero(data == self._quote) if self._quote >= 0 else np.empty(0, np.int64)
        page = Page(buffer, data, ends, quotes)
        quoted = self._regular(page, final)
        swallowing: set[int] = set()
        rounds = 0
        while True:
            if quoted is None:
                quoted = self._irregular(page, final, swallowing)
            page.lay_out(quoted)
            if self._looks.wanted > 0 and page.inside.any():
                self._learn(buffer, *page.short_records())
            more = self._swallowing(page) - swallowing
            if not more:
                break
            rounds += 1
            if rounds > _MOST_ROUNDS:
                more |= set(page.several_lines().opening.tolist())
            swallowing |= more
            quoted = None
        return page.result()

    def _regular(self, page: Page, final: bool) -> QuotedFields | None:
        """Quoted fields if all quotes of the page keep the rules, else None.

        With an odd number of quotes in front of it, a place is inside a quoted field. A pair
        inside a field closes and opens it without anything in between.
        """
        data, quotes = page.data, page.quotes
        opening, closing = quotes[0::2], quotes[1::2]
        if final and len(quotes) % 2:
            return None
        first = int(len(opening) > 0 and opening[0] == 0)
        inner = len(closing) - int(len(closing) > 0 and closing[-1] + 1 == len(data))
        good = self._beside[data[opening[first:] - 1]].all()
        if not good or not self._beside[data[closing[:inner] + 1]].all():
            return None
        if len(opening) > len(closing):
            closing = np.append(closing, len(data))
        return QuotedFields(opening, closing)

    def _irregular(self, page: Page, final: bool, swallowing: set[int]) -> QuotedFields:
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
        return QuotedFields(np.array(opening, np.int64), np.array(closing, np.int64), tuple(bad))

    def _swallowing(self, page: Page) -> set[int]:
        """Opening quotes of fields that hold rows, or that make records of a wrong length."""
        if not page.inside.any():
            return set()
        quoted = page.several_lines()
        if self._width == 1:
            return set(quoted.opening.tolist())
        first = np.searchsorted(page.ends, quoted.opening)
        last = np.searchsorted(page.ends, quoted.closing)
        delimiters = np.flatnonzero(page.data == self._delimiter)
        bounds = np.concatenate([[0], page.ends + 1])
        per_line = np.diff(np.searchsorted(delimiters, bounds))
        suspects = np.concatenate([[0], np.cumsum(per_line >= self._width - 1)])
        complete = np.minimum(last + 1, len(page.ends))
        inside = suspects[complete] - suspects[np.minimum(first + 1, complete)]
        free = delimiters[~page.quoted.hold(delimiters)]
        found: set[int] = set()
        for index in np.flatnonzero(inside > 0).tolist():
            place = int(quoted.opening[index])
            start = page.record_start(place)
            column = int(np.searchsorted(free, place) - np.searchsorted(free, start))
            lines = int(first[index]), int(last[index])
            if self._holds_rows(page, int(quoted.closing[index]), lines, column):
                found.add(place)
        record = np.searchsorted(page.record_ends, quoted.opening)
        bounds = np.concatenate([[0], page.record_ends + 1])
        fields = np.diff(np.searchsorted(free, bounds)) + 1
        whole = record < len(page.record_ends)
        wrong = np.zeros(len(record), np.bool_)
        wrong[whole] = fields[record[whole]] != self._width
        return found | set(quoted.opening[wrong].tolist())

    def _learn(self, buffer: bytes, starts: Positions, ends: Positions) -> None:
        count = self._looks.wanted
        bounds = zip(starts[:count].tolist(), ends[:count].tolist(), strict=True)
        self._looks.learn(buffer[start:end] for start, end in bounds)

    def _holds_rows(self, page: Page, close: int, lines: tuple[int, int], column: int) -> bool:
        """Whether lines within a quoted field are rows of the table.

        Args:
            page: The buffer.
            close: Place of the closing quote.
            lines: Lines with the opening and the closing quote.
            column: Place of the field, from 0.
        """
        first, last = lines
        inner = range(first + 1, min(last, len(page.ends)))[:_CHECKED_LINES]
        texts = [text for text in map(page.line, inner) if text.strip()]
        likely = 0
        for text in texts:
            fields = self._looks.split(text)
            if len(fields) == self._width:
                fitting, telling = self._looks.fit(list(enumerate(fields)))
                if telling > 1 and fitting >= _FITTING_SHARE * telling:
                    return True
                likely += fitting == telling
        if texts and likely * 2 >= len(texts):
            return True
        if last >= len(page.ends):
            return False
        # The last line may be a row as well, of which the quote ends one value.
        start = int(page.ends[last - 1]) + 1
        before = page.buffer.count(bytes([self._delimiter]), start, close)
        opened = self._looks.cut(page.line(first))
        for closed in (self._looks.split(page.line(last)), self._looks.cut(page.line(last))):
            if len(closed) != self._width:
                continue
            fitting, telling = self._looks.fit(list(enumerate(closed))[:before])
            if telling > 1 and fitting >= _FITTING_SHARE * telling:
                return True
            if texts or len(opened) != self._width:
                continue
            # Two rows that follow each other: all that stands around the quotes must fit.
            if not self._looks.known:
                self._looks.learn_fields([opened[:column] + closed[column:]])
            around = [*list(enumerate(opened))[column + 1 :], *list(enumerate(closed))[:column]]
            fitting, telling = self._looks.fit(around)
            if telling and fitting >= _FITTING_SHARE * telling:
                return True
        return False
