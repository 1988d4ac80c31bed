"""`sentinel features`: definitions, plan, backfill, and the proof that they agree."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.console import err, out, plain_errors, settings_for
from sentinel.cli.options import Workspace


def plan(workspace: Workspace = None) -> None:
    """Print what the definitions compile to, readable and diffable, and whether it is applied."""
    from sentinel.cli.reports import plan_difference
    from sentinel.features.plan.describe import describe
    from sentinel.pipeline.apply import plan_definitions
    from sentinel.pipeline.attribute_names import strange_columns

    with plain_errors():
        settings = settings_for(workspace)
        planned = plan_definitions(settings)
        out.print(describe(planned.plan), markup=False, soft_wrap=True, end="")
        plan_difference(err, planned)
        strange = strange_columns(settings, planned.plan)
        if strange:
            err.print(strange, markup=False, soft_wrap=True)


def init(
    name: Annotated[
        str, typer.Option("--set", help="default or ieee_cis; see docs/feature-store.md.")
    ] = "default",
    into: Annotated[
        Path | None, typer.Option(help="Folder; default: the workspace's feature_store.")
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Copy a set of feature definitions to where you can edit it."""
    from sentinel.feature_sets import install

    with plain_errors():
        settings = settings_for(workspace)
        folder = into or settings.own_definitions_dir
        out.print(str(install(name, folder, settings.workspace)), soft_wrap=True, markup=False)
        if folder.resolve() != settings.definitions_dir.resolve():
            out.print(f"To use it, set SENTINEL_FEATURE_STORE={folder}.", soft_wrap=True)


def apply(
    relearn: Annotated[
        bool, typer.Option("--relearn", help="Learn all category dictionaries anew.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Compile the definitions into the workspace's plan and write them to Feast's registry."""
    from sentinel.cli.reports import plan_report
    from sentinel.pipeline.apply import apply_definitions
    from sentinel.pipeline.attribute_names import strange_columns
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        settings = settings_for(workspace)
        with progress_bar(err) as progress:
            applied = apply_definitions(settings, relearn=relearn, progress=progress)
        plan_report(out, applied)
        strange = strange_columns(settings, applied.plan)
        if strange:
            err.print(strange, markup=False, soft_wrap=True)


def backfill(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Start over.")] = False,
    workspace: Workspace = None,
) -> None:
    """Fold the log into vectors, from where the last backfill ended."""
    from sentinel.cli.reports import backfill_report
    from sentinel.pipeline.backfill import backfill as run
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            done = run(settings_for(workspace), rebuild=rebuild, progress=progress)
        backfill_report(out, done)


def materialize(
    full: Annotated[
        bool, typer.Option("--full", help="Compute and write everything again.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Bring the online store's profiles and historic transactions up to date."""
    from sentinel.cli.reports import materialize_report
    from sentinel.pipeline.materialize import materialize as run
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        with progress_bar(err) as progress:
            report = run(settings_for(workspace), full=full, progress=progress)
        materialize_report(out, report)


def verify(
    sample: Annotated[
        int | None,
        typer.Option(help="Only look at so many served rows of each kind.", min=1),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Replay the log through the online path and compare every value, bit for bit."""
    from sentinel.cli.reports import sample_report
    from sentinel.pipeline.verify import verify as run
    from sentinel.pipeline.verify_sample import verify_sample
    from sentinel.sources.progress import progress_bar

    with plain_errors():
        settings = settings_for(workspace)
        if sample is not None:
            with progress_bar(err) as progress:
                sampled = verify_sample(settings, sample, progress=progress)
            sample_report(out, sampled)
            sys.exit(1 if sampled.mismatches else 0)
        with progress_bar(err) as progress:
            result = run(settings, progress=progress)
        out.print(
            f"{result.rows:,} rows x {result.features} features replayed, "
            f"{result.mismatches:,} mismatches; {result.recorded:,} recorded decisions, "
            f"{result.recorded_mismatches:,} mismatches."
        )
        if result.newer:
            out.print(
                f"{result.newer:,} log entries after number {result.until:,} are not compared yet; "
                "`sentinel features backfill` brings them in."
            )
        wrong = result.mismatches + result.recorded_mismatches
        if settings.state.backend == "redis":
            from sentinel.features.arena import KEY_SEPARATOR
            from sentinel.pipeline.compare_shared import compare_shared
            from sentinel.pipeline.verify_shared import verify_shared
            from sentinel.scoring.served import load_plan

            plan = load_plan(settings)
            shared = verify_shared(settings, plan)
            if shared is not None:
                out.print(
                    f"{shared.decisions:,} decisions on shared state replayed by position, "
                    f"{shared.mismatches:,} mismatches in {shared.values:,} values; "
                    f"{shared.unverifiable:,} values unverifiable, {shared.degraded:,} decisions "
                    "degraded."
                )
                if shared.not_replayed:
                    out.print(
                        f"{shared.not_replayed:,} decisions were made on records of an older "
                        "format, or of an earlier load of the state, and cannot be replayed by "
                        "position any more."
                    )
                wrong += shared.mismatches
            held = compare_shared(settings, plan)
            if held is not None:
                out.print(
                    f"{held.records:,} shared records compared with the log, {held.differing:,} "
                    f"differ; {held.behind:,} entries are still to be brought in."
                )
                for view, key in held.examples:
                    out.print(f"  {view} {key.replace(KEY_SEPARATOR, ' + ')}", markup=False)
                wrong += held.differing + held.behind
        sys.exit(1 if wrong else 0)
