"""The monitor's samples of parity: few served rows, recomputed from the log and held against it.

`verify_sample` folds the whole log, so each sample is a process of its own, whose memory is given
back, and pauses grow with what a sample takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Final

import msgspec

from sentinel.domain import Unavailable
from sentinel.monitoring.figures import Figures
from sentinel.monitoring.table import MEASURED
from sentinel.pipeline.watches import MonitorContext
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.context import handed_on
from sentinel.telemetry.log_setup import set_up_as_child

SAMPLE_ROWS: Final = 200
"""Of each kind of what is served."""
FIRST_SECONDS: Final = 600.0
"""From the start to the first sample, and at least from one that failed to the next."""
SAMPLE_SECONDS: Final = 300.0
"""A sample that takes longer is ended; well below `watches.STUCK_SECONDS`."""
MOST_SHARE: Final = 0.02
"""Of one processor's time, at most, for samples."""
_ROWS: Final = tuple(row for row in MEASURED if row.name.startswith("sentinel_parity"))


class Sampled(msgspec.Struct, frozen=True):
    """What a sample found: rows and values that were compared, and values that differ."""

    rows: int
    values: int
    mismatches: int


class ParityWatch:
    """Draws samples.

    Args:
        settings: The deployment.
        figures: What it says.
        stop: Ends a sample that is under way.
        first_seconds: From now to the first sample.
    """

    name = "parity"

    def __init__(
        self,
        settings: Settings,
        figures: Figures,
        stop: threading.Event,
        first_seconds: float = FIRST_SECONDS,
    ) -> None:
        self.every_seconds = first_seconds
        self._settings = settings
        self._figures = figures
        self._stop = stop
        self._next_at = time.monotonic() + first_seconds
        self._problem = ""
        self._usual_seconds = settings.monitor.parity_hours * 3600

    def run(self, now_us: int) -> None:
        """Draw a sample if one is due. While the last one failed, the watch has failed."""
        if not self._settings.plan_path.exists():
            return
        if time.monotonic() < self._next_at:
            if self._problem:
                raise Unavailable(self._problem)
            return
        began = time.monotonic()
        usual = FIRST_SECONDS
        try:
            sampled = self._sample()
            self._problem, usual = "", self._usual_seconds
        except Exception as error:
            self._problem = str(error) or type(error).__name__
            raise
        finally:  # one that failed is as costly as another
            took = time.monotonic() - began
            self.every_seconds = max(usual, took / MOST_SHARE)
            self._next_at = time.monotonic() + self.every_seconds
        if sampled is not None:
            self._figures.add(
                {
                    "sentinel_parity_samples": sampled.rows,
                    "sentinel_parity_values": sampled.values,
                    "sentinel_parity_mismatches": sampled.mismatches,
                }
            )
            self._figures.set({"sentinel_parity_time_seconds": now_us / 1e6})

    def _sample(self) -> Sampled | None:
        """What a sample says; None if the process is to end."""
        given = {
            "SENTINEL_WORKSPACE": str(self._settings.workspace.resolve()),
            "SENTINEL_FEATURE_STORE": str(self._settings.definitions_dir.resolve()),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sentinel.pipeline.parity_watch"],
            stdout=subprocess.PIPE,
            env={**os.environ, **handed_on(), **given},
        )
        assert process.stdout is not None
        until = time.monotonic() + SAMPLE_SECONDS
        try:
            while True:
                try:
                    said, _ = process.communicate(timeout=0.5)
                    break
                except subprocess.TimeoutExpired:
                    if self._stop.is_set():
                        return None
                    if time.monotonic() > until:
                        raise Unavailable(
                            f"A sample of served rows took longer than {SAMPLE_SECONDS:,.0f} s and "
                            "was ended. `sentinel features verify --sample "
                            f"{SAMPLE_ROWS}` has no such bound, and `sentinel doctor` says "
                            "whether what serves answers."
                        ) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.stdout.close()
        if process.returncode:
            raise Unavailable(
                f"A sample of served rows could not be recomputed: the process ended with status "
                f"{process.returncode}; its log says why. `sentinel features verify --sample "
                f"{SAMPLE_ROWS}` does the same."
            )
        return msgspec.json.decode(said.splitlines()[-1], type=Sampled)


def watch_parity(context: MonitorContext) -> ParityWatch | None:
    """The watch of a deployment; None if it wants no samples."""
    if not context.settings.monitor.parity_hours:
        return None
    return ParityWatch(context.settings, Figures(_ROWS, context.registry), context.stop)


def main() -> None:
    """Draw one sample and write what it found as a line of JSON."""
    from sentinel.pipeline.verify_sample import verify_sample  # Feast, which the monitor is spared

    set_up_as_child("parity")
    found = verify_sample(load_settings(), SAMPLE_ROWS)
    said = msgspec.json.encode(Sampled(found.rows, found.values, found.mismatches))
    sys.stdout.write(said.decode() + "\n")


if __name__ == "__main__":
    main()
