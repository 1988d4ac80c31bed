"""Small tables, and the log that comes out of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.log.schema import KIND_LABEL, KIND_TRANSACTION
from sentinel.sources import Chunk, Description, ImportReport, Source, log_batches
from sentinel.sources.base import LABEL_CHUNK_SCHEMA, transaction_schema

NOW_US = 1_800_000_000_000_000
DAY_US = 86_400_000_000


class TableSource(Source):
    """Rows given in the test: dicts with the columns of a chunk."""

    name = "table"

    def __init__(
        self,
        rows: Sequence[dict[str, Any]] = (),
        labels: Sequence[dict[str, Any]] = (),
        *,
        delay_us: int | None = None,
    ) -> None:
        self._rows, self._labels = rows, labels
        self.attributes = {}
        self.label_delay_us = delay_us

    def describe(self) -> Description:
        return Description(self.name, (), (), "as the test says")

    def row_count(self) -> int | None:
        return len(self._rows)

    def raw_batches(self, chunk_rows: int = 50_000) -> Iterable[Chunk]:  # type: ignore[override]
        schema = transaction_schema(self.attributes)
        for kind, rows, form in (
            (KIND_TRANSACTION, self._rows, schema),
            (KIND_LABEL, self._labels, LABEL_CHUNK_SCHEMA),
        ):
            for start in range(0, len(rows), chunk_rows):
                part = [{**dict.fromkeys(form.names), **row} for row in rows[start:][:chunk_rows]]
                numbers = np.arange(start + 1, start + 1 + len(part))
                batch = pa.RecordBatch.from_pylist(part, form)
                yield Chunk("table", numbers, batch, kind=kind)


def payment(transaction_id: str | None, time_us: int | None, **columns: Any) -> dict[str, Any]:
    """A row that is fine unless told otherwise."""
    row = {"transaction_id": transaction_id, "event_time_us": time_us, "amount_minor": 100}
    return row | columns


def log_of(source: Source, **options: Any) -> tuple[list[dict[str, Any]], ImportReport]:
    """All entries of a source's log, and the report."""
    log = log_batches(source, **({"now_us": NOW_US} | options))
    entries = [row for batch in log for row in batch.to_pylist()]
    return entries, log.report


def rejects(path: Path) -> list[dict[str, Any]]:
    """The rows of a rejects file."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
