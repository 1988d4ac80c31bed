"""The verb that writes the report of drift."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.console import err, out, plain_errors, settings_for
from sentinel.cli.options import Workspace


def report(
    page: Annotated[
        Path | None,
        typer.Option("--out", help="File; default: reports/drift.html of the workspace."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=90, help="Days that are shown.")] = 28,
    evidently: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also let Evidently draw its page of the same payments (the extra `evidently`).",
        ),
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Write one page: what moved, how far, since when, and what that does to the model."""
    with plain_errors():
        settings = settings_for(workspace)
        from sentinel.pipeline.drift_report import write_drift_report
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            done = write_drift_report(
                settings, page, days=days, evidently=evidently, progress=progress
            )
        on = [one for one in done.overview.changes if one.change.ended_hour is None]
        for said in (done.overview.missing, done.without):
            if said:
                out.print(said, soft_wrap=True, markup=False)
        if done.overview.tested_until_us:
            out.print(f"Changes that are on: {len(on)}.")
        if done.estimate is not None:
            out.print(
                f"Before labels come: {done.estimate.status}. {done.estimate.why}",
                soft_wrap=True,
                markup=False,
            )
        out.print(f"Page: {done.page}", soft_wrap=True, markup=False)
        if evidently is not None:
            out.print(f"Evidently's page: {evidently}", soft_wrap=True, markup=False)
        if done.left_out:
            out.print(
                f"Not on it, for no value is known then or now: {', '.join(done.left_out)}.",
                soft_wrap=True,
                markup=False,
            )
