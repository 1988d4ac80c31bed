"""Results of jobs, for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from sentinel import examples

if TYPE_CHECKING:  # the jobs take seconds to import, and one report is of one job
    from sentinel.models.evaluation import Figures
    from sentinel.pipeline.apply import Applied, Planned
    from sentinel.pipeline.backfill import Backfilled
    from sentinel.pipeline.dataset_folder import DatasetManifest
    from sentinel.pipeline.datasets import BuiltDataset
    from sentinel.pipeline.gate import GateReport
    from sentinel.pipeline.importing import ImportResult
    from sentinel.pipeline.materialize import MaterializeReport
    from sentinel.pipeline.promotion import Promoted
    from sentinel.pipeline.retraining_gain import RetrainingGain
    from sentinel.pipeline.training import Trained
    from sentinel.pipeline.verify_sample import SampledVerify
    from sentinel.settings import MoneySettings


def import_report(console: Console, result: ImportResult) -> None:
    """What was read, accepted and rejected, and where the rejects are."""
    console.print(result.report.render())
    if result.clamped:
        console.print(
            f"{result.clamped:,} entries were received before the end of the log; the log takes "
            "them as received now. Windows of features see them from here on; training goes by "
            "the times that their source gave.",
            soft_wrap=True,
        )


def training_report(console: Console, trained: Trained) -> None:
    """What gave way, a candidate's metrics with their intervals, and the baselines'."""
    from sentinel.models.evaluation import Figures

    manifest = trained.manifest
    own = Figures(trained.metrics, manifest.not_measured)
    rows = ""
    if (on := manifest.measured_on) is not None:
        rows = f" on {on.rows:,} payments with {on.frauds:,} known frauds that it has not seen"
    title = f"Candidate version {trained.version}{rows}, with 95 % intervals"
    for note in trained.dataset.notes:
        console.print(note, soft_wrap=True)
    console.print(_metrics_table(title, {manifest.kind: own}))
    if manifest.refit is not None:
        console.print(manifest.refit.words, soft_wrap=True)
    if trained.window is not None:
        console.print(trained.window.words, soft_wrap=True)
    if trained.baselines:
        baselines_report(console, trained.baselines)
    if manifest.provisional:
        console.print(
            f"Version {trained.version} is provisional: {manifest.provisional}. It can serve, and "
            "the next one that is trained with more labels takes its place.",
            soft_wrap=True,
        )
    console.print(trained.tracked, soft_wrap=True)


def baselines_report(console: Console, baselines: Mapping[str, Figures]) -> None:
    """The metrics of the baselines, where they come after the candidate's."""
    console.print(_metrics_table("Baselines on the same payments", baselines))


def gate_report(console: Console, report: GateReport) -> None:
    """A candidate beside the champion."""
    from sentinel.models.evaluation import Figures

    columns = {
        f"candidate {report.version}": Figures(
            report.candidate_metrics, report.candidate_not_measured
        )
    }
    if report.champion is not None and report.champion_metrics:
        columns[f"champion {report.champion}"] = Figures(
            report.champion_metrics, report.champion_not_measured
        )
    title = (
        f"On {report.rows:,} payments with {report.frauds:,} known frauds that neither was trained "
        "on, with 95 % intervals"
    )
    console.print(_metrics_table(title, columns))
    _verdict(console, report)


def _verdict(console: Console, report: GateReport) -> None:
    words = {
        "passed": "Passes",
        "provisional": "Provisional",
        "waits": "Waits",
        "refused": "Refused",
    }
    console.print(f"{words[report.verdict]}: {report}", soft_wrap=True)


def promotion_report(console: Console, promoted: Promoted) -> None:
    """Who is in charge now."""
    if promoted.gate is not None:
        _verdict(console, promoted.gate)
    before = f" in place of {promoted.replaced}" if promoted.replaced else ""
    if promoted.dry_run:
        console.print(
            f"Dry run: nothing was changed. Version {promoted.version} would become the champion"
            f"{before}, and {promoted.scored:,} historic transactions would get its answer.",
            soft_wrap=True,
        )
        return
    console.print(
        f"Version {promoted.version} is the champion{before}; {promoted.scored:,} historic "
        f"transactions have an answer ({promoted.seconds:.1f} s)."
    )
    if promoted.untold:
        console.print(f"The follower will tell the registry once it answers. {promoted.untold}")
    if promoted.unscored:
        console.print(f"The history keeps the answers it has. {promoted.unscored}")


def gain_report(console: Console, gain: RetrainingGain | None, settings: MoneySettings) -> None:
    """What the last retraining bought, in money."""
    if gain is None:
        said = "No retraining has replaced a model yet, so nobody can say what one bought."
    else:
        said = gain.words(settings.scale, settings.currency)
    console.print(said, soft_wrap=True, markup=False, highlight=False)


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


