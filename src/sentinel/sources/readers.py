"""CSV and Parquet files, chunk by chunk in bounded memory, with the number of each row.

Text files are read as text only: turning text into amounts, times and numbers is decided column
by column later, so that "007" stays an id and "1.10" stays exact.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sentinel.domain import ConfigurationError
from sentinel.sources.base import Chunk, Finding

RowNumbers = npt.NDArray[np.int64]

FileFormat = Literal["csv", "parquet"]

_BLOCK_BYTES: Final = 4 << 20
_CSV_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".csv.bz2", ".csv.zip")
_PARQUET_SUFFIXES: Final = (".parquet", ".pq")


@dataclass(frozen=True)
class CsvLayout:
    """How a text file is written.

    Attributes:
        delimiter: Between two fields; "" = a tab in ``.tsv`` files, else a comma.
        quote: Around fields that contain delimiters; "" = none.
        encoding: Of the text.
        null_values: Texts that mean "not given".
    """

    delimiter: str = ""
    quote: str = '"'
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class RawBlock:
    """Rows as the file has them, and the lines that are no rows of the table.

    Attributes:
        rows: The readable rows.
        row_numbers: int64, counted from 1 without header.
        malformed: Number and text of lines with too few or too many fields.
        expected: Number of fields that a line should have.
    """

    rows: pa.RecordBatch
    row_numbers: RowNumbers
    malformed: tuple[tuple[int, str, int], ...] = ()
    expected: int = 0


@dataclass(frozen=True)
class TableFile:
    """One CSV or Parquet file.

    Args:
        path: The file. A member of a zip archive is ``archive.zip`` with ``member``.
        format: csv or parquet.
        layout: How a CSV file is written.
        member: Name within a zip archive.
    """

    path: Path
    format: FileFormat
    layout: CsvLayout = field(default_factory=CsvLayout)
    member: str | None = None

    @property
    def name(self) -> str:
        """Name for people: the file's, without folders."""
        return self.member or self.path.name

    def schema(self) -> pa.Schema:
        """Columns and their types as the file has them.

        Raises:
            ConfigurationError: The file cannot be read as what it should be.
        """
        with translated(self):
            if self.format == "parquet":
                return pq.read_schema(self.path)
            with self._open_csv(None, []) as reader:
                return reader.schema

    def row_count(self) -> int | None:
        """Rows of the file; of text, an estimate from its size."""
        with translated(self):
            if self.format == "parquet":
                return int(pq.read_metadata(self.path).num_rows)
            if self.member or self.path.suffix in (".gz", ".bz2", ".zip"):
                return None
            with self.path.open("rb") as file:
                block = file.read(_BLOCK_BYTES)
            lines = block.count(b"\n")
            return int(self.path.stat().st_size / len(block) * lines) - 1 if lines else 0

    def blocks(self, chunk_rows: int, columns: Sequence[str] | None = None) -> Iterator[RawBlock]:
        """The file's rows in order, at most ``chunk_rows`` at a time.

        Args:
            chunk_rows: Most rows of a block.
            columns: Columns to read; None = all.

        Raises:
            ConfigurationError: The file cannot be read as what it should be.
        """
        with translated(self):
            if self.format == "parquet":
                yield from self._parquet_blocks(chunk_rows, columns)
            else:
                yield from self._csv_blocks(chunk_rows, columns)

    def _parquet_blocks(self, chunk_rows: int, columns: Sequence[str] | None) -> Iterator[RawBlock]:
        row = 1
        with pq.ParquetFile(self.path, pre_buffer=False) as file:
            for batch in file.iter_batches(chunk_rows, columns=list(columns) if columns else None):
                yield RawBlock(batch, np.arange(row, row + batch.num_rows, dtype=np.int64))
                row += batch.num_rows

    def _csv_blocks(self, chunk_rows: int, columns: Sequence[str] | None) -> Iterator[RawBlock]:
        broken: list[tuple[int, str, int, int]] = []
        told = good = 0
        with self._open_csv(columns, broken) as reader:
            for batch in reader:
                for start in range(0, batch.num_rows, chunk_rows):
                    part = batch.slice(start, chunk_rows)
                    # A readable row comes after all broken lines with a smaller number.
                    at = np.array([line[0] for line in broken], np.int64) - np.arange(len(broken))
                    rank = np.arange(good + 1, good + 1 + part.num_rows, dtype=np.int64)
                    numbers = rank + np.searchsorted(at, rank, side="right")
                    good += part.num_rows
                    new = tuple(line[:3] for line in broken[told:])
                    expected = broken[-1][3] if broken else 0
                    told = len(broken)
                    yield RawBlock(part, numbers, new, expected)
            if told < len(broken):
                empty = reader.schema.empty_table().to_batches()
                batch = empty[0] if empty else pa.RecordBatch.from_pylist([], reader.schema)
                rest = tuple(line[:3] for line in broken[told:])
                yield RawBlock(batch, np.empty(0, np.int64), rest, broken[-1][3])

    @contextmanager
    def _open_csv(
        self, columns: Sequence[str] | None, broken: list[tuple[int, str, int, int]]
    ) -> Iterator[pacsv.CSVStreamingReader]:
        def remember(row: pacsv.InvalidRow) -> str:
            broken.append((row.number - 1, row.text, row.actual_columns, row.expected_columns))
            return "skip"

        layout = self.layout
        delimiter = layout.delimiter or ("\t" if ".tsv" in self.path.suffixes else ",")
        with ExitStack() as stack:
            names = columns
            if names is None:
                names = self._header(delimiter)
            reader = pacsv.open_csv(
                self._readable(stack),
                # One thread: only then are broken lines numbered.
                read_options=pacsv.ReadOptions(
                    use_threads=False, block_size=_BLOCK_BYTES, encoding=layout.encoding
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=layout.quote or False,
                    newlines_in_values=bool(layout.quote),
                    invalid_row_handler=remember,
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types={name: pa.string() for name in names},
                    include_columns=list(columns) if columns else None,
                    strings_can_be_null=True,
                    null_values=list(layout.null_values),
                ),
            )
            stack.callback(reader.close)
            yield reader

    def _header(self, delimiter: str) -> list[str]:
        with ExitStack() as stack:
            reader = pacsv.open_csv(
                self._readable(stack),
                read_options=pacsv.ReadOptions(
                    use_threads=False, block_size=_BLOCK_BYTES, encoding=self.layout.encoding
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=delimiter,
                    quote_char=self.layout.quote or False,
                    newlines_in_values=bool(self.layout.quote),
                    invalid_row_handler=lambda _: "skip",
                ),
            )
            stack.callback(reader.close)
            return [str(name) for name in reader.schema.names]

    def _readable(self, stack: ExitStack) -> Any:
        if self.path.suffix != ".zip":
            return str(self.path)
        archive = stack.enter_context(zipfile.ZipFile(self.path))
        member = self.member or archive.namelist()[0]
        return pa.PythonFile(stack.enter_context(archive.open(member)), mode="r")


