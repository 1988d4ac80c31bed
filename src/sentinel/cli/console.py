"""What every command shares: the console, its settings and how an error looks."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from sentinel.domain import SentinelError
from sentinel.ingest.masked_log import log_with_masks
from sentinel.settings import Settings

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def settings_for(workspace: Path | None = None) -> Settings:
    """The settings of this run, with the workspace that the command line names."""
    try:
        if workspace is None:
            return Settings()
        return Settings(workspace=workspace)
    except ValidationError as error:
        lines = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        fail(f"The settings are not valid. {lines}. See docs/settings.md.")
        raise AssertionError("unreachable") from None


def log_to_stderr() -> None:
    """Have what processes say of themselves written to stderr, with times."""
    log_with_masks()
    logging.getLogger("httpx").setLevel(logging.WARNING)


def fail(message: str, code: int = 1) -> None:
    """Print one clear message and end."""
    err.print(f"[bold red]sentinel:[/] {message}", markup=True, soft_wrap=True)
    raise SystemExit(code)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Show errors raised on purpose as one message, without a traceback."""
    try:
        yield
    except SentinelError as error:
        if os.environ.get("SENTINEL_DEBUG"):
            raise
        err.print("[bold red]sentinel:[/]", end=" ")
        err.print(str(error), markup=False, soft_wrap=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)
    except OSError as error:
        if error.errno != 28:
            raise
        err.print("[bold red]sentinel:[/]", end=" ")
        err.print(
            "The disk is full. Free some space and run the command again; it goes on where it was.",
            soft_wrap=True,
        )
        raise SystemExit(1) from None
