"""From a file to a promoted champion: 1.75 million payments of the Fraud Detection Handbook.

What `sentinel up --data FILE` does before its services start, with a mapping of a few lines, in a
process of its own and without a server of MLflow: import, plan, vectors, training, gate and the
scores of the history. ``start`` is what importing the libraries takes. Baselines and the search for
the length of history run once the champion serves; they are timed apart (``--after``).

CPU seconds stand beside seconds, since what else a machine does strikes them less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.parity_log import handbook_path
from sentinel.domain import ConfigurationError
from testkit.scratch import REPOSITORY

T = TypeVar("T")

MOST_SECONDS: Final = 180.0

MAPPING: Final = """
name = "handbook"
id = "TRANSACTION_ID"
[files]
path = "{path}"
format = "parquet"
[time]
column = "TX_DATETIME"
[amount]
column = "TX_AMOUNT"
[entities]
customer_id = "CUSTOMER_ID"
merchant_id = "TERMINAL_ID"
[attributes]
exclude = ["TX_TIME_SECONDS", "TX_TIME_DAYS", "TX_FRAUD_SCENARIO"]
[labels]
column = "TX_FRAUD"
fraud_values = ["1"]
delay_days = 7
"""


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks firstdata", description=__doc__)
    parser.add_argument("--path", type=Path, help="the Handbook's Parquet file, or another like it")
    parser.add_argument("--after", action="store_true", help="time what follows the promotion, too")
    parser.add_argument("--workspace", type=Path, help="keep the workspace in this empty folder")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child is not None:
        print(json.dumps(first_run(options.child, after=options.after)))
        return 0
    try:
        path = options.path or handbook_path()
    except ConfigurationError as error:
        print(f"skipped: {error}")
        if options.json:
            print(json.dumps({"skipped": str(error)}))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="sentinel-firstdata-"))
    if options.workspace is not None:
        folder = options.workspace
        folder.mkdir(parents=True, exist_ok=True)
    try:
        result = run(path, folder, after=options.after)
    finally:
        if options.workspace is None:
            shutil.rmtree(folder, ignore_errors=True)
    _show(result)
    if options.json:
        print(json.dumps(result))
    return 0 if result["seconds"] <= MOST_SECONDS else 1


def run(path: Path, folder: Path, *, after: bool = False) -> dict[str, Any]:
    """Make a workspace and bring it from the file to a champion, in another process.

    Args:
        path: The Parquet file.
        folder: For the workspace.
        after: Whether to time what follows the promotion, too.
    """
    (folder / "handbook.toml").write_text(MAPPING.format(path=path.resolve()))
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "benchmarks.firstdata", "--child", str(folder)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SENTINEL_")}
    began = time.monotonic()
    ended = subprocess.run(
        [*command, *(["--after"] if after else [])],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    whole = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    later = sum(found["afterwards"].values())
    found["parts"]["start"] = whole - later - sum(found["parts"].values())
    cpu = used.ru_utime + used.ru_stime
    rounded = {name: round(seconds, 1) for name, seconds in found["parts"].items()}
    return {
        **found,
        "parts": rounded,
        "seconds": round(whole - later, 1),
        "cpu_seconds": round(cpu - sum(found["afterwards_cpu"].values()), 1),
        "peak_memory_mb": round(used.ru_maxrss / 1000),
        "load_before": round(load, 2),
    }


def first_run(folder: Path, *, after: bool) -> dict[str, Any]:
    """The parts, one after the other, as the first run of `sentinel up` has them."""
    from sentinel.pipeline.apply import apply_definitions
    from sentinel.pipeline.backfill import backfill
    from sentinel.pipeline.baselines import measure_baselines
    from sentinel.pipeline.dataset_folder import load_dataset
    from sentinel.pipeline.importing import import_history
    from sentinel.pipeline.promotion import promote
    from sentinel.pipeline.training import choose_window, train
    from sentinel.settings import Settings
    from sentinel.sources import open_source

    settings = Settings(workspace=folder / "workspace", feature_store=REPOSITORY / "feature_store")
    clock = _Clock()
    clock.time(
        "import", lambda: import_history(settings, open_source(str(folder / "handbook.toml")))
    )
    clock.time("plan", lambda: apply_definitions(settings))
    clock.time("vectors", lambda: backfill(settings))
    trained = clock.time(
        "training", lambda: train(settings, baselines=False, search=False, refitted=False)
    )
    promoted = clock.time("promotion", lambda: promote(settings))
    later = _Clock()
    beside: dict[str, Any] = {}
    window = None
    if after:
        data = load_dataset(trained.folder)
        beside = later.time("baselines", lambda: measure_baselines(settings, trained.run_id, data))
        window = later.time("lengths", lambda: choose_window(settings))
    precision = trained.metrics["average_precision"]
    return {
        "parts": clock.seconds,
        "parts_cpu": {name: round(seconds, 1) for name, seconds in clock.cpu.items()},
        "training": {name: round(seconds, 1) for name, seconds in trained.parts.items()},
        "afterwards": later.seconds,
        "afterwards_cpu": later.cpu,
        "payments": promoted.scored,
        "champion": promoted.version,
        "average_precision": round(precision.value, 3),
        "baselines": {
            name: round(figures.metrics["average_precision"].value, 3)
            for name, figures in beside.items()
        },
        "window": None if window is None else window.words,
        "notes": trained.dataset.notes,
    }


class _Clock:
    """Seconds and CPU seconds of parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def time(self, name: str, job: Callable[[], T]) -> T:
        began, used = time.monotonic(), time.process_time()
        try:
            return job()
        finally:
            self.seconds[name] = time.monotonic() - began
            self.cpu[name] = time.process_time() - used


def _show(result: dict[str, Any]) -> None:
    table = Table(title="From a file to a champion", title_justify="left")
    table.add_column("part")
    for heading in ("seconds", "share", "CPU seconds"):
        table.add_column(heading, justify="right")
    for name, seconds in result["parts"].items():
        share = f"{100 * seconds / result['seconds']:.0f} %"
        table.add_row(name, f"{seconds:.1f}", share, str(result["parts_cpu"].get(name, "")))
    table.add_row("in all", f"{result['seconds']:.1f}", "", f"{result['cpu_seconds']:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{result['payments']:,} payments, average precision {result['average_precision']}, "
        f"peak memory {result['peak_memory_mb']:,} MB."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
