"""`sentinel experiment`: which versions score beside the champion, and on which payments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sentinel.cli.console import (
    err,
    out,
    plain_errors,
    settings_for,
    settings_with_versions,
    system_user,
)
from sentinel.cli.options import Workspace, said

if TYPE_CHECKING:
    from sentinel.experiments.lineup import Experiment

Name = Annotated[
    str, typer.Argument(help="Names it in the log, and draws its cards: another name draws others.")
]
Why = Annotated[str, typer.Option(help="Why, for those who read the history.", callback=said)]
By = Annotated[str, typer.Option(help="Who does it; default: the user of the system.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def start(
    name: Name,
    version: Annotated[str, typer.Option(help="Of the registry.")],
    why: Why,
    share: Annotated[
        float | None,
        typer.Option(help="A challenger: share of the cards that it decides on, up to 0.95."),
    ] = None,
    canary: Annotated[
        bool,
        typer.Option(
            "--canary", help="Begin with a hundredth for an hour, then grow up to the share."
        ),
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Score payments, and never decide.")
    ] = False,
    sample: Annotated[
        float, typer.Option(help="A shadow: share of the cards whose payments it scores.")
    ] = 1.0,
    condition: Annotated[
        str,
        typer.Option(
            help="A segment model: decides where this holds, such as 'attributes.channel == "
            '"online" and amount_minor > 50000\'.'
        ),
    ] = "",
    by: By = "",
    workspace: Workspace = None,
) -> None:
    """Have a version score beside the champion: as challenger, shadow or segment model.

    A model that is to decide passes the gate first.
    """
    with plain_errors():
        wanted = _wanted(name, version, share, canary, shadow, sample, condition)
        settings = settings_with_versions(workspace, version)
        from sentinel.cli.line_up_reports import line_up_report
        from sentinel.cli.reports import gate_report
        from sentinel.pipeline.experiments import start as run
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            made = run(settings, wanted, by=by or system_user(), why=why, progress=progress)
        if made.gate is not None:
            gate_report(out, made.gate)
        out.print(f"Experiment {name} runs from now on.", markup=False)
        line_up_report(out, made.line_up)


def list_(as_json: AsJson = False, workspace: Workspace = None) -> None:
    """Which experiments run."""
    import msgspec

    from sentinel.cli.line_up_reports import line_up_report
    from sentinel.pipeline.experiments import line_up_of

    with plain_errors():
        line_up = line_up_of(settings_for(workspace))
        if as_json:
            out.print_json(msgspec.json.encode(line_up).decode())
        else:
            line_up_report(out, line_up)


def stop(name: Name, why: Why, by: By = "", workspace: Workspace = None) -> None:
    """Stop an experiment: the champion decides on its payments within a second."""
    from sentinel.pipeline.experiments import stop as run

    with plain_errors():
        _, found = run(settings_for(workspace), name, by=by or system_user(), why=why)
        out.print(f"Experiment {name} with version {found.version} is stopped.", markup=False)


def share(
    name: Name,
    share: Annotated[float, typer.Argument(help="Share of the cards from now on.")],
    why: Why,
    by: By = "",
    workspace: Workspace = None,
) -> None:
    """Change the share of a challenger, or the sample of a shadow, while it runs.

    A share that grows keeps the cards that it had.
    """
    from sentinel.cli.line_up_reports import line_up_report
    from sentinel.pipeline.experiments import share as run

    with plain_errors():
        settings = settings_for(workspace)
        line_up_report(out, run(settings, name, share, by=by or system_user(), why=why))


def history(
    most: Annotated[
        int, typer.Option(help="So many versions, the latest ones.", min=1, max=100_000)
    ] = 20,
    as_json: AsJson = False,
    workspace: Workspace = None,
) -> None:
    """Versions of the line-up, newest first: what ran, who changed it and why."""
    import msgspec

    from sentinel.cli.line_up_reports import history_report
    from sentinel.pipeline.experiments import history as run

    with plain_errors():
        found = run(settings_for(workspace), most)
        if as_json:
            out.print_json(msgspec.json.encode(found).decode())
        else:
            history_report(out, found)


def _wanted(
    name: str,
    version: str,
    share: float | None,
    canary: bool,
    shadow: bool,
    sample: float,
    condition: str,
) -> Experiment:
    """The experiment that options describe.

    Raises:
        ConfigurationError: They describe none, or two.
    """
    from sentinel.domain import ConfigurationError
    from sentinel.experiments.lineup import Canary, Experiment

    if (share is not None) + shadow + bool(condition) != 1:
        raise ConfigurationError(
            "Say which role it has: --share 0.1 for a challenger, --shadow for a shadow, or "
            "--condition for a segment model."
        )
    wanted = Experiment(
        name=name,
        kind="shadow" if shadow else "segment" if condition else "challenger",
        version=version,
        share=share or 0.0,
        sample=sample,
        condition=condition,
        canary=Canary() if canary else None,
    )
    wanted.check()
    return wanted
