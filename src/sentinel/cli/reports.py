"""Results of jobs, for people."""

from __future__ import annotations

import datetime as dt
from itertools import islice

from rich.console import Console
from rich.table import Table

from sentinel.pipeline.gate import GateReport
from sentinel.pipeline.importing import ImportResult
from sentinel.pipeline.promotion import Promoted
from sentinel.pipeline.training import Trained
from sentinel.sources.base import Source

_PREVIEW_ROWS = 5


def import_report(console: Console, result: ImportResult) -> None:
    """What was read, accepted and rejected, and where the rejects are."""
    report = result.report
    rejected = sum(report.rejected.values())
    console.print(
        f"Transactions: {report.read:,} read = {report.accepted:,} accepted + "
        f"{rejected:,} rejected; {report.fraud_share:.2%} known fraud."
    )
    if report.labels_read:
        refused = sum(report.labels_rejected.values())
        console.print(
            f"Labels: {report.labels_read:,} read = {report.labels_accepted:,} accepted + "
            f"{refused:,} rejected + {report.labels_not_arrived:,} not arrived yet."
        )
    if report.first_event_us is not None and report.last_event_us is not None:
        console.print(f"From {_day(report.first_event_us)} to {_day(report.last_event_us)}.")
    for code, count in sorted({**report.rejected, **report.labels_rejected}.items()):
        console.print(f"  {count:,} x {code}")
    if report.rejects_path is not None:
        console.print(f"Rejected rows with their reasons: {report.rejects_path}", soft_wrap=True)
    if result.clamped:
        console.print(
            f"{result.clamped:,} entries were received before the end of the log; the log takes "
            "them as received now."
        )


def source_preview(console: Console, source: Source) -> None:
    """What a source understood of its data, and its first rows as Sentinel will see them."""
    description = source.describe()
    table = Table(title=f"Source {description.source}", title_justify="left")
    for heading in ("column", "type", "becomes", "note"):
        table.add_column(heading)
    for use in description.columns:
        table.add_row(use.column, use.type, use.becomes or "[dim]not used[/]", use.note)
    console.print(table)
    console.print(f"Labels: {description.labels}")
    for note in (*description.files, *description.notes):
        console.print(note, markup=False, soft_wrap=True)
    for warning in description.warnings:
        console.print(f"Warning: {warning}", style="yellow", markup=False, soft_wrap=True)
    for chunk in islice(source.raw_batches(_PREVIEW_ROWS), 1):
        for row in chunk.rows.slice(0, _PREVIEW_ROWS).to_pylist():
            shown = {name: value for name, value in row.items() if value is not None}
            console.print(shown, soft_wrap=True)


def training_report(console: Console, trained: Trained) -> None:
    """A candidate's metrics with their intervals, beside the baselines."""
    columns = {trained.manifest.kind: trained.metrics, **trained.baselines}
    table = Table(
        title=f"Candidate version {trained.version}, with 95 % intervals", title_justify="left"
    )
    table.add_column("metric")
    for model in columns:
        table.add_column(model, justify="right")
    for name in dict.fromkeys(name for metrics in columns.values() for name in metrics):
        cells = [str(metrics[name]) if name in metrics else "" for metrics in columns.values()]
        table.add_row(name, *cells)
    console.print(table)
    console.print(f"Tracked at {trained.run_url}", soft_wrap=True)


def gate_report(console: Console, report: GateReport) -> None:
    """A candidate beside the champion."""
    console.print(f"{'Passes' if report.passed else 'Refused'}: {report}", soft_wrap=True)


def promotion_report(console: Console, promoted: Promoted) -> None:
    """Who is in charge now."""
    if promoted.gate is not None:
        gate_report(console, promoted.gate)
    before = f" in place of {promoted.replaced}" if promoted.replaced else ""
    console.print(
        f"Version {promoted.version} is the champion{before}; {promoted.scored:,} historic "
        f"transactions have an answer ({promoted.seconds:.1f} s)."
    )


def _day(time_us: int) -> str:
    return dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).date().isoformat()
