"""Parquet files, chunk by chunk, with every column as a type that can be worked with.

Writers know many types for one thing: text may be a string, a large string, a view, bytes or a
dictionary; an id may be a UUID. What is read has plain types: text, numbers, booleans, times and
lists; the fields of structs are columns with dotted names.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentinel.domain import ConfigurationError
from sentinel.sources.byte_streams import open_bytes
from sentinel.sources.layout import CsvLayout, column_names
from sentinel.sources.raw_block import RawBlock

_PACKED: Final = (b"PK", b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5")


class ParquetReader:
    """One Parquet file.

    Args:
        path: The file.
        member: Of a zip archive, if it is one.
        layout: Names by place.
        name: For messages.
    """

    def __init__(self, path: Path, member: str | None, layout: CsvLayout, name: str) -> None:
        self._path = path
        self._member = member
        self._layout = layout
        self._name = name

    def schema(self) -> pa.Schema:
        """Columns with the types that ``blocks`` gives them."""
        found = pq.read_schema(self._source)
        empty = pa.RecordBatch.from_arrays(
            [pa.array([], item.type) for item in found], schema=found.remove_metadata()
        )
        return self._plain(empty).schema

    def header(self) -> list[str]:
        """The columns as the file names them."""
        return list(pq.read_schema(self._source).names)

    def row_count(self) -> int:
        """Rows of the file."""
        return int(pq.read_metadata(self._source).num_rows)

    def blocks(self, chunk_rows: int, columns: Sequence[str] | None) -> Iterator[RawBlock]:
        """The rows in order, at most ``chunk_rows`` at a time."""
        row = 1
        with pq.ParquetFile(self._source, pre_buffer=False) as file:
            own = file.schema_arrow.names
            # Names by place need all columns, since names in the file may be there twice.
            some = None if columns is None or self._layout.names else self._parents(columns, own)
            for batch in file.iter_batches(chunk_rows, columns=some):
                rows = self._plain(batch)
                if columns is not None:
                    rows = rows.select(list(columns))
                if not rows.num_columns:
                    rows = pa.RecordBatch.from_struct_array(
                        pa.array([{}] * batch.num_rows, pa.struct([]))
                    )
                yield RawBlock(rows, np.arange(row, row + batch.num_rows, dtype=np.int64))
                row += batch.num_rows

    @cached_property
    def _source(self) -> Any:
        """The file itself, or (out of an archive) a temporary copy: Parquet begins at its end."""
        with self._path.open("rb") as file:
            if self._member is None and file.read(2) not in _PACKED:
                return str(self._path)
        copy = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the reader lives)
        weakref.finalize(self, copy.close)
        with open_bytes(self._path, self._member) as stream:
            shutil.copyfileobj(stream, copy)
        return pa.PythonFile(copy, mode="r")

    def _parents(self, columns: Sequence[str], own: Sequence[str]) -> list[str]:
        """The file's columns that hold these."""
        there = set(own)
        found: dict[str, None] = {}
        for column in columns:
            name = column
            while name not in there and "." in name:
                name = name.rpartition(".")[0]
            found[name] = None
        return list(found)

    def _plain(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        layout = self._layout
        own = batch.schema.names
        names = column_names(list(own), layout, self._name)
        arrays: list[pa.Array] = []
        flat: list[str] = []
        for name, column in zip(names, batch.columns, strict=True):
            for inner, values in _flattened(name, plain(column)):
                flat.append(inner)
                arrays.append(values)
        if len(set(flat)) < len(flat):
            twice = next(name for name in flat if flat.count(name) > 1)
            raise ConfigurationError(
                f"{self._name}: two columns have the name {twice!r}, one of them inside another "
                "column; give one a name by place in files.names."
            )
        return pa.RecordBatch.from_arrays(arrays, names=flat)


def _flattened(name: str, column: pa.Array) -> list[tuple[str, pa.Array]]:
    if not pa.types.is_struct(column.type) or not column.type.num_fields:
        return [(name, column)]
    return [
        part
        for item, values in zip(column.type, column.flatten(), strict=True)
        for part in _flattened(f"{name}.{item.name}", plain(values))
    ]


def plain(column: pa.Array) -> pa.Array:
    r"""A column with a type that all of Sentinel's code knows.

    UUIDs are text in their canonical form; text of any kind is ``string``; bytes are text if
    they are UTF-8, else hexadecimal digits; dictionaries are decoded.

    >>> plain(pa.array([b"c-1", b"\xff"], pa.binary())).to_pylist()
    ['c-1', 'ff']
    >>> plain(pa.array(["a", None]).dictionary_encode()).to_pylist()
    ['a', None]
    """
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        storage = column.storage
        if kind.extension_name == "arrow.uuid":
            return _uuids(storage)
        return plain(storage)
    types = pa.types
    if types.is_dictionary(kind):
        return plain(column.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(column))
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pc.cast(column, pa.string())
    if (
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    ):
        return _text_of_bytes(column)
    if types.is_float16(kind):
        return pc.cast(column, pa.float64())
    if types.is_decimal(kind) and not types.is_decimal128(kind):
        if kind.precision <= 38:
            return pc.cast(column, pa.decimal128(kind.precision, kind.scale))
        return pa.array(
            [None if value is None else str(value) for value in column.to_pylist()], pa.string()
        )
    if types.is_interval(kind):
        return pa.array(
            [None if value is None else str(value) for value in column.to_pylist()], pa.string()
        )
    return column


def _uuids(storage: pa.Array) -> pa.Array:
    return pa.array(
        [None if value is None else str(uuid.UUID(bytes=value)) for value in storage.to_pylist()],
        pa.string(),
    )


def _text_of_bytes(column: pa.Array) -> pa.Array:
    if pa.types.is_fixed_size_binary(column.type):
        return pa.array([_printable(value) for value in column.to_pylist()], pa.string())
    values = pc.cast(column, pa.binary())
    try:
        return pc.cast(values, pa.string())
    except pa.ArrowInvalid:
        return pa.array([_text(value) for value in values.to_pylist()], pa.string())


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode("utf8")
    except UnicodeDecodeError:
        return value.hex()


def _printable(value: bytes | None) -> str | None:
    """Bytes of a fixed length are mostly hashes: digits, unless they are readable."""
    text = _text(value)
    return text if value is None or text is None or text.isprintable() else value.hex()
