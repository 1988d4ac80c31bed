"""Options that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def said(text: str) -> str:
    """A reason that somebody gives: kept for good, so that it has to say something.

    Raises:
        typer.BadParameter: It is blank, or no text.

    >>> said("finance asked for it")
    'finance asked for it'
    """
    if not text.strip():
        raise typer.BadParameter("it is blank. Say why, for those who read it later.")
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a terminal with another encoding
        raise typer.BadParameter("it is no text in UTF-8. Write it in UTF-8.") from None
    return text


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
