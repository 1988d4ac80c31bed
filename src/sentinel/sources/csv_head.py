"""The beginning of a CSV file: lines in front of the header, the header, the delimiter."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import Final

from sentinel.domain import ConfigurationError
from sentinel.sources.byte_streams import check_utf8
from sentinel.sources.layout import CsvLayout

FIRST_BYTES: Final = 64 << 10
STAND_IN: Final = "\x1f"

_HEADER_LINES: Final = 20
_COMPARED_RECORDS: Final = 100
_SEP_LINE: Final = re.compile(r'"?sep=(.|\\t)"?', re.IGNORECASE)
_COMMON_DELIMITERS: Final = (";", "\t", "|")


@dataclass(frozen=True)
class Head:
    """The beginning of a CSV file.

    Attributes:
        header: What the file says of its columns; "" = nothing.
        delimiter: Between two fields.
        lines: Lines in front of the first row.
        size: Bytes in front of the first row.
        notes: What is remarkable about it.
    """

    header: tuple[str, ...]
    delimiter: str
    lines: int
    size: int
    notes: tuple[str, ...] = ()


class HeadReader:
    """Finds the head in the first bytes of a file.

    Args:
        layout: How the file is written.
        is_tab_separated: Whether its name says so.
        name: For messages.
    """

    def __init__(self, layout: CsvLayout, is_tab_separated: bool, name: str) -> None:
        self._layout = layout
        self._is_tab_separated = is_tab_separated
        self._name = name

    def parse(self, buffer: bytes, *, final: bool) -> Head | None:
        """The head of a file that begins with these bytes; None if they are too few."""
        layout = self._layout
        lines = _lines(buffer, final)
        at = size = 0
        delimiter = layout.delimiter
        while at < len(lines) and (at < layout.skip_lines or not lines[at].strip()):
            size += len(lines[at])
            at += 1
        if at < len(lines):
            told = _SEP_LINE.fullmatch(lines[at].decode("utf8", "replace").rstrip("\r\n"))
            if told:
                delimiter = delimiter or told[1].replace("\\t", "\t")
                size += len(lines[at])
                at += 1
        while at < len(lines) and not lines[at].strip():
            size += len(lines[at])
            at += 1
        if at == len(lines):
            return Head((), delimiter, at, size) if final else None
        if not final and len(lines) - at < _COMPARED_RECORDS and len(buffer) < FIRST_BYTES // 2:
            return None
        check_utf8(b"".join(lines[: at + 1]), self._name, 1)
        texts = [line.decode("utf8", "replace") for line in lines[at:][: 3 * _COMPARED_RECORDS]]
        if not delimiter:
            delimiter = self._usual_delimiter(texts[0])
        rows = self._rows(texts, delimiter)
        header, used = rows[0]
        quotes = sum(text.count(layout.quote) for text in texts[:used]) if layout.quote else 0
        swallowed = any("\n" in name and delimiter in name for name in header)
        if used > _HEADER_LINES or (used > 1 and (quotes % 2 or swallowed)):
            raise ConfigurationError(
                f"{self._name}: line {at + 1}, the header, opens a field with a quote that is "
                "never closed. Correct it, or set files.quote."
            )
        if used > len(texts) - 1 and not final and used > 1:
            return None
        if not layout.header:
            return Head(("",) * len(header), delimiter, at, size)
        widths = [len(row) for row, _ in rows[1 : _COMPARED_RECORDS + 1]]
        blank_end = all(row[-1] == "" for row, _ in rows[1 : _COMPARED_RECORDS + 1] if row)
        notes: list[str] = []
        if widths and set(widths) == {len(header) + 1} and blank_end:
            header = [*header, ""]
            notes.append(f"{self._name}: each row ends with a delimiter, the header does not")
        elif delimiter in " \t" and widths and set(widths) == {len(header) + 1}:
            header = ["", *header]
            notes.append(f"{self._name}: the rows begin with a name that the header does not have")
        elif len(header) > 1 and not header[-1] and widths and set(widths) == {len(header) - 1}:
            header = header[:-1]
            notes.append(f"{self._name}: the header ends with a delimiter, the rows do not")
        size += sum(len(line) for line in lines[at : at + used])
        return Head(tuple(header), delimiter, at + used, size, tuple(notes))

    def _usual_delimiter(self, header: str) -> str:
        if self._is_tab_separated:
            return "\t"
        if "," in header:
            return ","
        return next((item for item in _COMMON_DELIMITERS if item in header), ",")

    def _rows(self, lines: list[str], delimiter: str) -> list[tuple[list[str], int]]:
        """Records of the first lines, with the lines that each takes."""
        if len(delimiter) > 1:
            lines = [line.replace(delimiter, STAND_IN) for line in lines]
            delimiter = STAND_IN
        quote = self._layout.quote
        reader = csv.reader(
            lines,
            delimiter=delimiter,
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        )
        rows: list[tuple[list[str], int]] = []
        before = 0
        try:
            for row in reader:
                if row or not rows:
                    rows.append((row, reader.line_num - before))
                before = reader.line_num
        except csv.Error as error:
            if not rows:
                raise ConfigurationError(
                    f"{self._name}: the header cannot be read ({error}); is it a CSV file?"
                ) from None
        return rows


def _lines(buffer: bytes, final: bool) -> list[bytes]:
    """Complete lines with their ends; at the end of the file also what is left."""
    lines = re.findall(rb"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", buffer)
    if lines and not final and not lines[-1].endswith(b"\n"):
        lines.pop()
    return lines
