"""The verb of online learning."""

from __future__ import annotations

from typing import Annotated

import typer

from sentinel.cli.console import err, out, plain_errors, settings_with_versions
from sentinel.cli.options import Workspace


def learn(
    base: Annotated[
        str | None,
        typer.Option(
            help="Version whose trees are refitted, where the learners begin; default: the "
            "champion."
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Forget what was learnt and begin anew.")
    ] = False,
    days: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many days; default: at the end.")
    ] = None,
    shadow: Annotated[
        bool,
        typer.Option(
            "--shadow", help="Register the refitted trees and have them score as a shadow."
        ),
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Bring the online learners up to the last whole day, and say how they did.

    Each payment is scored before its truth is known, and learnt from once training could. An
    interrupted run goes on where it was.
    """
    with plain_errors():
        settings = settings_with_versions(workspace, base)
        from sentinel.cli.online_report import online_report
        from sentinel.pipeline.online_learning import learn as run
        from sentinel.pipeline.online_shadow import publish
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            learnt = run(settings, base=base, restart=restart, most_days=days, progress=progress)
        online_report(out, learnt)
        if shadow or settings.online.shadow:
            with progress_bar(err) as progress:
                said = publish(settings, learnt, progress=progress)
            out.print(said, soft_wrap=True, markup=False)
