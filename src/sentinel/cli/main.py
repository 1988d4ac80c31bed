"""`sentinel`: the verbs. Each imports what it needs when it is called, so that all start fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sentinel.cli.console import out, plain_errors, settings_for

app = typer.Typer(
    name="sentinel",
    help="Self-hosted real-time fraud detection.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Workspace = Annotated[
    Path | None, typer.Option("--workspace", help="Folder of ledger, state and models.")
]


@app.callback()
def sentinel() -> None:
    """Self-hosted real-time fraud detection."""


@app.command()
def serve(workspace: Workspace = None) -> None:
    """Serve the scoring API until Ctrl-C."""
    import logging

    from sentinel.api.server import serve as run

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with plain_errors():
        run(settings_for(workspace), ready=lambda url: out.print(f"Scoring at {url}"))


def main() -> None:
    """Entry point of the `sentinel` command."""
    app()


if __name__ == "__main__":
    main()
