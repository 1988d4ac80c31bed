"""Load for `serving`: wrk as fast as it goes, our own client at a fixed rate, and CPU meters."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving_bodies import GAP_US, START_US

_SCRIPT = Path(__file__).with_name("serving_load.lua")


@dataclass(frozen=True)
class Load:
    """What a client saw.

    Attributes:
        requests: Answered.
        seconds: How long it took.
        errors: Statuses other than 2xx, broken connections, time-outs.
        p50_us, p99_us, p999_us, max_us: Latencies.
    """

    requests: int
    seconds: float
    errors: int
    p50_us: float
    p99_us: float
    p999_us: float
    max_us: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.requests / self.seconds


def wrk(
    url: str,
    templates: Path,
    *,
    prefix: str,
    first: int,
    connections: int,
    seconds: int,
    path: str = "/predict",
    batch: int = 0,
) -> Load:
    """As many requests as the server answers, on so many connections.

    Args:
        url: The server.
        templates: See `serving_bodies`.
        prefix, first: Of the ids; ``first`` is the number of the first payment.
        connections: Open at once, each with one request at a time.
        seconds: For how long.
        path: Route.
        batch: Payments in a request to the batch route; 0 for single ones.
    """
    script = [templates, path, prefix, first, batch, START_US, GAP_US]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    ended = subprocess.run(
        [*command, "-s", str(_SCRIPT), url, "--", *map(str, script)],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"wrk failed: {ended.stdout} {ended.stderr}")
    return Load(**json.loads(ended.stdout.strip().splitlines()[-1]))


def open_loop(
    port: int, templates: Path, *, prefix: str, first: int, rate: float, seconds: float
) -> Load:
    """Requests at a fixed rate, whatever the answers do; see `serving_open_loop`."""
    command = [sys.executable, "-m", "benchmarks.serving_open_loop"]
    options: dict[str, Any] = {
        "port": port,
        "templates": templates,
        "prefix": prefix,
        "first": first,
        "rate": rate,
        "seconds": seconds,
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    run = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return Load(**json.loads(run.stdout))


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time of processes and all they started, alive or reaped, in seconds."""
    total = 0.0
    for pid in roots:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # ended: its parent's time has it
                total += sum(process.cpu_times()[:4])
    return total
