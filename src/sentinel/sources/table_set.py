"""The columns of several files of one table, and where the files differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from sentinel.sources.table_file import TableFile

_NAMED_FILES = 3


@dataclass(frozen=True)
class TableColumns:
    """What several files have.

    Attributes:
        types: Every column of any file, with its type in the first file that has it; text where
            files disagree about a type that is no number.
        files: The files that have columns: all but empty ones.
        warnings: Empty files, columns that only some files have, types that differ.
    """

    types: Mapping[str, pa.DataType]
    files: tuple[TableFile, ...]
    warnings: tuple[str, ...]


def columns_of(files: Sequence[TableFile]) -> TableColumns:
    """The columns of all files together, in the order in which they appear.

    Raises:
        ConfigurationError: A file cannot be read as what it should be.
    """
    warnings = list(dict.fromkeys(note for file in files for note in file.notes))
    schemas = {file: file.schema() for file in files}
    full = tuple(file for file, schema in schemas.items() if len(schema))
    types: dict[str, pa.DataType] = {}
    having: dict[str, list[TableFile]] = {}
    for file in full:
        for item in schemas[file]:
            before = types.setdefault(item.name, item.type)
            having.setdefault(item.name, []).append(file)
            if before != item.type:
                types[item.name] = _common(before, item.type)
    for name, those in having.items():
        if len(those) < len(full):
            there = set(those)
            missing = [file.name for file in full if file not in there]
            few = those if len(those) <= len(missing) else None
            warnings.append(
                f"the column {name!r} is only in {_named([f.name for f in few])}; elsewhere it "
                "is not given"
                if few is not None
                else f"the column {name!r} is missing in {_named(missing)}; it is not given there"
            )
        kinds = {
            str(schemas[file].field(name).type): file.name
            for file in reversed(those)
            if not pa.types.is_null(schemas[file].field(name).type)
        }
        if len(kinds) > 1:
            each = ", ".join(f"{kind} in {file}" for kind, file in reversed(kinds.items()))
            warnings.append(f"the column {name!r} has several types: {each}")
    for file in full:
        for column in file.layout.null_values_by_column:
            if column not in types:
                text = f"files.null_values_by_column: there is no column {column!r}"
                if text not in warnings:
                    warnings.append(text)
    return TableColumns(types, full, tuple(warnings))


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    def numeric(kind: pa.DataType) -> bool:
        return bool(
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        )

    if pa.types.is_null(one) or pa.types.is_null(other):
        return other if pa.types.is_null(one) else one
    if numeric(one) and numeric(other):
        return pa.float64()
    if pa.types.is_temporal(one) and pa.types.is_temporal(other):
        return one
    return pa.string()


def _named(files: Sequence[str]) -> str:
    some = ", ".join(files[:_NAMED_FILES])
    more = len(files) - _NAMED_FILES
    return f"{some} and {more} more files" if more > 0 else some
