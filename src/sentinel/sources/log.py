"""From a source to the log: checked, labelled, in order, batch by batch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from sentinel.domain import ConfigurationError
from sentinel.schema import KIND_LABEL, KIND_TRANSACTION
from sentinel.sources.base import (
    DEFAULT_CHUNK_ROWS,
    Chunk,
    Finding,
    Source,
    canonical_rows,
    check_attribute_names,
    transaction_schema,
)
from sentinel.sources.progress import ProgressCallback, no_progress
from sentinel.sources.rejects import RejectsFile
from sentinel.sources.report import ImportReport
from sentinel.sources.staging import Ordinals, Stage, with_label_ids
from sentinel.sources.validate import (
    CardJudges,
    Checked,
    KnownIds,
    check_labels,
    check_transactions,
)

MAX_BATCH_ROWS: Final = 100_000

_LATE_REASONS: Final = {
    "duplicate_id": "the id stands in an earlier row of this import",
    "missing_time": (
        "the label has no arrival time, and its transaction is not in this import; "
        "give the labels an arrival column, or import them with their transactions"
    ),
}


class LogBatches(Iterator[pa.RecordBatch]):
    """The log of a source as batches (see ``sentinel.schema``), and the report of the import.

    The source is read when the first batch is taken. ``report`` is complete after the last.
    Close it, or use it in a ``with`` block, if you may stop early.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], report: ImportReport) -> None:
        self._batches = batches
        self.report = report

    def __next__(self) -> pa.RecordBatch:
        return next(self._batches)

    def __enter__(self) -> LogBatches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete temporary files."""
        closing = getattr(self._batches, "close", None)
        if closing is not None:
            closing()


def log_batches(
    source: Source,
    *,
    now_us: int,
    rejects_path: Path | None = None,
    known: KnownIds | None = None,
    known_labels: KnownIds | None = None,
    progress: ProgressCallback = no_progress,
    chunk_rows: int = DEFAULT_CHUNK_ROWS,
    batch_rows: int = MAX_BATCH_ROWS,
    scale: int | None = None,
    work_folder: Path | None = None,
    memory_limit_bytes: int = 1_000_000_000,
) -> LogBatches:
    """Read a source, check every row, and give out the log in order.

    Entries are ordered by time of receipt (the event time where a source has no other; labels:
    their arrival), transactions before labels at the same time, and then as in the source.
    Labels that arrive after ``now_us`` are left out and counted. Memory does not grow with the
    source: rows are staged on disk and sorted there.

    Args:
        source: Where transactions come from.
        now_us: The clock, microseconds UTC.
        rejects_path: File for rejected rows, ``.parquet`` or ``.csv``.
        known: Which transaction ids the ledger has already; those are rejected as duplicates.
        known_labels: The same for label ids.
        progress: Told of the stages "read", "sort" and "log".
        chunk_rows: Rows to read at a time.
        batch_rows: Most rows of a log batch.
        scale: The deployment's money scale; None = take whatever the source has.
        work_folder: Where to stage; None = the system's temporary folder.
        memory_limit_bytes: What sorting may use in memory.

    Returns:
        The batches, with the report.

    Raises:
        ConfigurationError: The source's money scale is not the deployment's, its attributes
            clash, or (while reading) its files are not what they should be.
        Unavailable: While reading: the disk is full.

    >>> from sentinel.sources import open_source
    >>> source = open_source("simulator", customers=50, days=2, start="2024-03-01")
    >>> log = log_batches(source, now_us=1_800_000_000_000_000)
    >>> entries = sum(batch.num_rows for batch in log)
    >>> log.report.accepted + sum(log.report.rejected.values()) == log.report.read
    True
    >>> entries == log.report.accepted + log.report.labels_accepted
    True
    """
    if scale is not None and source.scale != scale:
        raise ConfigurationError(
            f"{source.name} has amounts with {source.scale} decimals, the deployment has {scale}; "
            f"set SENTINEL_MONEY__SCALE={source.scale} (in a workspace of its own)."
        )
    check_attribute_names(list(source.attributes))
    if not 1 <= batch_rows <= MAX_BATCH_ROWS or chunk_rows < 1:
        raise ConfigurationError(
            f"batch_rows must be 1 to {MAX_BATCH_ROWS:,} and chunk_rows at least 1."
        )
    report = ImportReport(source.name)
    run = _Import(source, now_us, known, known_labels, progress, chunk_rows, report)
    return LogBatches(
        run.batches(rejects_path, batch_rows, work_folder, memory_limit_bytes), report
    )


class _Import:
    def __init__(
        self,
        source: Source,
        now_us: int,
        known: KnownIds | None,
        known_labels: KnownIds | None,
        progress: ProgressCallback,
        chunk_rows: int,
        report: ImportReport,
    ) -> None:
        self._source = source
        self._now_us = now_us
        self._known = known
        self._known_labels = known_labels
        self._progress = progress
        self._chunk_rows = chunk_rows
        self._report = report

    def batches(
        self,
        rejects_path: Path | None,
        batch_rows: int,
        work_folder: Path | None,
        memory_limit_bytes: int,
    ) -> Iterator[pa.RecordBatch]:
        report = self._report
        if work_folder is not None:
            work_folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            folder = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix="sentinel-import-", dir=work_folder)
                )
            )
            schema = transaction_schema(self._source.attributes)
            stage = Stage(folder, schema, memory_limit_bytes)
            stack.callback(stage.close)
            with RejectsFile(rejects_path) as rejects:
                self._read(stage, rejects)
                self._progress("sort", 0, None)
                late = stage.seal(self._source.label_delay_us)
                self._reject_late(late, rejects)
                if rejects.rows:
                    report.rejects_path = rejects_path
            entries = stage.summarise(report, self._now_us)
            report.check()
            self._progress("sort", entries, entries)
            self._progress("log", 0, entries)
            for batch in stage.in_order(self._now_us, batch_rows):
                report.logged += batch.num_rows
                yield batch
                self._progress("log", report.logged, entries)
            if report.logged != entries:
                raise AssertionError(f"{entries} entries were staged, {report.logged} given out")

    def _chunks(self) -> Iterator[tuple[Chunk, Ordinals]]:
        """Chunks with the place of each row among all rows of its kind."""
        seen = {KIND_TRANSACTION: 0, KIND_LABEL: 0}
        for chunk in self._source.raw_batches(self._chunk_rows):
            start = seen[chunk.kind]
            seen[chunk.kind] += chunk.rows.num_rows
            if chunk.kind == KIND_LABEL:
                rows = chunk.rows
                columns = with_label_ids({name: rows.column(name) for name in rows.schema.names})
                rows = canonical_rows(columns, rows.schema, rows.num_rows)
                chunk = replace(chunk, rows=rows, raw=chunk.raw or chunk.rows)
            yield chunk, np.arange(start, seen[chunk.kind], dtype=np.int64)

    def _read(self, stage: Stage, rejects: RejectsFile) -> None:
        source, report = self._source, self._report
        cards = CardJudges(source.no_cards)
        total = source.row_count()
        self._progress("read", 0, total)
        for chunk, ordinals in self._chunks():
            if chunk.kind == KIND_LABEL:
                checked = check_labels(
                    chunk, known=self._known_labels, delay_us=source.label_delay_us, cards=cards
                )
                report.labels_read += len(ordinals)
                _count(report.labels_rejected, checked.counts())
                keep = checked.accepted
                stage.add_labels(
                    chunk.rows.filter(pa.array(keep)), ordinals[keep], source.label_origin
                )
            else:
                checked = check_transactions(
                    chunk,
                    now_us=self._now_us,
                    known=self._known,
                    label_delay_us=source.label_delay_us,
                    cards=cards,
                )
                report.read += len(ordinals)
                _count(report.rejected, checked.counts())
                keep = checked.accepted
                report.accepted += int(keep.sum())
                stage.add_transactions(
                    chunk.rows.filter(pa.array(keep)),
                    ordinals[keep],
                    source.label_delay_us,
                    source.label_origin,
                )
            rejects.write(checked)
            self._progress("read", report.read, total)

    def _reject_late(
        self, late: tuple[dict[str, Ordinals], dict[str, Ordinals]], rejects: RejectsFile
    ) -> None:
        """Reject what showed only after all rows were read; the source is read once more."""
        transactions, labels = late
        report = self._report
        for found, counts in ((transactions, report.rejected), (labels, report.labels_rejected)):
            _count(counts, {code: len(rows) for code, rows in found.items() if len(rows)})
        report.accepted -= sum(len(rows) for rows in transactions.values())
        if not any(len(rows) for found in late for rows in found.values()):
            return
        for chunk, ordinals in self._chunks():
            first = np.full(len(ordinals), -1, np.int64)
            findings: list[Finding] = []
            for code, rows in (labels if chunk.kind == KIND_LABEL else transactions).items():
                mask = np.isin(ordinals, rows)
                first[mask] = len(findings)
                findings.append(Finding(code, mask, _LATE_REASONS[code]))
            rejects.write(Checked(chunk, tuple(findings), first))


def _count(counts: dict[str, int], more: dict[str, int]) -> None:
    for code, count in more.items():
        counts[code] = counts.get(code, 0) + count
