"""CSV files, block by block in bounded memory, with every record accounted for.

Text files are read as text only: turning text into amounts, times and numbers is decided column
by column later, so that "007" stays an id and "1.10" stays exact. The scanner says how many
records a block has; Arrow must parse exactly so many, or reading stops.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from sentinel.domain import ConfigurationError
from sentinel.sources.byte_streams import check_utf8, utf8_blocks
from sentinel.sources.csv_escapes import Escapes
from sentinel.sources.csv_head import FIRST_BYTES, STAND_IN, Head, HeadReader
from sentinel.sources.csv_page import Scan
from sentinel.sources.csv_records import RecordScanner
from sentinel.sources.layout import CsvLayout, column_names
from sentinel.sources.raw_block import MalformedLine, RawBlock, cut

_BLOCK_BYTES: Final = 1 << 22
_LONGEST_QUOTED: Final = 16 << 20
_LONGEST_LINE: Final = 256 << 20


class CsvReader:
    """One CSV file.

    Args:
        path: The file.
        member: Of a zip archive, if it is one.
        layout: How it is written.
        name: For messages.
    """

    def __init__(self, path: Path, member: str | None, layout: CsvLayout, name: str) -> None:
        self._path = path
        self._member = member
        self._layout = layout
        self._name = name
        is_tab_separated = ".tsv" in (member or path.name).lower()
        self._head_reader = HeadReader(layout, is_tab_separated, name)
        self._escapes: Escapes | None = None
        if layout.escape:
            delimiter = layout.delimiter or ("\t" if is_tab_separated else ",")
            self._escapes = Escapes(layout.escape, layout.quote, delimiter, name)

    def head(self) -> Head:
        """Names and delimiter; an empty file has no columns.

        Raises:
            ConfigurationError: The header is broken.
        """
        stream = self._stream()
        try:
            return self._head(next(stream, b""), stream)[0]
        finally:
            stream.close()

    def blocks(self, chunk_rows: int, columns: Sequence[str] | None) -> Iterator[RawBlock]:
        """The rows in order."""
        stream = self._stream()
        try:
            head, buffer = self._head(next(stream, b""), stream)
            if not head.header:
                return
            stand_in = len(head.delimiter) > 1 or not head.delimiter.isascii()
            pieces: Iterator[bytes] = stream
            if stand_in:
                old = head.delimiter.encode()
                pieces = _with_stand_in(buffer[head.size :], stream, old, self._name)
                buffer = b""
            else:
                buffer = buffer[head.size :]
            yield from self._records(head, buffer, pieces, chunk_rows, columns)
        finally:
            stream.close()

    def _stream(self) -> Generator[bytes]:
        blocks = utf8_blocks(
            self._path, self._member, self._layout.encoding, FIRST_BYTES, _BLOCK_BYTES
        )
        return blocks if self._escapes is None else self._escapes.hidden(blocks)

    def _records(
        self,
        head: Head,
        buffer: bytes,
        stream: Iterator[bytes],
        chunk_rows: int,
        columns: Sequence[str] | None,
    ) -> Iterator[RawBlock]:
        delimiter = head.delimiter
        if len(delimiter) > 1 or not delimiter.isascii():
            delimiter = STAND_IN
        names = column_names(list(head.header), self._layout, self._name)
        scanner = RecordScanner(delimiter, self._layout.quote, len(names))
        parser = _Parser(head, names, delimiter, self._layout, columns, self._name, self._escapes)
        final = False
        while not final:
            piece = next(stream, None)
            final = piece is None
            buffer = _without_end_mark(buffer) if piece is None else buffer + piece
            while buffer:
                give_up = len(buffer) > _LONGEST_QUOTED
                scan = scanner.scan(buffer, final, give_up=give_up)
                if not scan.taken:
                    break
                if not buffer.isascii():
                    check_utf8(buffer[: scan.taken], self._name, parser.lines + 1)
                buffer = buffer[scan.taken :]
                yield from parser.parse(scan, chunk_rows)
                if not final:
                    break
            if final and buffer.strip():
                raise AssertionError(f"{self._name}: {len(buffer)} bytes are not accounted for")
            if len(buffer) > _LONGEST_LINE:
                raise ConfigurationError(
                    f"{self._name}: line {parser.lines + 1} is longer than "
                    f"{_LONGEST_LINE >> 20} MB; is it a CSV file?"
                )

    def _head(self, buffer: bytes, stream: Iterator[bytes]) -> tuple[Head, bytes]:
        """The head, and all bytes that were read for it."""
        layout = self._layout
        while True:
            found = self._head_reader.parse(buffer, final=False)
            if found is not None:
                return found, buffer
            more = next(stream, None)
            if more is None:
                found = self._head_reader.parse(buffer, final=True)
                assert found is not None
                return found, buffer
            buffer += more
            if len(buffer) > _LONGEST_QUOTED:
                raise ConfigurationError(
                    f"{self._name}: the header (after files.skip_lines = {layout.skip_lines}) is "
                    f"longer than {_LONGEST_QUOTED >> 20} MB; is it a CSV file?"
                )


class _Parser:
    """Arrow's parser over the clean records of each block, and the numbers of all records."""

    def __init__(
        self,
        head: Head,
        names: Sequence[str],
        delimiter: str,
        layout: CsvLayout,
        columns: Sequence[str] | None,
        name: str,
        escapes: Escapes | None,
    ) -> None:
        self.lines = head.lines
        self._escapes = escapes
        self._rows = 0
        self._head = head
        self._name = name
        self._restore = delimiter == STAND_IN
        self._invalid: list[pacsv.InvalidRow] = []
        self._delimiter = delimiter
        self._quote = layout.quote
        self._names = list(names)
        wanted = list(names if columns is None else columns)
        self._empty = pa.RecordBatch.from_arrays(
            [pa.array([], pa.string()) for _ in wanted], names=wanted
        )
        self._options = pacsv.ConvertOptions(
            check_utf8=False,
            column_types={column: pa.string() for column in wanted},
            include_columns=wanted,
            strings_can_be_null=True,
            null_values=list(layout.null_values),
        )

    def parse(self, scan: Scan, chunk_rows: int) -> list[RawBlock]:
        """The rows of a scan; its lines and records are counted on.

        Raises:
            ConfigurationError: Arrow finds another number of records than the scanner.
        """
        batch = self._batch(scan)
        invalid = self._invalid
        if batch.num_rows + len(invalid) != scan.records:
            raise ConfigurationError(
                f"{self._name}: lines {self.lines + 1:,} to {self.lines + scan.lines:,} hold "
                f"{scan.records:,} records, but {batch.num_rows + len(invalid):,} could be "
                "read. Check delimiter, quote and encoding."
            )
        ranks = np.array([item.rank for item in scan.bad], np.int64)
        clean = np.arange(scan.records, dtype=np.int64)
        place = clean + np.searchsorted(ranks, clean, side="right")
        broken = np.array([row.number - 1 for row in invalid], np.int64)
        malformed = []
        for index, bad in enumerate(scan.bad):
            row_number = self._rows + 1 + bad.rank + index
            line = self.lines + bad.line + 1
            text = self._restored(bad.text.decode("utf8", "replace"))
            malformed.append(MalformedLine.of(row_number, line, text, f"line {line}: {bad.reason}"))
        lines = scan.lines_of(broken) + self.lines + 1 if invalid else broken
        for row, line in zip(invalid, lines.tolist(), strict=True):
            if not row.text.strip(" \t\x1a"):
                continue  # a line of blanks is none
            reason = (
                f"the line has {row.actual_columns} fields where the header has "
                f"{row.expected_columns}; is a delimiter inside a field unquoted? (line {line})"
            )
            row_number = self._rows + 1 + int(place[row.number - 1])
            malformed.append(MalformedLine.of(row_number, line, self._restored(row.text), reason))
        malformed.sort(key=lambda line: line.row)
        numbers = np.delete(place, broken) + self._rows + 1
        self._rows += scan.records + len(scan.bad)
        self.lines += scan.lines
        return cut(batch, numbers, tuple(malformed), chunk_rows)

    def _batch(self, scan: Scan) -> pa.RecordBatch:
        self._invalid = []
        if not scan.records:
            return self._empty
        table = pacsv.read_csv(
            pa.BufferReader(scan.clean),
            # One thread: only then are broken lines numbered.
            read_options=pacsv.ReadOptions(
                use_threads=False,
                block_size=len(scan.clean) + 1,
                column_names=self._names,
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self._delimiter,
                quote_char=self._quote or False,
                newlines_in_values=scan.multiline,
                invalid_row_handler=self._remember,
            ),
            convert_options=self._options,
        )
        batches = table.combine_chunks().to_batches()
        batch = batches[0] if batches else self._empty
        if self._restore and self._quote and self._quote.encode() in scan.clean:
            batch = pa.RecordBatch.from_arrays(
                [
                    pc.replace_substring(column, STAND_IN, self._head.delimiter)
                    for column in batch.columns
                ],
                names=batch.schema.names,
            )
        return batch if self._escapes is None else self._escapes.restored_rows(batch)

    def _remember(self, row: pacsv.InvalidRow) -> str:
        self._invalid.append(row)
        return "skip"

    def _restored(self, text: str) -> str:
        if self._restore:
            text = text.replace(STAND_IN, self._head.delimiter)
        return text if self._escapes is None else self._escapes.restored(text)


