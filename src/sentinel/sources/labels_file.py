"""Labels that come in files of their own: chargebacks, analysts' verdicts, corrections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError, Verdict
from sentinel.schema import KIND_LABEL
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
from sentinel.sources.columns import category_column, id_column, joined_id, mask_of
from sentinel.sources.mapping_file import (
    LabelColumns,
    LabelValue,
    TimeColumn,
    check_label_columns,
    several,
    suggestion,
)
from sentinel.sources.readers import RowNumbers, TableFile, columns_of, find_files, malformed_chunk
from sentinel.sources.times import time_column

_DEFAULT_COLUMNS: Final = LabelColumns(column="verdict", arrival=TimeColumn(column="received_at"))


class LabelsFileSource(Source):
    """A source of labels without transactions.

    Args:
        files: The files.
        columns: Which column is what.
        name: Of the source.

    Raises:
        ConfigurationError: A column is missing, or it is not said when labels arrive.
    """

    def __init__(
        self, files: Sequence[TableFile], columns: LabelColumns, name: str = "labels"
    ) -> None:
        check_label_columns(msgspec.structs.replace(columns, path="given"), name)
        self.name = name
        self.attributes = {}
        found = columns_of(files)
        self._files = found.files
        self._warnings = found.warnings
        self._columns = columns
        self.label_origin = columns.origin
        self.label_delay_us = (
            None if columns.delay_days is None else round(columns.delay_days * DAY_US)
        )
        self._types = {name: str(kind) for name, kind in found.types.items()}
        self._label_id = columns.label_id or ("label_id" if "label_id" in self._types else None)
        self._used = [name for name in self._becomes() if name]
        require_columns(self._used, self._types, files[0].name)

    def _becomes(self) -> dict[str, str]:
        columns = self._columns
        becomes = dict.fromkeys(several(columns.transaction_id), "transaction_id")
        if self._label_id:
            becomes[self._label_id] = "label_id"
        if columns.column:
            becomes[columns.column] = "verdict"
        if columns.arrival:
            becomes[columns.arrival.columns[0]] = "received_at_us"
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
                broken = malformed_chunk(file, block, LABEL_CHUNK_SCHEMA)
                if broken is not None:
                    yield Chunk(
                        broken.origin,
                        broken.row_numbers,
                        broken.rows,
                        broken.raw,
                        broken.findings,
                        KIND_LABEL,
                    )
                yield self._chunk(file, block.rows, block.row_numbers)

    def _chunk(self, file: TableFile, rows: pa.RecordBatch, numbers: RowNumbers) -> Chunk:
        columns = self._columns
        found: list[Finding] = []
        ids = [rows.column(name) for name in several(columns.transaction_id)]
        out = {"transaction_id": joined_id(ids)}
        if self._label_id:
            out["label_id"] = id_column(rows.column(self._label_id))
        if columns.column is None:
            out["verdict"] = pa.array([Verdict.FRAUD.value] * rows.num_rows, pa.string())
        else:
            out["verdict"], findings = verdict_column(
                rows.column(columns.column),
                fraud=columns.fraud_values,
                legitimate=columns.legitimate_values,
            )
            found += findings
        if columns.arrival is not None:
            out["received_at_us"], findings = time_column(
                rows.column(columns.arrival.columns[0]),
                what="arrival time",
                layout=str(columns.arrival.format),
                unit=columns.arrival.unit or "s",
                timezone=columns.arrival.timezone,
            )
            found += findings
        canonical = canonical_rows(out, LABEL_CHUNK_SCHEMA, rows.num_rows)
        return Chunk(file.name, numbers, canonical, rows, tuple(found), KIND_LABEL)


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
    if columns.format == "json_map":
        raise ConfigurationError("labels.format json_map is declared, but not active yet.")
    files = find_files(Path(path), columns.format, columns.layout())
    return LabelsFileSource(files, columns, name)


def verdict_column(
    column: pa.Array | pa.ChunkedArray,
    *,
    fraud: Sequence[LabelValue],
    legitimate: Sequence[LabelValue],
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """Verdicts of a column, and the rows that say something else.

    >>> verdicts, findings = verdict_column(pa.array([1.0, 0.0, None, 7.0]),
    ...                                     fraud=[1], legitimate=[0])
    >>> verdicts.to_pylist()
    ['fraud', 'legitimate', None, None]
    >>> findings[0].reason_of(3)
    "the verdict '7' is none of fraud: 1; legitimate: 0"
    """
    words = pc.utf8_lower(category_column(column))
    bad = pc.is_in(words, pa.array(_words(fraud)))
    good = pc.is_in(words, pa.array(_words(legitimate)))
    nothing = pa.scalar(None, pa.string())
    verdicts = pc.if_else(
        bad, Verdict.FRAUD.value, pc.if_else(good, Verdict.LEGITIMATE.value, nothing)
    )
    unknown = mask_of(pc.and_(pc.is_valid(words), pc.is_null(verdicts)))
    if not unknown.any():
        return verdicts, ()
    allowed = f"fraud: {', '.join(_words(fraud))}; legitimate: {', '.join(_words(legitimate))}"
    reasons: list[str | None] = [None] * len(words)
    for row in np.flatnonzero(unknown).tolist():
        reasons[row] = f"the verdict {words[row].as_py()!r} is none of {allowed}"
    return verdicts, (Finding("invalid_verdict", unknown, reasons),)


def _words(values: Sequence[LabelValue]) -> list[str]:
    return [str(value).lower().removesuffix(".0") for value in values]


def require_columns(
    wanted: Sequence[str], there: Sequence[str] | dict[str, str], file: str
) -> None:
    """Raise ``ConfigurationError`` that names every missing column and the closest there is."""
    missing = [name for name in wanted if name not in there]
    if missing:
        each = ", ".join(f"{name!r}{suggestion(name, there)}" for name in missing)
        raise ConfigurationError(
            f"{file} has no column {each}. Its columns: {', '.join(list(there)[:60])}."
        )


def describe_labels(columns: LabelColumns | None) -> str:
    """Where labels come from and when they arrive, in a sentence."""
    if columns is None:
        return "none"
    what = f"column {columns.column!r}" if columns.column else "every row is a fraud"
    where = f"{columns.path}: {what}" if columns.path else what
    times = []
    if columns.arrival is not None:
        times.append(f"arriving at {columns.arrival.column!r}")
    if columns.delay_days is not None:
        times.append(f"known {columns.delay_days:g} days after the transaction")
    return f"{where}, {', else '.join(times)}"
