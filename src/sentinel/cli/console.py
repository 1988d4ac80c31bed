"""What every command shares: the console, its settings and how an error looks."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from sentinel.domain import SentinelError
from sentinel.settings import Settings
from sentinel.telemetry.context import begin_run
from sentinel.telemetry.log_setup import logs_json, set_up_logs
from sentinel.telemetry.safe_errors import shown

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def settings_for(workspace: Path | None = None, *, service: str = "") -> Settings:
    """The settings of this run; from here on the process logs as they say.

    Args:
        workspace: The one that the command line names.
        service: Name of a process that runs until it is stopped; empty for a job, of which a
            terminal is shown warnings alone.
    """
    settings = _read_settings(workspace)
    quiet = logging.NOTSET if service else logging.WARNING
    if set_up_logs(settings.logs, service or _verb(), at_least=quiet) and not service:
        begin_run()
    return settings


def _verb() -> str:
    """What was called, such as "import"."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "sentinel")


def settings_with_versions(workspace: Path | None, *versions: str | None) -> Settings:
    """The settings of a verb that looks into the registry.

    Another workspace's server of MLflow, or a version that does not exist, is said before libraries
    are loaded and the log is read.

    Args:
        workspace: What the command line names; None if it does not.
        versions: By their numbers; None for one that was not named.

    Raises:
        ConfigurationError: What answers at the workspace's own address is another one's server.
        NoModel: The registry lacks one.
    """
    from sentinel.models.registry_owner import check_own_server

    settings = settings_for(workspace)
    check_own_server(settings)
    if any(version is not None for version in versions):
        from sentinel.pipeline.registry_files import require_registered

        require_registered(settings, *versions)
    return settings


def _read_settings(workspace: Path | None) -> Settings:
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


def system_user() -> str:
    """Who calls, for the books: the system's name for the user, or a number where it has none.

    A container may run as any user, whom its system knows no name of.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def announce(text: str) -> None:
    """Say on the screen that a service is ready, or in its log where that is JSON."""
    if logs_json():
        logging.getLogger("sentinel").info("%s", text)
    else:
        out.print(text)


def _tell(error: SentinelError) -> None:
    """Say why a verb ends: to whoever sits before it all of it, to a log what a log may keep."""
    if logs_json() and not sys.stderr.isatty():
        said = shown(error)
        if said == error.code:
            said += ": the text may quote what came in; the command says it at a terminal."
        logging.getLogger("sentinel").error("%s", said, extra={"error": error.code})
        return
    err.print("[bold red]sentinel:[/]", end=" ")
    err.print(str(error), markup=False, soft_wrap=True)


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
        _tell(error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        err.print("Stopped. What was finished is kept, and the same command can be run again.")
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
