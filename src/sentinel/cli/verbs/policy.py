"""`sentinel policy`: what is done with a payment, by which costs, and who changed it why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel.cli.console import out, plain_errors, settings_for, system_user
from sentinel.cli.options import Workspace, said

if TYPE_CHECKING:
    from sentinel.policy.versions import Terms

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
File = Annotated[
    Path | None,
    typer.Argument(help="TOML file with costs and what may be explored; see docs/policy.md."),
]


def show(as_json: AsJson = False, workspace: Workspace = None) -> None:
    """The policy that holds: costs, lines, control group, and who made it why."""
    from sentinel.cli.policy_reports import version_report
    from sentinel.pipeline.policies import history

    with plain_errors():
        settings = settings_for(workspace)
        found = history(settings, most=1)
        if as_json:
            _print(found[0] if found else None)
        else:
            version_report(out, found[0] if found else None, settings.money)


def preview(
    file: File = None,
    version: Annotated[
        int | None, typer.Option(help="An older version instead of a file.", min=1, max=100_000)
    ] = None,
    days: Annotated[
        float,
        typer.Option(
            help="How far back to look for payments whose truth is known.", min=1, max=36_525
        ),
    ] = 120.0,
    as_json: AsJson = False,
    workspace: Workspace = None,
) -> None:
    """What a policy would do to the payments of the last weeks; changes nothing.

    Without a file or a version it is the policy that holds.
    """
    from sentinel.cli.policy_reports import preview_report
    from sentinel.pipeline.policies import preview as run

    with plain_errors():
        settings = settings_for(workspace)
        terms = _terms(settings, file, version)
        found = run(settings, terms, days=days)
        if as_json:
            _print(found)
        else:
            preview_report(out, found, settings.money)


def apply(
    why: Annotated[str, typer.Option(help="Why, for those who read the history.", callback=said)],
    file: File = None,
    version: Annotated[
        int | None,
        typer.Option(
            help="Go back to the costs of this version instead of a file.", min=1, max=100_000
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Who does it; default: the user of the system.")] = "",
    workspace: Workspace = None,
) -> None:
    """Make a policy the one that holds: in every scorer within a second, without retraining."""
    from sentinel.cli.policy_reports import workings_report
    from sentinel.domain import ConfigurationError
    from sentinel.pipeline.policies import apply as run

    with plain_errors():
        settings = settings_for(workspace)
        if file is None and version is None:
            raise ConfigurationError("Name a file with the policy, or --version N to go back.")
        terms = None if file is None else _terms(settings, file, version)
        made, workings = run(settings, terms, by=by or system_user(), why=why, version=version)
        out.print(f"Version {made.version} of the policy holds from now on.", markup=False)
        workings_report(out, workings, settings.money, allowed=made.terms.exploring is not None)


def refresh(as_json: AsJson = False, workspace: Workspace = None) -> None:
    """Work out the price of reviews and the share of the control group for the next day.

    Run it once a day. Without a policy it changes nothing, and says what cannot be known.
    """
    from sentinel.cli.policy_reports import workings_report
    from sentinel.pipeline.policies import refresh as run

    with plain_errors():
        settings = settings_for(workspace)
        found = run(settings)
        if as_json:
            _print(found)
            return
        if found.version is None:
            out.print("Nobody has set a policy; the lines of the model hold.", markup=False)
        elif found.changed:
            out.print(f"Made version {found.version.version} of the policy.", markup=False)
        else:
            out.print(f"Version {found.version.version} of the policy stays.", markup=False)
        allowed = found.version is not None and found.version.terms.exploring is not None
        workings_report(out, found.workings, settings.money, allowed=allowed)


def history(
    most: Annotated[
        int, typer.Option(help="So many versions, the latest ones.", min=1, max=100_000)
    ] = 20,
    as_json: AsJson = False,
    workspace: Workspace = None,
) -> None:
    """Versions of the policy, newest first: who made each, when and why."""
    from sentinel.cli.policy_reports import history_report
    from sentinel.pipeline.policies import history as run

    with plain_errors():
        settings = settings_for(workspace)
        found = run(settings, most)
        if as_json:
            _print(found)
        else:
            history_report(out, found, settings.money)


def _terms(settings: Any, file: Path | None, version: int | None) -> Terms:
    """The terms of a file, of an older version, or those that hold."""
    from sentinel.documents.store import restored
    from sentinel.domain import ConfigurationError
    from sentinel.policy.store import open_policies
    from sentinel.policy.terms_file import read_terms
    from sentinel.policy.versions import Terms

    if file is not None and version is not None:
        raise ConfigurationError("A file and a version are two policies. Name one of them.")
    if file is not None:
        try:
            return read_terms(file.read_text(encoding="utf-8-sig"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file} cannot be read: {error}.") from None
    store = open_policies(settings)
    try:
        if version is not None:
            return restored(store, version).terms
        present = store.read()
        return Terms() if present is None else present.terms
    finally:
        store.close()


def _print(value: object) -> None:
    import msgspec

    out.print_json(msgspec.json.encode(value).decode())
