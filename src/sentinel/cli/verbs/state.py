"""`sentinel state`: what scorers share in Redis; `sentinel void`: what is taken out of state."""

from __future__ import annotations

from typing import Annotated

import typer

from sentinel.cli.console import out, plain_errors, settings_for
from sentinel.cli.options import Workspace


def drop_old_records(
    unused_minutes: Annotated[
        int, typer.Option(min=1, help="Only what no scorer has asked for in so many minutes.")
    ] = 60,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing.")] = False,
    workspace: Workspace = None,
) -> None:
    """Delete shared records of older versions and of plans that serve no more."""
    from sentinel.pipeline.old_records import drop_old_records as run

    with plain_errors():
        found = run(settings_for(workspace), unused_seconds=60 * unused_minutes, dry_run=dry_run)
        for states, said in (
            (found.dropped, "Would drop" if dry_run else "Dropped"),
            (found.in_use, "Kept, in use:"),
        ):
            for state in states:
                out.print(
                    f"{said} {state.keys:,} keys of plan {state.plan_hash} in format "
                    f"{state.value_format}, asked for {state.unused_seconds:,} s ago.",
                    markup=False,
                    soft_wrap=True,
                )
        if not (found.dropped or found.in_use):
            out.print("Redis holds no records but those that serve.")


def load_functions(workspace: Workspace = None) -> None:
    """Put this version's functions into Redis, where scorers may not do it themselves.

    The user of state.redis_url needs the commands FUNCTION LOAD and INFO. What other versions put
    there stays, so that their scorers go on.
    """
    from sentinel.pipeline.redis_functions import load_functions as run

    with plain_errors():
        out.print(f"Redis has the functions {run(settings_for(workspace))}.", markup=False)


def void(
    transaction_ids: Annotated[
        list[str], typer.Argument(metavar="TRANSACTION_ID...", help="Payments on record.")
    ],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the decisions later.")],
    workspace: Workspace = None,
) -> None:
    """Take payments out of features, labels and training, from now on.

    For what should never have got in, such as a payment with an event time far ahead. The decisions
    stay readable and say that they are void; their ids are not used again.
    """
    from sentinel.cli.voids import void as run

    with plain_errors():
        run(settings_for(workspace), transaction_ids, reason)
