"""Labels that come in files of their own: chargebacks, analysts' verdicts, corrections."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from sentinel.domain import ConfigurationError, Verdict
from sentinel.log.schema import KIND_LABEL
from sentinel.sources.base import (
    DAY_US,
    DEFAULT_CHUNK_ROWS,
    LABEL_CHUNK_SCHEMA,
    Chunk,
    ColumnUse,
    Description,
    Finding,
    Source,
    canonical_rows,
)
from sentinel.sources.columns import id_column, joined_id
from sentinel.sources.door import check_columns
from sentinel.sources.header_hint import header_hint
from sentinel.sources.json_map import ID, VERDICT, JsonMapFile
from sentinel.sources.mapping_file import (
    LabelColumns,
    Mapping,
    TimeColumn,
    check_label_columns,
    load_mapping,
    several,
    suggestion,
)
from sentinel.sources.mapping_times import read_times
from sentinel.sources.observed import Observed
from sentinel.sources.readers import RowNumbers, TableFile, columns_of, find_files, malformed_chunk
from sentinel.sources.verdicts import verdict_column

_DEFAULT_COLUMNS: Final = LabelColumns(column="verdict", arrival=TimeColumn(column="received_at"))


def plain_labels(encoding: str = "utf8") -> LabelColumns:
    """A table with the usual columns: ``transaction_id``, ``verdict``, ``received_at``.

    Args:
        encoding: Of its text, if it is text.

    Raises:
        ConfigurationError: Nobody knows the encoding.
    """
    columns = msgspec.structs.replace(_DEFAULT_COLUMNS, encoding=encoding)
    columns.layout()
    return columns


_ADVICE: Final = (
    " Say in a mapping file which column is what: labels.transaction_id, labels.column, "
    "labels.arrival."
)


class LabelsFileSource(Source):
    """A source of labels without transactions.

    Args:
        files: The files.
        columns: Which column is what.
        name: Of the source.

    Raises:
        ConfigurationError: A column is missing, or it is not said when labels arrive.
    """

    labels_only = True

    def __init__(
        self,
        files: Sequence[TableFile] | Sequence[JsonMapFile],
        columns: LabelColumns,
        name: str = "labels",
    ) -> None:
        check_label_columns(msgspec.structs.replace(columns, path="given"), name)
        self.name = name
        self.attributes = {}
        tables = [file for file in files if isinstance(file, TableFile)]
        found = columns_of(tables)
        maps = tuple(file for file in files if isinstance(file, JsonMapFile))
        self._files: tuple[TableFile | JsonMapFile, ...] = (*found.files, *maps)
        self._warnings = found.warnings
        self._columns = columns
        self.label_origin = columns.origin
        self.label_delay_us = (
            None if columns.delay_days is None else round(columns.delay_days * DAY_US)
        )
        self._types = {name: str(kind) for name, kind in found.types.items()}
        for file in maps:
            self._types |= {item.name: str(item.type) for item in file.schema()}
        self._label_id = columns.label_id or ("label_id" if "label_id" in self._types else None)
        self._used = [name for name in self._becomes() if name]
        check_columns(self._used, name)
        if self._files:  # else all are empty, which the warnings say
            shown = next(iter(found.files), None)
            require_columns(self._used, self._types, self._files[0].name, _ADVICE, shown)

    def _becomes(self) -> dict[str, str]:
        columns = self._columns
        becomes = dict.fromkeys(several(columns.transaction_id), "transaction_id")
        if self._label_id:
            becomes[self._label_id] = "label_id"
        if columns.column:
            becomes[columns.column] = "verdict"
        if columns.arrival:
            becomes |= dict.fromkeys(columns.arrival.columns, "received_at_us")
            if columns.arrival.offset_column is not None:
                becomes[columns.arrival.offset_column] = "received_at_us"
        return becomes

    def describe(self) -> Description:
        """What the columns became."""
        becomes = self._becomes()
        uses = tuple(
            ColumnUse(name, kind, becomes.get(name, ""), "" if name in becomes else "not used")
            for name, kind in self._types.items()
        )
        files = tuple(str(file.path) for file in self._files)
        return Description(
            self.name, files, uses, describe_labels(self._columns), warnings=self._warnings
        )

    def row_count(self) -> int | None:
        """There are no transactions."""
        return 0

    def raw_batches(self, chunk_rows: int = DEFAULT_CHUNK_ROWS) -> Iterator[Chunk]:
        """Label chunks in the order of the files."""
        for file in self._files:
            require_columns(self._used, file.schema().names, file.name)
            for block in file.blocks(chunk_rows, self._used):
                if isinstance(file, TableFile):
                    broken = malformed_chunk(file, block, LABEL_CHUNK_SCHEMA)
                    if broken is not None:
                        yield dataclasses.replace(broken, kind=KIND_LABEL)
                yield self._chunk(file.name, block.rows, block.row_numbers)

    def _chunk(self, file: str, rows: pa.RecordBatch, numbers: RowNumbers) -> Chunk:
        columns = self._columns
        found: list[Finding] = []
        seen: tuple[Observed, ...] = ()
        ids = [rows.column(name) for name in several(columns.transaction_id)]
        out = {"transaction_id": joined_id(ids)}
        if self._label_id:
            out["label_id"] = id_column(rows.column(self._label_id))
        if columns.column is None:
            out["verdict"] = pa.array([Verdict.FRAUD.value] * rows.num_rows, pa.string())
        else:
            out["verdict"], findings, seen = verdict_column(
                rows.column(columns.column),
                fraud=columns.fraud_values,
                legitimate=columns.legitimate_values,
                undecided=columns.undecided_values,
                name=columns.column,
            )
            found += findings
        if columns.arrival is not None:
            out["received_at_us"], findings = read_times(rows, columns.arrival, "arrival time")
            found += findings
        canonical = canonical_rows(out, LABEL_CHUNK_SCHEMA, rows.num_rows)
        return Chunk(file, numbers, canonical, rows, tuple(found), KIND_LABEL, observed=seen)


def labels_from_file(
    path: Path | str, columns: LabelColumns = _DEFAULT_COLUMNS, *, name: str = "labels"
) -> LabelsFileSource:
    """Labels of a CSV or Parquet file (or folder, or glob) as a source for ``log_batches``.

    Args:
        path: The file.
        columns: Which column is what; by default ``transaction_id``, ``verdict``,
            ``received_at`` and, if it is there, ``label_id``.
        name: Of the source.

    Raises:
        ConfigurationError: There is no file, or a column is missing.
    """
    return _opened([Path(path)], columns, name)


def labels_of_mapping(path: Path) -> LabelsFileSource:
    """The labels that a mapping file describes, without its transactions.

    Raises:
        ConfigurationError: Its labels have no files of their own.
    """
    mapping = load_mapping(path)
    labels = label_files(mapping, path.parent)
    if labels is None:
        raise ConfigurationError(
            f"{path}: its labels have no files of their own (labels.path); labels in a column of "
            "the payments come with them: import the mapping once more."
        )
    return labels


def label_files(mapping: Mapping, folder: Path) -> LabelsFileSource | None:
    """A mapping's labels in files of their own; None if there are none.

    Args:
        mapping: What is what.
        folder: Where relative paths begin.
    """
    labels = mapping.labels
    if labels is None or labels.path is None:
        return None
    paths = [folder / path for path in several(labels.path)]
    return _opened(paths, labels, f"{mapping.name} labels")


def _opened(paths: list[Path], columns: LabelColumns, name: str) -> LabelsFileSource:
    if columns.format != "json_map":
        return LabelsFileSource(find_files(paths, columns.format, columns.layout()), columns, name)
    for path in paths:
        if not path.is_file():
            raise ConfigurationError(f"There is no file {path}; check labels.path.")
    maps = [JsonMapFile(path, columns.key) for path in paths]
    columns = msgspec.structs.replace(columns, transaction_id=ID, column=VERDICT, label_id=None)
    return LabelsFileSource(maps, columns, name)


def require_columns(
    wanted: Sequence[str],
    there: Sequence[str] | dict[str, str],
    name: str,
    advice: str = "",
    file: TableFile | None = None,
) -> None:
    """Raise ``ConfigurationError`` that names every missing column and the closest there is.

    Args:
        wanted: Columns that are needed.
        there: Columns that there are.
        name: Of the file, for the message.
        advice: What to do, if the file does not tell.
        file: Where to look for the header; None = nowhere.
    """
    missing = [column for column in wanted if column not in there]
    if missing:
        each = ", ".join(f"{column!r}{suggestion(column, there)}" for column in missing)
        columns = f" Its columns: {', '.join(list(there)[:60])}." if there else ""
        hint = header_hint(file, wanted) if file is not None else ""
        raise ConfigurationError(f"{name} has no column {each}.{columns}{hint or advice}")


def describe_labels(columns: LabelColumns | None) -> str:
    """Where labels come from and when they arrive, in a sentence."""
    if columns is None:
        return "none"
    what = f"column {columns.column!r}" if columns.column else "every row is a fraud"
    where = f"{columns.path}: {what}" if columns.path else what
    times = []
    if columns.arrival is not None:
        times.append(f"arriving at {' + '.join(columns.arrival.columns)!r}")
    if columns.delay_days is not None:
        days = "day" if columns.delay_days == 1 else "days"
        times.append(f"known {columns.delay_days:g} {days} after the transaction")
    return f"{where}, {', else '.join(times)}"
