"""The file of rejected rows: nothing that was read disappears without a reason."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from sentinel.domain import ConfigurationError
from sentinel.ingest.cards import masked
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources.validate import NO_REJECTS, Checked

REJECTS_SCHEMA: Final = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("transaction_id", pa.string()),
        pa.field("code", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("raw", pa.string()),
    ]
)

_BATCH_ROWS: Final = 2_000


class RejectsFile:
    """Writes rejected rows to a ``.parquet`` or ``.csv`` file.

    Its columns: ``source`` (file), ``row`` (from 1, without header), ``transaction_id``,
    ``code``, ``reason`` and ``raw`` (the row as it was read, as JSON). Raw card numbers are
    masked, here too. The file is there only if something was rejected; one of an earlier import
    is replaced.

    Args:
        path: Where to write; None = nowhere.

    Raises:
        ConfigurationError: The name ends in neither ``.parquet`` nor ``.csv``.
    """

    def __init__(self, path: Path | None) -> None:
        if path is not None and path.suffix not in (".parquet", ".csv"):
            raise ConfigurationError(
                f"The rejects file {path} must end in .parquet or .csv; name it rejects.parquet."
            )
        self.path = path
        self.rows = 0
        self._writer: Any = None
        if path is not None:
            path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write(self, checked: Checked) -> None:
        """Write the rows of a chunk that have a finding."""
        counted_apart = [i for i, f in enumerate(checked.findings) if f.code in NO_REJECTS]
        rejected = np.flatnonzero(~checked.accepted & ~np.isin(checked.first, counted_apart))
        self.rows += len(rejected)
        if self.path is None:
            return
        for start in range(0, len(rejected), _BATCH_ROWS):
            self._write_rows(checked, rejected[start : start + _BATCH_ROWS])

    def _write_rows(self, checked: Checked, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        chunk, take = checked.chunk, pa.array(rows)
        raw = chunk.raw if chunk.raw is not None else chunk.rows
        records = zip(
            *(raw.column(i).take(take).to_pylist() for i in range(raw.num_columns)), strict=True
        )
        names = [name.removeprefix(ATTRIBUTE_PREFIX) for name in raw.schema.names]
        ids = chunk.rows.column("transaction_id").take(take).to_pylist()
        found = [checked.findings[index] for index in checked.first[rows].tolist()]
        pairs = list(zip(found, rows.tolist(), strict=True))
        table = pa.RecordBatch.from_arrays(
            [
                pa.array([chunk.origin] * len(rows), pa.string()),
                pa.array(chunk.row_numbers[rows], pa.int64()),
                pa.array([masked(item) if item else None for item in ids], pa.string()),
                pa.array([finding.code for finding, _ in pairs], pa.string()),
                pa.array([masked(finding.reason_of(row)) for finding, row in pairs], pa.string()),
                pa.array([_as_json(names, record) for record in records], pa.string()),
            ],
            schema=REJECTS_SCHEMA,
        )
        if self._writer is None:
            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.suffix == ".csv":
                self._writer = pacsv.CSVWriter(self.path, REJECTS_SCHEMA)
            else:
                self._writer = pq.ParquetWriter(self.path, REJECTS_SCHEMA)
        self._writer.write_batch(table)


def _as_json(names: list[str], record: tuple[Any, ...]) -> str:
    row = {name: _plain(value) for name, value in zip(names, record, strict=True)}
    return json.dumps(row, ensure_ascii=False)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    hidden = masked(text)
    if hidden != text or not isinstance(value, int | float):
        return hidden
    return value if value == value and abs(value) != float("inf") else text
