"""From a fault to its mail and back: alerts with Prometheus, Alertmanager and SMTP, and without.

A scorer decides payments; the monitor watches it, a real Redis, and a small disk. One after the
other, the scorer is killed, Redis is stopped, the disk fills, labels stop coming, and a new model
stops every payment. For each, the
benchmark waits until the alert fires, until its mail is at the mail server, and, once the fault is
mended, until the mail that says so is there: `fired_seconds` and `mailed_seconds` from the fault,
`resolved_seconds` from its end.

`production` has a real Prometheus and Alertmanager with the deployed rules; `embedded` has the
monitor alone. Times in rules and settings are divided by `--faster`, so that the benchmark takes
minutes: with the deployed times, each waits longer by what its rule says.

Drift has a deployment of its own (`benchmarks.alerts_drift`), whose scorer's clock runs through an
hour in a fraction of a second: one field of its payments is sent as a constant, and some hours
later is sent as before.

Exit code 1 if an alert did not fire, was not mailed or was not resolved.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.alerts_drift import drifting_world
from benchmarks.alerts_world import Faults, Watched, world
from testkit.servers import wait_until

LONGEST_SECONDS: Final = 240.0
"""How long each of an alert's steps may take; then it has failed."""


def measure(
    watched: Watched, faults: Faults, console: Console
) -> dict[str, dict[str, float | None]]:
    """Cause and mend one fault after the other."""
    found = {}
    for name, (alert, cause, mend) in faults.items():
        figures: dict[str, float | None] = dict.fromkeys(
            ("fired_seconds", "mailed_seconds", "resolved_seconds")
        )
        found[name] = figures
        before = _resolutions(watched, alert)
        try:
            began = time.monotonic()
            cause()
            wait_until(partial(watched.fires, alert), LONGEST_SECONDS, alert)
            figures["fired_seconds"] = _since(began)
            wait_until(partial(_fired, watched, alert), LONGEST_SECONDS, "its mail")
            figures["mailed_seconds"] = _since(began)
        except TimeoutError as error:
            console.print(f"{name}: {error}")
        began = time.monotonic()
        mend()
        if figures["mailed_seconds"] is None:
            continue
        try:
            wait_until(
                partial(_resolved, watched, alert, before),
                LONGEST_SECONDS,
                "the mail that it is resolved",
            )
            figures["resolved_seconds"] = _since(began)
        except TimeoutError as error:
            console.print(f"{name}: {error}")
        console.print(f"{name}: {figures}")
    return found


def _fired(watched: Watched, alert: str) -> bool:
    """Whether a mail says that it fires."""
    return any("resolved" not in one for one in watched.subjects(alert))


def _resolved(watched: Watched, alert: str, before: int) -> bool:
    """Whether more mails than before say that it is resolved."""
    return _resolutions(watched, alert) > before


def _resolutions(watched: Watched, alert: str) -> int:
    return sum("resolved" in one for one in watched.subjects(alert))


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks alerts", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--faster", type=float, default=60.0, help="divides times; default: 60")
    parser.add_argument("--only", choices=["production", "embedded"], help="one of the two")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True, highlight=False)
    scenarios: dict[str, dict[str, dict[str, float | None]]] = {}
    for name in ("production", "embedded"):
        if arguments.only in (None, name):
            console.print(f"{name}:")
            scenarios[name] = {}
            for begun in (world, drifting_world):
                with (
                    tempfile.TemporaryDirectory(prefix="sentinel-alerts-") as folder,
                    begun(
                        Path(folder), production=name == "production", faster=arguments.faster
                    ) as (here, faults),
                ):
                    scenarios[name] |= measure(here, faults, console)
    result: dict[str, Any] = {"faster": arguments.faster, **scenarios}
    result["scenarios"] = scenarios.get("production", {})
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, figures in scenarios.items():
            table = Table("scenario", "fired", "mailed", "resolved", title=name)
            for scenario, seconds in figures.items():
                table.add_row(scenario, *(f"{one} s" for one in seconds.values()))
            Console().print(table)
    every = [one for figures in scenarios.values() for some in figures.values()
             for one in some.values()]  # fmt: skip
    return int(None in every)
