"""Verbs about a deployment: what it holds, how it is, and a clean slate."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sentinel.cli.console import err, out, plain_errors, settings_for
from sentinel.cli.options import Workspace


def status(workspace: Workspace = None) -> None:
    """What runs and what the workspace holds."""
    from sentinel.cli.services import show_status

    with plain_errors():
        show_status(settings_for(workspace))


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    workspace: Workspace = None,
) -> None:
    """Check every service that the settings name; exits with 1 if one is not well."""
    from sentinel.cli.services import show_findings

    with plain_errors():
        sys.exit(0 if show_findings(settings_for(workspace), as_json=as_json) else 1)


def verify(
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    workspace: Workspace = None,
) -> None:
    """The old name of `sentinel doctor`."""
    err.print("`sentinel verify` is `sentinel doctor` now; the old name will go.", markup=False)
    doctor(as_json=as_json, workspace=workspace)


def reset(
    workspace: Workspace = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Delete the ledger in PostgreSQL, too.")
    ] = False,
) -> None:
    """Delete a workspace with its ledger, models and state."""
    from sentinel.cli.services import reset_workspace

    with plain_errors():
        reset_workspace(settings_for(workspace), yes=yes, ledger=ledger)


def migrate_ledger(workspace: Workspace = None) -> None:
    """Bring the tables of a ledger in PostgreSQL, of its keys, its policy, its line-up and its
    drift, up to date; makes them where there are none. Grants the roles of scorers and of the
    monitor what they need, if the settings name them.
    """
    from sentinel.access.open_store import migrate_keys
    from sentinel.drift.tables import migrate_drift
    from sentinel.experiments.store import migrate_line_ups
    from sentinel.ledger.open import grant_to_monitor, grant_to_scorers, ledger_name
    from sentinel.ledger.open import migrate_ledger as run
    from sentinel.policy.store import migrate_policies

    with plain_errors():
        settings = settings_for(workspace)
        migrated = run(settings)
        migrate_keys(settings)
        migrate_policies(settings)
        migrate_line_ups(settings)
        migrate_drift(settings)
        granted = grant_to_scorers(settings)
        watching = grant_to_monitor(settings)
        if migrated is None:
            said = f"The ledger {ledger_name(settings)} is in SQLite: there is nothing to migrate."
        else:
            before, after = migrated
            where = f"the ledger in schema {settings.ledger.namespace} of {ledger_name(settings)}"
            if before is None:
                said = f"Made {where}, schema version {after}."
            elif before == after:
                said = f"Nothing to do: {where} has schema version {after}."
            else:
                said = f"Brought {where} from schema version {before} to {after}."
        out.print(said, markup=False, soft_wrap=True)
        if granted:
            out.print(f"Role {granted} may read it and add to it.", markup=False, soft_wrap=True)
        if watching:
            said = f"Role {watching} may read it and write the record of drift."
            out.print(said, markup=False, soft_wrap=True)
