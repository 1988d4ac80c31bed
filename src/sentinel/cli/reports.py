"""Results of jobs, for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from sentinel.pipeline.gate import GateReport
from sentinel.pipeline.importing import ImportResult
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
