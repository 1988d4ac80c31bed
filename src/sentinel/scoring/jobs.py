"""Jobs in processes of their own, beside the payments: what needs the interpreter for long."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sentinel.domain import Unavailable
from sentinel.settings import Settings
from sentinel.telemetry.context import handed_on

MOST_ANSWER_BYTES: Final = 4_000_000
"""Of a job; one that says more has failed."""


async def run_job(
    module: str,
    request: bytes,
    settings: Settings,
    seconds: float,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run a module of this package with a request on its standard input.

    The process ends with this call: a caller that is cancelled ends it.

    Args:
        module: What ``python -m`` runs.
        request: For its standard input.
        settings: The deployment.
        seconds: How long it may take.
        environment: Further variables.

    Returns:
        What it wrote to its standard output.

    Raises:
        TimeoutError: It took longer, and was ended.
        Unavailable: It failed.
        OSError: It could not be begun.
    """
    job = _Job(
        [sys.executable, "-m", module],
        {
            **os.environ,
            **handed_on(),
            "SENTINEL_WORKSPACE": str(settings.workspace.resolve()),
            **(environment or {}),
        },
    )
    # asyncio's own processes never end for a caller that is cancelled while one of them begins.
    thread = ThreadPoolExecutor(1, "job")
    running = asyncio.get_running_loop().run_in_executor(thread, job.run, request, seconds)
    try:
        status, said = await asyncio.shield(running)
    except asyncio.CancelledError:
        job.end()
        await asyncio.wait({running})
        raise
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        thread.shutdown(wait=False)
    if status or len(said) > MOST_ANSWER_BYTES:
        raise Unavailable(
            f"the job {module} ended with status {status} and {len(said):,} bytes; the "
            "log of this process says why."
        )
    return said


class _Job:
    """A process that a thread begins and waits for, and that any thread may end."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def run(self, request: bytes, seconds: float) -> tuple[int, bytes]:
        """Its exit status, and what it said.

        Raises:
            subprocess.TimeoutExpired: It took longer, and was ended.
            OSError: It could not be begun.
        """
        with self._lock:
            if self._ended:
                return -1, b""
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environment,
            )
        with process:
            try:
                said, _ = process.communicate(request, seconds)
            finally:
                if process.poll() is None:
                    process.kill()
        return process.returncode, said

    def end(self) -> None:
        """End it, begun or not."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