@contextmanager
def translated(file: TableFile) -> Iterator[None]:
    """Errors of the file system and of Arrow as ``ConfigurationError`` that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise ConfigurationError(f"There is no file {file.path}; check the path.") from None
    except (pa.ArrowException, OSError, zipfile.BadZipFile, LookupError) as error:
        wanted = "a CSV file with a header line" if file.format == "csv" else "a Parquet file"
        raise ConfigurationError(
            f"{file.path} cannot be read as {wanted}: {str(error).splitlines()[0]}. "
            "Check its format, delimiter, quote and encoding."
        ) from error


def malformed_chunk(file: TableFile, block: RawBlock, transactions: pa.Schema) -> Chunk | None:
    """The broken lines of a block as a chunk of rows that cannot be accepted, if there are any."""
    if not block.malformed:
        return None
    count = len(block.malformed)
    numbers = np.array([line[0] for line in block.malformed], np.int64)
    reasons = [
        f"the line has {fields} fields where the header has {block.expected}; "
        "is a delimiter inside a field unquoted?"
        for _, _, fields in block.malformed
    ]
    rows = pa.RecordBatch.from_arrays(
        [pa.nulls(count, item.type) for item in transactions], schema=transactions
    )
    raw = pa.RecordBatch.from_pydict({"line": [line[1] for line in block.malformed]})
    finding = Finding("malformed_row", np.ones(count, np.bool_), reasons)
    return Chunk(file.name, numbers, rows, raw, (finding,))


def find_files(
    pattern: Path, format: FileFormat | None = None, layout: CsvLayout | None = None
) -> tuple[TableFile, ...]:
    """The files that a path means: one file, all tables of a folder, or a glob, by name.

    Raises:
        ConfigurationError: There are none, or their format cannot be told from their names.
    """
    layout = layout or CsvLayout()
    if pattern.is_dir():
        suffixes = _CSV_SUFFIXES + _PARQUET_SUFFIXES
        paths = sorted(
            path for path in pattern.iterdir() if path.is_file() and path.name.endswith(suffixes)
        )
    elif pattern.is_file():
        paths = [pattern]
    else:
        # A glob is relative to somewhere: here, or the root of the file system.
        start = Path(pattern.anchor or ".")
        names = str(pattern.relative_to(pattern.anchor) if pattern.anchor else pattern)
        paths = sorted(path for path in start.glob(names) if path.is_file())
    if not paths:
        raise ConfigurationError(
            f"There is no CSV or Parquet file at {pattern}; give a file, a folder or a glob "
            "such as payments/*.csv, relative to the mapping file."
        )
    return tuple(TableFile(path, format or _format_of(path), layout) for path in paths)


def _format_of(path: Path) -> FileFormat:
    if path.name.endswith(_PARQUET_SUFFIXES):
        return "parquet"
    if path.name.endswith(_CSV_SUFFIXES):
        return "csv"
    raise ConfigurationError(
        f"The format of {path} cannot be told from its name; "
        'set format = "csv" or format = "parquet".'
    )
