"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Workspace = Annotated[
    Path | None, typer.Option("--workspace", help="Folder of ledger, state and models.")
]
AllowRejects = Annotated[
    float,
    typer.Option(
        help="Largest share of rejected rows, 0 to 1; if more are, nothing is imported.",
        min=0.0,
        max=1.0,
    ),
]
