"""A scorer whose clock another process sets, so that it decides weeks of payments in seconds.

`python -m benchmarks.alerts_clock` serves as `sentinel serve` does; the file that
`BENCHMARK_CLOCK` names holds the time, microseconds UTC.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import numpy as np

from sentinel.cli.main import app
from sentinel.scoring import writer
from sentinel.scoring.clock import ReceiptClock
from testkit.scratch import Server

VARIABLE = "BENCHMARK_CLOCK"


class SetClock:
    """The time as a file holds it.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(8))
        self._time = np.memmap(path, "<i8", "r+", shape=(1,))

    def __call__(self) -> int:
        """The time, microseconds UTC."""
        return int(self._time[0])

    def set(self, at_us: int) -> None:
        """Make it this time, for whoever reads the file."""
        self._time[0] = at_us


class ClockedServer(Server):
    """A scorer with the clock of a file."""

    def start(self, seconds: float = 300.0) -> None:
        """See `Server.start`."""
        self._command = [sys.executable, "-m", "benchmarks.alerts_clock"]
        super().start(seconds)


def main() -> None:
    told = SetClock(Path(os.environ[VARIABLE]))
    vars(writer)["ReceiptClock"] = partial(ReceiptClock, wall=told, steady=told)
    app(["serve"])


if __name__ == "__main__":
    main()