def sample_report(console: Console, result: SampledVerify) -> None:
    """What a sample of served values says."""
    table = Table(title="Served against recomputed", title_justify="left")
    for name in ("what", "rows", "values", "rows that differ", "values that differ"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for part in result.checked:
        counts = (part.rows, part.values, part.mismatched_rows, part.mismatches)
        table.add_row(part.what, *(f"{count:,}" for count in counts))
    console.print(table)
    for what, row, feature, served, recomputed in result.examples:
        console.print(
            f"{what} {row} {feature}: served {served}, recomputed {recomputed}",
            markup=False,
            soft_wrap=True,
        )
    low, high = result.interval
    console.print(
        f"{result.rows:,} rows, {result.values:,} values, {result.mismatches:,} mismatches. "
        f"Mismatch rate of rows {result.rate:.3%}, 95 % interval {low:.3%} to {high:.3%} "
        f"({result.seconds:.1f} s).",
        soft_wrap=True,
    )


def _moment(time_us: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def examples_report(console: Console) -> None:
    """The mapping files that come with the package, and what each is for."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in examples.names():
        table.add_row(name, examples.about(name))
    console.print(table)


def plan_report(console: Console, applied: Applied) -> None:
    """The plan after an apply."""
    if applied.installed is not None:
        console.print(str(applied.installed), soft_wrap=True, markup=False)
    for warning in applied.warnings:
        console.print(warning, soft_wrap=True)
    console.print(
        f"Plan {applied.plan.hash} ({'changed' if applied.changed else 'unchanged'}): "
        f"{len(applied.plan.feature_names)} features over {len(applied.plan.views)} views."
    )
    if applied.registry:
        console.print(f"Registered in {applied.registry}.", soft_wrap=True)


def plan_difference(console: Console, planned: Planned) -> None:
    """What an apply would change."""
    parts = [
        f"{verb} {', '.join(names)}"
        for verb, names in (
            ("adds", planned.added),
            ("removes", planned.removed),
            ("changes", planned.changed),
        )
        if names
    ]
    if parts:
        console.print(f"`sentinel features apply` {'; '.join(parts)}.", markup=False)


def backfill_report(console: Console, done: Backfilled) -> None:
    """How many vectors are new."""
    total = done.parts.manifest.rows
    kind = "Incremental" if done.new_rows < total else "Full"
    console.print(
        f"{kind}: {done.new_rows:,} new vectors through log entry {done.sequence:,} in "
        f"{done.seconds:.1f} s; {total:,} in all."
    )


def dataset_report(console: Console, built: BuiltDataset) -> None:
    """What a dataset holds."""
    about = built.manifest
    table = Table(title=f"Dataset {about.name[:12]}, plan {about.plan_hash}", title_justify="left")
    for heading in ("part", "from", "to"):
        table.add_column(heading)
    for heading in ("days", "payments", "known frauds", "share"):
        table.add_column(heading, justify="right")
    for name, period in (("fit", about.fit), ("tail", about.tail), ("test", about.test)):
        share = f"{100 * period.frauds / period.rows:.2f} %" if period.rows else ""
        figures = (f"{period.days:.1f}", f"{period.rows:,}", f"{period.frauds:,}", share)
        table.add_row(name, _moment(period.start_us), _moment(period.end_us), *figures)
    console.print(table)
    if about.unknown or about.outside:
        console.print(_unknown_table(about))
    if about.fit.effective_frauds is not None or about.test.effective_frauds is not None:
        console.print(_weights_table(about))
    console.print(f"Written to {built.folder}", soft_wrap=True)


def _unknown_table(about: DatasetManifest) -> Table:
    """How many payments are in no part, and why; with the parts they are all payments."""
    table = Table(title="In no part, and why", title_justify="left")
    table.add_column("why")
    table.add_column("payments", justify="right")
    missing = about.unknown | about.outside
    for why, rows in missing.items():
        table.add_row(why, f"{rows:,}")
    parts = about.fit.rows + about.tail.rows + about.test.rows
    table.add_section()
    table.add_row("in no part", f"{sum(missing.values()):,}")
    table.add_row("in no part or in one", f"{sum(missing.values()) + parts:,}")
    return table


def _weights_table(about: DatasetManifest) -> Table:
    """What payments that stand for others come to."""
    table = Table(title="Weights: what is known stands for what is not", title_justify="left")
    table.add_column("part")
    for heading in ("effective payments", "effective frauds", "clipped mass"):
        table.add_column(heading, justify="right")
    for name, period in (("fit", about.fit), ("tail", about.tail), ("test", about.test)):
        if period.effective_rows is None or period.effective_frauds is None:
            table.add_row(name, f"{period.rows:,}", f"{period.frauds:,}", "0.0 %")
            continue
        figures = (period.effective_rows, period.effective_frauds)
        cut = f"{100 * period.clipped_mass:.1f} %"
        table.add_row(name, *(f"{value:,.0f}" for value in figures), cut)
    return table


def _metrics_table(title: str, columns: Mapping[str, Figures]) -> Table:
    """Models side by side, a row for each figure; what cannot be had says why."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for model in columns:
        table.add_column(model, justify="right")
    measured = [name for given in columns.values() for name in given.metrics]
    others = [name for given in columns.values() for name in given.not_measured]
    for name in dict.fromkeys([*measured, *others]):
        cells = [
            str(given.metrics[name]) if name in given.metrics else given.not_measured.get(name, "")
            for given in columns.values()
        ]
        table.add_row(name, *cells)
    return table
