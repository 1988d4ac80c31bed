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
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError
from sentinel.ingest.cards import masked
from sentinel.ingest.guard import Guard
from sentinel.log.schema import KIND_LABEL, KIND_TRANSACTION
from sentinel.sources.base import (
    DEFAULT_CHUNK_ROWS,
    BoolMask,
    Chunk,
    Finding,
    Source,
    canonical_rows,
    check_attribute_names,
    transaction_schema,
)
from sentinel.sources.columns import mask_of
from sentinel.sources.door import with_tokens
from sentinel.sources.progress import ProgressCallback, no_progress
from sentinel.sources.rejects import RejectsFile
from sentinel.sources.report import ImportReport
from sentinel.sources.staging import REPEATED, Ordinals, Stage, with_label_ids
from sentinel.sources.validate import (
    KNOWN,
    NO_REJECTS,
    CardJudges,
    Checked,
    KnownIds,
    check_labels,
    check_transactions,
)
from sentinel.sources.verdicts import UNDECIDED

MAX_BATCH_ROWS: Final = 100_000

_SOME: Final = 3

_LATE_REASONS: Final = {
    "duplicate_id": (
        "the id stands in an earlier row of this import; if several rows share one id by right, "
        "make it of several columns, or of the row number: id = { row_number = true }"
    ),
    "missing_time": (
        "the label has no arrival time, and its transaction is not in this import; "
        "give the labels an arrival column, or import them with their transactions"
    ),
}


class ImportRefused(ConfigurationError):
    """Nothing was imported: the data or its mapping needs a look first.

    Attributes:
        report: What was read and rejected; None if not all was read.
    """

    def __init__(self, message: str, report: ImportReport | None) -> None:
        super().__init__(message)
        self.report = report


