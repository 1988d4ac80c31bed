"""One table in a file, whatever its format: its columns, and its rows block by block."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sentinel.domain import ConfigurationError
from sentinel.sources.base import Chunk, Finding
from sentinel.sources.byte_streams import first_bytes, foreign_kind, is_compressed, looks_like_json
from sentinel.sources.csv_head import Head
from sentinel.sources.csv_reader import CsvReader, with_nulls
from sentinel.sources.json_reader import JsonReader
from sentinel.sources.layout import CsvLayout, FileFormat, column_names
from sentinel.sources.parquet_reader import ParquetReader
from sentinel.sources.raw_block import RawBlock

_ESTIMATED_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class TableFile:
    """One CSV, JSON or Parquet file.

    Args:
        path: The file. A member of a zip archive is ``archive.zip`` with ``member``.
        format: csv, json or parquet.
        layout: How a text file is written.
        member: Name within a zip archive.
        partitions: Columns that folder names give, with their values; None = not given.
        label: Name for people where several files have the same one.
        remarks: What is to be said about how the file was found.
    """

    path: Path
    format: FileFormat
    layout: CsvLayout = field(default_factory=CsvLayout, hash=False)
    member: str | None = None
    partitions: tuple[tuple[str, str | None], ...] = ()
    label: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name for people: the file's, with folders only where they tell files apart."""
        return self.label or self.member or self.path.name

    @property
    def is_text(self) -> bool:
        """Whether columns have no types: CSV and JSON files are read as text."""
        return self.format != "parquet"

    def schema(self) -> pa.Schema:
        """Columns and their types as ``blocks`` gives them; none if the file is empty.

        Raises:
            ConfigurationError: The file cannot be read as what it should be, or two columns
                have one name.
        """
        own = self._own_schema
        for name, _ in self._added:
            own = own.append(pa.field(name, pa.string()))
        return own

    @property
    def notes(self) -> tuple[str, ...]:
        """What is remarkable about the file: it is empty, or its columns do not fit together."""
        if not len(self._own_schema):
            return (*self.remarks, f"{self.name} is empty: it counts as no rows")
        own = set(self._own_schema.names)
        twice = (
            f"the column {name!r} is in the tables and in the names of their folders; the tables' "
            "is taken"
            for name, _ in self.partitions
            if name in own
        )
        return (*self.remarks, *twice, *(self._head.notes if self.format == "csv" else ()))

    @property
    def delimiter(self) -> str:
        """Between two fields of a CSV file, as declared or found."""
        return self._head.delimiter if self.format == "csv" else ""

    def header(self) -> list[str]:
        """The columns as the file itself names them, two of one name included; "" = not at all."""
        with translated(self):
            if self.format == "csv":
                return list(self._head.header)
            if self.format == "parquet":
                return self._parquet.header()
            return list(self._own_schema.names)

    def row_count(self) -> int | None:
        """Rows of the file; of text, an estimate from its size, None if it is compressed."""
        with translated(self):
            if self.format == "parquet":
                return self._parquet.row_count()
            if self.member or is_compressed(self.path):
                return None
            with self.path.open("rb") as file:
                block = file.read(_ESTIMATED_BYTES)
            lines = block.count(b"\n") or block.count(b"\r")
            header = 1 if self.format == "csv" else 0
            return int(self.path.stat().st_size / len(block) * lines) - header if lines else 0

    def blocks(self, chunk_rows: int, columns: Sequence[str] | None = None) -> Iterator[RawBlock]:
        """The file's rows in order, at most ``chunk_rows`` at a time.

        Args:
            chunk_rows: Most rows of a block.
            columns: Columns to read; None = all.

        Raises:
            ConfigurationError: The file cannot be read as what it should be.
        """
        with translated(self):
            added = [item for item in self._added if columns is None or item[0] in columns]
            names = {name for name, _ in added}
            own = None if columns is None else [name for name in columns if name not in names]
            for block in self._own_blocks(chunk_rows, own):
                rows = with_nulls(block.rows, self.layout)
                if added:
                    count = len(block.row_numbers)
                    arrays = [
                        *rows.columns,
                        *(pa.repeat(_text(value), count) for _, value in added),
                    ]
                    rows = pa.RecordBatch.from_arrays(
                        arrays, names=[*rows.schema.names, *(name for name, _ in added)]
                    )
                yield RawBlock(rows, block.row_numbers, block.malformed)

    def first_rows(self, count: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        """The first readable rows, at most ``count``; None if there is none.

        Args:
            count: Most rows.
            columns: Columns to read; None = all.
        """
        batches: list[pa.RecordBatch] = []
        left = count
        blocks = self.blocks(count, columns)
        for block in blocks:
            if block.rows.num_rows:
                batches.append(block.rows.slice(0, left))
                left -= batches[-1].num_rows
            if not left:
                break
        return pa.Table.from_batches(batches).combine_chunks() if batches else None

    def _own_blocks(self, chunk_rows: int, columns: Sequence[str] | None) -> Iterator[RawBlock]:
        if self.format == "parquet":
            return self._parquet.blocks(chunk_rows, columns)
        if self.format == "json":
            return self._json.blocks(chunk_rows, columns, self._own_schema)
        return self._csv.blocks(chunk_rows, columns)

    @cached_property
    def _own_schema(self) -> pa.Schema:
        with translated(self):
            if self.format == "parquet":
                return self._parquet.schema()
            if self.format == "json":
                return self._json.schema()
            names = column_names(list(self._head.header), self.layout, self.name)
            return pa.schema([(name, pa.string()) for name in names])

    @cached_property
    def _head(self) -> Head:
        with translated(self):
            start = first_bytes(self.path, self.member)
            foreign = foreign_kind(start)
            if foreign is not None:
                raise ConfigurationError(f"{self.path} is {foreign}.")
            if looks_like_json(start):
                raise ConfigurationError(
                    f'{self.path} is JSON, not CSV: leave out files.format, or say "json".'
                )
            return self._csv.head()

    @property
    def _added(self) -> list[tuple[str, str | None]]:
        """Columns of folder names that the file itself does not have; none if it is empty."""
        own = set(self._own_schema.names)
        return [item for item in self.partitions if item[0] not in own] if own else []

    @property
    def _csv(self) -> CsvReader:
        return CsvReader(self.path, self.member, self.layout, self.name)

    @property
    def _json(self) -> JsonReader:
        return JsonReader(self.path, self.member, self.layout, self.name)

    @cached_property
    def _parquet(self) -> ParquetReader:
        return ParquetReader(self.path, self.member, self.layout, self.name)


def _text(value: str | None) -> pa.Scalar:
    return pa.scalar(value, pa.string())


@contextmanager
def translated(file: TableFile) -> Iterator[None]:
    """Errors of the file system and of Arrow as ``ConfigurationError`` that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {file.path}; check the path.") from None
    except (
        pa.ArrowException,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        LookupError,
        RuntimeError,  # a zip archive with a password
        NotImplementedError,  # a way to compress that Python's zipfile does not know
    ) as error:
        wanted = {
            "csv": "a CSV file with a header line",
            "json": "a JSON file",
            "parquet": "a Parquet file",
        }[file.format]
        lines = str(error).splitlines() or [type(error).__name__]
        raise ConfigurationError(
            f"{file.path} cannot be read as {wanted}: {lines[0].rstrip('.')}. "
            "Check its format, delimiter, quote and encoding, and whether it is complete."
        ) from error


def malformed_chunk(file: TableFile, block: RawBlock, transactions: pa.Schema) -> Chunk | None:
    """The broken lines of a block as a chunk of rows that cannot be accepted, if there are any."""
    if not block.malformed:
        return None
    count = len(block.malformed)
    numbers = np.array([line.row for line in block.malformed], np.int64)
    rows = pa.RecordBatch.from_arrays(
        [pa.nulls(count, item.type) for item in transactions], schema=transactions
    )
    raw = pa.RecordBatch.from_pydict({"line": [line.text for line in block.malformed]})
    reasons = [line.reason for line in block.malformed]
    finding = Finding("malformed_row", np.ones(count, np.bool_), reasons)
    return Chunk(file.name, numbers, rows, raw, (finding,))
