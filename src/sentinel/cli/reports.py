"""Results of jobs, for people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from sentinel.pipeline.gate import GateReport
from sentinel.pipeline.importing import ImportResult
from sentinel.pipeline.materialize import MaterializeReport
from sentinel.pipeline.promotion import Promoted
from sentinel.pipeline.training import Trained


def import_report(console: Console, result: ImportResult) -> None:
    """What was read, accepted and rejected, and where the rejects are."""
    console.print(result.report.render())
    if result.clamped:
        console.print(
            f"{result.clamped:,} entries were received before the end of the log; the log takes "
            "them as received now."
        )


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


def materialize_report(console: Console, report: MaterializeReport) -> None:
    """Rows written, view by view."""
    table = Table(title=f"Materialized ({report.mode})", title_justify="left")
    for name in ("view", "mode", "rows written", "from", "to", "seconds"):
        table.add_column(name, justify="right" if name in ("rows written", "seconds") else "left")
    for view in report.views:
        since = _moment(view.from_us) if view.from_us else "the beginning"
        until = _moment(view.to_us)
        rows = f"{view.rows:,}"
        table.add_row(view.view, view.mode, rows, since, until, f"{view.seconds:.1f}")
    console.print(table)
    console.print(
        f"{report.rows:,} rows through log entry {report.sequence:,} in {report.seconds:.1f} s."
    )


def _moment(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return f"{moment:%Y-%m-%d %H:%M:%S}"
