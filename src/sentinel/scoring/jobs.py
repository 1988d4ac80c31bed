"""Jobs in processes of their own, beside the payments: what needs the interpreter for long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import Final

from sentinel.domain import Unavailable
from sentinel.settings import Settings
from sentinel.telemetry.context import handed_on

MOST_ANSWER_BYTES: Final = 4_000_000
"""Of a job; one that says more has failed."""


async def run_job(module: str, request: bytes, settings: Settings, seconds: float) -> bytes:
    """Run a module of this package with a request on its standard input.

    The process ends with this call: a caller that is cancelled ends it.

    Args:
        module: What ``python -m`` runs.
        request: For its standard input.
        settings: The deployment.
        seconds: How long it may take.

    Returns:
        What it wrote to its standard output.

    Raises:
        TimeoutError: It took longer, and was ended.
        Unavailable: It failed.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            **handed_on(),
            "SENTINEL_WORKSPACE": str(settings.workspace.resolve()),
        },
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(request), seconds)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode or len(said) > MOST_ANSWER_BYTES:
        raise Unavailable(
            f"the job {module} ended with status {process.returncode} and {len(said):,} bytes; the "
            "log of this process says why."
        )
    return said
