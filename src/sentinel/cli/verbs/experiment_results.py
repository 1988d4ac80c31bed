"""`sentinel experiment`: what is known of an experiment, and what follows from it."""

from __future__ import annotations

from typing import Annotated

import typer

from sentinel.cli.console import out, plain_errors, settings_for, system_user
from sentinel.cli.options import Workspace

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Name = Annotated[str, typer.Argument(help="Of the experiment.")]


def status(name: Name, as_json: AsJson = False, workspace: Workspace = None) -> None:
    """Verdict, figures and intervals of an experiment, and what is missing."""
    import msgspec

    from sentinel.cli.experiment_reports import status_report
    from sentinel.pipeline.experiment_judging import status as run

    with plain_errors():
        settings = settings_for(workspace)
        found = run(settings, name)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        else:
            status_report(out, found, settings.money)


def promote(
    name: Name,
    why: Annotated[str, typer.Option(help="Why; the line-up keeps it.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Although it was not shown to be better.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Make a challenger the champion and end its experiment."""
    from sentinel.pipeline.experiment_judging import promote_judged

    with plain_errors():
        settings = settings_for(workspace)
        promoted = promote_judged(settings, name, by=system_user(), why=why, force=force)
        out.print(
            f"Version {promoted.version} is champion, in place of {promoted.replaced}. "
            f"Experiment {name} has ended.",
            markup=False,
            highlight=False,
        )


def settle(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: AsJson = False,
    workspace: Workspace = None,
) -> None:
    """Judge all challengers; promote what is better, end what will never be. Run it daily."""
    import msgspec

    from sentinel.cli.experiment_reports import settled_report
    from sentinel.pipeline.experiment_judging import settle as run

    with plain_errors():
        settings = settings_for(workspace)
        found = run(settings, dry_run=dry_run)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        else:
            settled_report(out, found)
