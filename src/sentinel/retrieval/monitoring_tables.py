"""Figures of Feast's monitoring in the offline store: Parquet by kind, granularity and month.

    <offline>/monitoring/<kind>/
        daily-2026-03.parquet       rows of that granularity whose metric_date is in that month
        baseline-2026-03.parquet
        jobs.parquet                the kind "job" has one file

A file is replaced as a whole. In a folder, a lock keeps two processes from losing each other's
rows; in a bucket the last one to write a file wins, and another run computes the figures again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from sentinel.retrieval.view_table import files_at
from sentinel.settings import Settings

Row = dict[str, Any]

MOST_JOBS: Final = 1_000
"""Rows of the kind "job" that are kept, the newest."""
_JOBS: Final = "jobs.parquet"
_LOCK_SECONDS: Final = 60.0
_TYPES: Final = {
    **dict.fromkeys(("metric_date",), pa.date32()),
    **dict.fromkeys(
        ("computed_at", "max_event_timestamp", "started_at", "completed_at"),
        pa.timestamp("us", tz="UTC"),
    ),
    **dict.fromkeys(("is_baseline",), pa.bool_()),
    **dict.fromkeys(
        (
            *("row_count", "null_count", "total_row_count", "total_features"),
            *("features_with_nulls", "total_feature_views"),
        ),
        pa.int64(),
    ),
    **dict.fromkeys(
        (
            *("null_rate", "mean", "stddev", "min_val", "max_val", "p50", "p75", "p90", "p95"),
            *("p99", "avg_null_rate", "max_null_rate"),
        ),
        pa.float64(),
    ),
}
"""Columns that are no texts."""


class MonitoringTable:
    """The rows of one kind.

    Args:
        root: Folder or ``s3://`` address of the offline store.
        kind: "feature", "feature_view", "feature_service" or "job".
        columns: Its columns.
        key: Columns that a row is known by; a newer row replaces one with the same.
        settings: For the S3 server.
    """

    def __init__(
        self, root: str, kind: str, columns: Sequence[str], key: Sequence[str], settings: Settings
    ) -> None:
        self.location = f"{root.rstrip('/')}/monitoring/{kind}"
        self._files = files_at(self.location, settings)
        self._key = tuple(key)
        self._is_jobs = kind == "job"
        self._schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in columns])

    def save(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows, in the place of those with the same key."""
        by_file: dict[str, list[Row]] = {}
        for row in rows:
            stored = self._stored(row)
            by_file.setdefault(self._file_of(stored), []).append(stored)
        with self._alone():
            for name, new in by_file.items():
                kept = {self._key_of(row): row for row in [*self._read(name), *new]}
                self._write(name, list(kept.values()))

    def rows(
        self,
        filters: Mapping[str, Any],
        first: date | None = None,
        last: date | None = None,
    ) -> list[Row]:
        """Rows by rising date.

        Args:
            filters: Column -> value that it has.
            first, last: Least and greatest ``metric_date``; None where it is open.
        """
        found = [
            row
            for name in self._names(filters.get("granularity"), first, last)
            for row in self._read(name)
            if all(row.get(column) == value for column, value in filters.items())
            and (first is None or row["metric_date"] >= first)
            and (last is None or row["metric_date"] <= last)
        ]
        found.sort(key=lambda row: row["metric_date"] or date.min)
        return found

    def end_baseline(self, filters: Mapping[str, Any]) -> None:
        """Have rows that were the baseline be it no longer."""
        with self._alone():
            for name in self._names(None, None, None):
                rows, changed = self._read(name), False
                for row in rows:
                    if row["is_baseline"] and all(row.get(c) == v for c, v in filters.items()):
                        row["is_baseline"], changed = False, True
                if changed:
                    self._write(name, rows)

    def _names(self, granularity: str | None, first: date | None, last: date | None) -> list[str]:
        """The files that may hold such rows."""
        if self._is_jobs:
            return [_JOBS]
        low = "" if first is None else f"{first:%Y-%m}"
        high = "9" if last is None else f"{last:%Y-%m}"
        names = []
        for name in sorted(self._files.names()):
            stem, _, suffix = name.rpartition(".")
            kind, _, month = stem.partition("-")
            if suffix == "parquet" and low <= month <= high and granularity in (None, kind):
                names.append(name)
        return names

    def _file_of(self, row: Row) -> str:
        if self._is_jobs:
            return _JOBS
        return f"{row['granularity']}-{row['metric_date']:%Y-%m}.parquet"

    def _key_of(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self._key)

    def _stored(self, row: Mapping[str, Any]) -> Row:
        """A row as the file has it: text columns hold texts, whatever Feast puts there."""
        stored = {name: row.get(name) for name in self._schema.names}
        for field in self._schema:
            value = stored[field.name]
            if field.type == pa.string() and value is not None and not isinstance(value, str):
                stored[field.name] = json.dumps(value)
        return stored

    def _read(self, name: str) -> list[Row]:
        content = self._files.read(name)
        if content is None:
            return []
        rows: list[Row] = pq.read_table(pa.BufferReader(content)).to_pylist()
        return rows

    def _write(self, name: str, rows: list[Row]) -> None:
        output = pa.BufferOutputStream()
        kept = rows[-MOST_JOBS:] if self._is_jobs else rows
        table = pa.Table.from_pylist(kept, schema=self._schema)
        pq.write_table(table, output, compression="zstd")
        self._files.write(name, output.getvalue().to_pybytes())

    def _alone(self) -> AbstractContextManager[object]:
        if self.location.startswith("s3://"):
            return contextlib.nullcontext()
        return _locked(Path(self.location))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout=_LOCK_SECONDS):
        yield
