"""`sentinel models`: versions of the registry, what each is for, and where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]


def list_(
    most: Annotated[
        int, typer.Option(help="So many versions, the newest.", min=1, max=100_000)
    ] = 20,
    as_json: AsJson = False,
    workspace: Workspace = None,
) -> None:
    """Versions of the registry: their roles, who vouches for them, what they replaced."""
    import msgspec

    from sentinel.cli.registry_reports import versions_report
    from sentinel.pipeline.registered import registry_of

    with plain_errors():
        view, away = registry_of(settings_for(workspace))
        _say_away(away)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(view.versions[:most])).decode())
        else:
            versions_report(out, view, view.versions[:most])


def show(
    version: Annotated[str, typer.Argument(help="Version.")],
    as_json: AsJson = False,
    workspace: Workspace = None,
) -> None:
    """One version: its roles, its gate, and the data, plan, code and parent it comes from."""
    import msgspec

    from sentinel.cli.registry_reports import version_report
    from sentinel.pipeline.registered import lineage_in, registry_of, require_version

    with plain_errors():
        settings = settings_for(workspace)
        view, away = registry_of(settings)
        _say_away(away)
        known = require_version(view, version)
        lineage = lineage_in(settings, known)
        if as_json:
            said = {**msgspec.to_builtins(known), "lineage": msgspec.to_builtins(lineage)}
            typer.echo(msgspec.json.format(msgspec.json.encode(said)).decode())
        else:
            version_report(out, known, lineage)


def approve(
    version: Annotated[str, typer.Argument(help="Version; the gate let it through.")],
    why: Annotated[str, typer.Option(help="Why; it is signed with it.", callback=said)],
    key: Annotated[
        Path | None,
        typer.Option(help="File with your private key; default: the key of these settings."),
    ] = None,
    by: Annotated[str, typer.Option(help="Who approves; default: the user of the system.")] = "",
    workspace: Workspace = None,
) -> None:
    """Approve a version as champion with a second key; a promotion that awaits it goes on.

    Whoever asked for the promotion, and the key that signed the version, cannot.
    """
    with plain_errors():
        settings = settings_with_versions(workspace, version)
        from sentinel.cli.reports import promotion_report
        from sentinel.models.signing_keys import key_in, signing_key_of
        from sentinel.pipeline.approved_promotion import approve_and_promote
        from sentinel.sources.progress import progress_bar

        own = signing_key_of(settings) if key is None else key_in(key)
        with progress_bar(err) as progress:
            promoted = approve_and_promote(
                settings, version, own, by=by or system_user(), why=why, progress=progress
            )
        out.print(f"Version {version} is approved.", markup=False, highlight=False)
        if promoted is not None:
            promotion_report(out, promoted)


def retire(
    version: Annotated[str, typer.Argument(help="Version.")],
    why: Annotated[str, typer.Option(help="Why; the registry keeps it.", callback=said)],
    by: Annotated[str, typer.Option(help="Who does it; default: the user of the system.")] = "",
    workspace: Workspace = None,
) -> None:
    """Take a version out of use for good: no promotion, experiment or rollback takes it.

    What serves or is in the line-up cannot be retired. Decisions that it made stay explained.
    """
    with plain_errors():
        settings = settings_with_versions(workspace, version)
        from sentinel.pipeline.retirement import retire as run

        run(settings, version, by=by or system_user(), why=why)
        out.print(f"Version {version} is retired.", markup=False, highlight=False)


def _say_away(away: str) -> None:
    if away:
        err.print(f"As it was seen last: {away}", soft_wrap=True, markup=False)