class LogBatches(Iterator[pa.RecordBatch]):
    """The log of a source as batches (see ``sentinel.log.schema``), and the report of the import.

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
    allow_rejects: float = 1.0,
    known: KnownIds | None = None,
    known_labels: KnownIds | None = None,
    progress: ProgressCallback = no_progress,
    chunk_rows: int = DEFAULT_CHUNK_ROWS,
    batch_rows: int = MAX_BATCH_ROWS,
    scale: int | None = None,
    guard: Guard | None = None,
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
        allow_rejects: Largest share of rejected rows, 0 to 1.
        known: Which transaction ids the ledger has already; those are counted apart. New labels
            on their rows are taken.
        known_labels: The same for label ids.
        progress: Told of the stages "read", "sort" and "log".
        chunk_rows: Rows to read at a time.
        batch_rows: Most rows of a log batch.
        scale: The deployment's money scale; None = take whatever the source has.
        guard: What the deployment does with ids; None only if the source tokenises nothing.
        work_folder: Where to stage; None = the system's temporary folder.
        memory_limit_bytes: What sorting may use in memory.

    Returns:
        The batches, with the report.

    Raises:
        ConfigurationError: The source's money scale is not the deployment's, its attributes
            clash, or (while reading) its files are not what they should be.
        ImportRefused: While reading: too much was rejected, or amounts are of several
            currencies; nothing was given out.
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
    guard = guard or Guard()
    missing = [field for field in source.token_fields if field not in guard.fields]
    if missing:
        raise ConfigurationError(
            f"{source.name} tokenises {', '.join(missing)}, for which there is no secret here; "
            "import it into a workspace."
        )
    if not 1 <= batch_rows <= MAX_BATCH_ROWS or chunk_rows < 1:
        raise ConfigurationError(
            f"batch_rows must be 1 to {MAX_BATCH_ROWS:,} and chunk_rows at least 1."
        )
    report = ImportReport(source.name, notes=source.describe().warnings)
    run = _Import(
        source, now_us, known, known_labels, progress, chunk_rows, report, allow_rejects, guard
    )
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
        allow_rejects: float,
        guard: Guard,
    ) -> None:
        self._source = source
        self._guard = guard
        self._allow_rejects = allow_rejects
        self._cards = CardJudges(source.no_cards | guard.exempt)
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
            stage = Stage(folder, schema, memory_limit_bytes, overlap=self._source.overlap)
            stack.callback(stage.close)
            with RejectsFile(rejects_path) as rejects:
                self._read(stage, rejects)
                report.look_alikes = self._cards.look_alikes()
                self._progress("sort", 0, None)
                late = stage.seal(self._source.label_delay_us)
                self._reject_late(late, rejects)
                if rejects.rows:
                    report.rejects_path = rejects_path
            entries = stage.summarise(report, self._now_us)
            if report.labels_read and not report.read and not self._source.labels_only:
                report.notes = (
                    "the files of payments have no rows: only labels were read",
                    *report.notes,
                )
            self._match_labels(stage)
            report.check()
            self._refuse_if_rejected()
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
            chunk = with_tokens(chunk, self._guard)
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
        total = source.row_count()
        self._progress("read", 0, total)
        for chunk, ordinals in self._chunks():
            report.observed.add(chunk.observed)
            refusal = report.observed.refusal()
            if refusal is not None:
                raise ImportRefused(f"{chunk.origin}: {refusal}. Nothing was imported.", None)
            if chunk.kind == KIND_LABEL:
                self._add_labels(stage, rejects, chunk, ordinals)
            else:
                self._add_transactions(stage, rejects, chunk, ordinals)
            self._progress("read", report.read, total)

    def _add_labels(
        self, stage: Stage, rejects: RejectsFile, chunk: Chunk, ordinals: Ordinals
    ) -> None:
        source, report = self._source, self._report
        checked = check_labels(
            chunk,
            known=self._known_labels,
            delay_us=source.label_delay_us,
            cards=self._cards,
        )
        report.labels_read += len(ordinals)
        counts = checked.counts()
        report.labels_known += counts.pop(KNOWN, 0)
        report.labels_undecided += counts.pop(UNDECIDED, 0)
        _count(report.labels_rejected, counts)
        keep = checked.accepted
        stage.add_labels(chunk.rows.filter(pa.array(keep)), ordinals[keep], source.label_origin)
        _remember_reasons(report, checked)
        rejects.write(checked)

    def _add_transactions(
        self, stage: Stage, rejects: RejectsFile, chunk: Chunk, ordinals: Ordinals
    ) -> None:
        source, report = self._source, self._report
        delay_us = source.label_delay_us
        checked = check_transactions(
            chunk,
            now_us=self._now_us,
            known=self._known,
            label_delay_us=delay_us,
            cards=self._cards,
        )
        report.read += len(ordinals)
        counts = checked.counts()
        report.known += counts.pop(KNOWN, 0)
        _count(report.rejected, counts)
        keep = checked.accepted
        report.accepted += int(keep.sum())
        _remember_reasons(report, checked)
        rejects.write(checked)
        rows = chunk.rows
        if checked.labels is not None:
            self._count_labels(checked.labels)
            rejects.write(checked.labels)
            rows = _without_verdicts(rows, ~checked.labels.accepted)
        stage.add_transactions(
            rows.filter(pa.array(keep)), ordinals[keep], delay_us, source.label_origin, chunk.origin
        )
        there = checked.with_code(KNOWN)
        if there.any():
            new = stage.add_known(
                rows.filter(pa.array(there)),
                ordinals[there],
                delay_us,
                source.label_origin,
                self._known_labels,
            )
            report.labels_known += new
            report.labels_read += new

    def _count_labels(self, checked: Checked) -> None:
        """What is wrong with labels that stand on payments."""
        report = self._report
        counts = checked.counts()
        undecided = counts.pop(UNDECIDED, 0)
        report.labels_undecided += undecided
        report.labels_read += undecided + sum(counts.values())
        _count(report.labels_rejected, counts)
        _remember_reasons(report, checked)

    def _match_labels(self, stage: Stage) -> None:
        """Count the labels that are about no payment of the import or the ledger."""
        report = self._report
        for ids in stage.unmatched(self._now_us):
            if self._known is not None:
                seen = self._known(ids)
                there = mask_of(seen) if isinstance(seen, pa.Array) else np.asarray(seen, np.bool_)
                ids = ids.filter(pa.array(~there))
            report.labels_unmatched += len(ids)
            if len(report.unmatched_ids) < _SOME:
                some = dict.fromkeys([*report.unmatched_ids, *ids[:100].to_pylist()])
                report.unmatched_ids = tuple(list(some)[:_SOME])
        if report.labels_unmatched * 10 >= report.labels_read > 0:
            report.nearly_matched = stage.nearly(report.unmatched_ids)

    def _refuse_if_rejected(self) -> None:
        report = self._report
        share = report.rejected_share
        if share <= self._allow_rejects:
            return
        report.refused_above = self._allow_rejects
        what = "rows" if report.read else "labels"
        counts = report.rejected if report.read else report.labels_rejected
        raise ImportRefused(
            f"{sum(counts.values()):,} of {report.read or report.labels_read:,} {what} were "
            f"rejected, more than {self._allow_rejects:.0%}. Nothing was imported. Mend the "
            "mapping or the data, or allow it with --allow-rejects SHARE.",
            report,
        )

    def _reject_late(
        self, late: tuple[dict[str, Ordinals], dict[str, Ordinals]], rejects: RejectsFile
    ) -> None:
        """Reject what showed only after all rows were read; the source is read once more."""
        transactions, labels = late
        report = self._report
        repeated = transactions.pop(REPEATED, np.empty(0, np.int64))
        report.repeated += len(repeated)
        report.accepted -= len(repeated)
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
            checked = Checked(chunk, tuple(findings), first)
            _remember_reasons(report, checked)
            rejects.write(checked)


def _count(counts: dict[str, int], more: dict[str, int]) -> None:
    for code, count in more.items():
        counts[code] = counts.get(code, 0) + count


def _remember_reasons(report: ImportReport, checked: Checked) -> None:
    """Keep the first reason of each code for the report."""
    for index, finding in enumerate(checked.findings):
        if finding.code in report.reasons or finding.code in NO_REJECTS:
            continue
        rows = np.flatnonzero(checked.first == index)
        if len(rows):
            row = int(rows[0])
            number = int(checked.chunk.row_numbers[row])
            reason = masked(finding.reason_of(row))
            report.reasons[finding.code] = f"{checked.chunk.origin}, row {number:,}: {reason}"


def _without_verdicts(rows: pa.RecordBatch, where: BoolMask) -> pa.RecordBatch:
    verdicts = pc.if_else(pa.array(where), pa.scalar(None, pa.string()), rows.column("verdict"))
    return rows.set_column(rows.schema.get_field_index("verdict"), "verdict", verdicts)
