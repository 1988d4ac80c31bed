"""`sentinel alerts`: what fires, who is on it, and whether anybody would be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from sentinel.cli.console import out, plain_errors, settings_for, system_user
from sentinel.cli.options import Workspace, said

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def list_(as_json: AsJson = False, workspace: Workspace = None) -> None:
    """Alerts that fire, are pending or were resolved in the last week, and who is on them."""
    from sentinel.cli.alert_reports import alerts_report
    from sentinel.pipeline.raised_alerts import raised

    with plain_errors():
        settings = settings_for(workspace)
        found = raised(settings)
        if as_json:
            typer.echo(msgspec.json.encode(found))
        else:
            alerts_report(out, found)


def acknowledge(
    name: Annotated[str, typer.Argument(help="Name of an alert that fires.")],
    why: Annotated[
        str, typer.Option(help="What you do about it, for the others who look.", callback=said)
    ],
    by: Annotated[str, typer.Option(help="Who does it; default: the user of the system.")] = "",
    hours: Annotated[
        float, typer.Option(help="It is told again after so long, if it still fires.", min=0.1)
    ] = 8.0,
    workspace: Workspace = None,
) -> None:
    """Say that you are on an alert: it is not told again until it is resolved."""
    from sentinel.cli.alert_reports import acknowledged_line
    from sentinel.pipeline.raised_alerts import acknowledge as run

    with plain_errors():
        settings = settings_for(workspace)
        made = run(settings, name, by=by or system_user(), why=why, hours=hours)
        out.print(acknowledged_line(made), soft_wrap=True, markup=False)


def try_(workspace: Workspace = None) -> None:
    """Send one mail (and post to the webhook, if one is set) and say what happened."""
    from sentinel.pipeline.raised_alerts import try_channels

    with plain_errors():
        tried = try_channels(settings_for(workspace))
        for one in tried:
            sign = "sent" if one.well else "not sent"
            out.print(f"{one.channel}: {sign}: {one.said}", soft_wrap=True, markup=False)
        if not all(one.well for one in tried):
            raise SystemExit(1)


def digest(
    week: Annotated[
        bool, typer.Option("--week/--day", help="The last whole week, or the last whole day.")
    ] = False,
    show: Annotated[
        Path | None, typer.Option(help="Write it to this HTML file instead of sending it.")
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Send the digest of a day or a week now, or look at it; the monitor sends them by itself."""
    from sentinel.pipeline.digest import as_file, digest, send_digest

    with plain_errors():
        settings = settings_for(workspace)
        letter = digest(settings, "week" if week else "day")
        if show is not None:
            show.write_text(as_file(letter), encoding="utf-8")
            out.print(f"Wrote {show}.", markup=False, soft_wrap=True)
        else:
            out.print(f"Sent: {send_digest(settings, letter)}.", markup=False, soft_wrap=True)