def _without_end_mark(buffer: bytes) -> bytes:
    """Without the character that ended text files on DOS."""
    return buffer.rstrip(b"\x1a") if buffer.endswith(b"\x1a") else buffer


def _with_stand_in(
    start: bytes, stream: Iterator[bytes], delimiter: bytes, name: str
) -> Iterator[bytes]:
    """The text with one character in place of a delimiter of several."""
    new = STAND_IN.encode()
    held = b""
    for piece in chain((start,), stream):
        whole = held + _checked(piece, new, delimiter, name)
        whole = whole.replace(delimiter, new)
        # A delimiter may begin in this block and end in the next one.
        keep = next(
            (size for size in range(len(delimiter) - 1, 0, -1) if whole.endswith(delimiter[:size])),
            0,
        )
        held = whole[len(whole) - keep :]
        yield whole[: len(whole) - keep]
    if held:
        yield held


def _checked(text: bytes, new: bytes, delimiter: bytes, name: str) -> bytes:
    if new in text:
        raise ConfigurationError(
            f"{name} holds the control character U+001F, which cannot stand in a file whose "
            f"delimiter is {delimiter.decode()!r}; remove it, or write the file with one "
            "character as delimiter."
        )
    return text


def with_nulls(rows: pa.RecordBatch, layout: CsvLayout) -> pa.RecordBatch:
    """The rows with null where a text means "not given" in its column."""
    columns = list(rows.columns)
    changed = False
    for name, texts in layout.null_values_by_column.items():
        index = rows.schema.get_field_index(name)
        if index < 0 or not pa.types.is_string(columns[index].type):
            continue
        nothing = pc.is_in(
            pc.utf8_trim_whitespace(columns[index]),
            pa.array([text.strip() for text in texts], pa.string()),
        )
        columns[index] = pc.if_else(nothing, pa.scalar(None, pa.string()), columns[index])
        changed = True
    return pa.RecordBatch.from_arrays(columns, names=rows.schema.names) if changed else rows
