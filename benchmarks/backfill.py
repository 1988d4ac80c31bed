"""Backfill of sliding windows: Sentinel, DuckDB range windows and pandas rolling, side by side.

All compute count, sum, mean and maximum over 1 hour, 1, 7 and 30 days of the same rows, by card
and by merchant (few and hot). Each engine runs in a process of its own. DuckDB's frames have the
sawtooth's bounds, and each of its values is compared with Sentinel's; pandas knows no sawtooth, so
its true windows are close but not equal. Entities grow with the rows.

The large log has ten times the rows. DuckDB runs over it once, which takes it minutes by merchant,
and pandas only if asked to: it needs some 11 GB. CPU seconds stand beside seconds, since what else
a machine does strikes them less.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.backfill_rows import FEATURES, KEYS, Key, write_rows

Figures = dict[str, float]
_COMPARED_AT_ONCE = 1_000_000


def run_engine(engine: str, key: Key, rows: Path, folder: Path) -> Figures:
    """Run an engine in a process of its own; its values stay in the folder."""
    command = [sys.executable, "-m", "benchmarks.backfill_engines"]
    ended = subprocess.run(
        [*command, engine, key, str(rows), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"{engine} failed by {key}")
    figures: Figures = json.loads(ended.stdout.splitlines()[-1])
    return figures


def mismatches(ours: Path, theirs: Path) -> int:
    """Values that differ between two engines, in chunks; a value only one has differs, too."""
    left = np.memmap(ours / "values", dtype=np.float32).reshape(-1, len(FEATURES))
    right = np.memmap(theirs / "values", dtype=np.float32).reshape(-1, len(FEATURES))
    places = np.fromfile(theirs / "places", dtype=np.int64)
    if len(left) != len(right) or not np.array_equal(np.bincount(places), np.ones(len(left))):
        raise RuntimeError("The engines did not answer for the same rows.")
    differing = 0
    for start in range(0, len(places), _COMPARED_AT_ONCE):
        part = slice(start, start + _COMPARED_AT_ONCE)
        a, b = left[places[part]], right[part]
        differing += int(np.count_nonzero((a != b) & ~(np.isnan(a) & np.isnan(b))))
    return differing


class Runs:
    """Runs engines and keeps their figures.

    Args:
        folder: For rows and values.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.figures: dict[tuple[str, Key, int], list[Figures]] = {}
        self.compared = 0
        self.differing = 0

    def over(self, key: Key, rows: int, engines: Sequence[str]) -> None:
        """Engines one after another; Sentinel's values against DuckDB's where both ran."""
        path = self.folder / f"rows-{rows}"
        if not path.exists():
            write_rows(path, rows)
        for engine in engines:
            figures = run_engine(engine, key, path, self.folder / engine)
            self.figures.setdefault((engine, key, rows), []).append(figures)
        if {"sentinel", "duckdb"} <= set(engines):
            differing = mismatches(self.folder / "sentinel", self.folder / "duckdb")
            self.compared += rows * len(FEATURES)
            self.differing += differing

    def ratios(self, what: str, small: int, large: int) -> dict[str, float]:
        """How many times as long DuckDB takes, and Sentinel over ten times the rows.

        Args:
            what: "seconds" or "cpu_seconds".
            small, large: Rows of the logs.
        """
        found = {
            f"{key}_vs_duckdb": median(
                theirs[what] / ours[what]
                for ours, theirs in zip(
                    self.figures["sentinel", key, small],
                    self.figures["duckdb", key, small],
                    strict=True,
                )
            )
            for key in KEYS
        }
        grown = self.figures.get(("sentinel", "card", large))
        if grown:
            few = median(figures[what] for figures in self.figures["sentinel", "card", small])
            found["growth_10x"] = median(figures[what] for figures in grown) / few
        for key in KEYS:
            if ("duckdb", key, large) in self.figures:
                ours, theirs = (
                    median(figures[what] for figures in self.figures[engine, key, large])
                    for engine in ("sentinel", "duckdb")
                )
                found[f"{key}_vs_duckdb_large"] = theirs / ours
        return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure; see the module."""
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-backfill-", dir=options.folder))
    runs = Runs(folder)
    small, large = options.rows, options.rows * 10
    try:
        with Console(stderr=True).status("making rows") as status:
            for key in KEYS:
                for number in range(1, options.rounds + 1):
                    status.update(f"round {number} of {options.rounds}: {small:,} by {key}")
                    once = ["pandas"] if number == 1 else []
                    runs.over(key, small, ["sentinel", "duckdb", *once])
                for number in range(1, options.large_rounds + 1):
                    status.update(f"round {number} of {options.large_rounds}: {large:,} by {key}")
                    once = ["duckdb"] if number == 1 and options.large_duckdb else []
                    once += ["pandas"] if number == 1 and options.large_pandas else []
                    runs.over(key, large, ["sentinel", *once])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "ratios": runs.ratios("seconds", small, large),
        "ratios_cpu": runs.ratios("cpu_seconds", small, large),
        "raw": {
            f"{engine}, {rows:,} rows by {key}": {
                name: median(figures[name] for figures in several)
                for name in ("seconds", "cpu_seconds", "peak_mb", "base_mb")
            }
            for (engine, key, rows), several in runs.figures.items()
        },
        "checks": {"values_compared": runs.compared, "mismatches": runs.differing},
        "machine": {
            "cpus": os.cpu_count(),
            "loadavg_before": before,
            "loadavg_after": os.getloadavg(),
        },
    }


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks backfill", description=__doc__)
    parser.add_argument("--rows", type=int, help="of the small log; the large has ten times more")
    parser.add_argument("--rounds", type=int, help="over the small log (3)")
    parser.add_argument(
        "--large-rounds", type=int, default=1, help="over the large log (1; 0: none)"
    )
    parser.add_argument(
        "--large-duckdb",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="DuckDB over the large log, too, once",
    )
    parser.add_argument("--large-pandas", action="store_true", help="and pandas, once")
    parser.add_argument("--folder", type=Path, help="for rows and values (a temporary folder)")
    parser.add_argument("--quick", action="store_true", help="20,000 rows, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    options.rows = options.rows or (20_000 if options.quick else 1_000_000)
    options.rounds = options.rounds or (1 if options.quick else 3)
    result = run(options)
    table = Table(title="Backfill", title_justify="left")
    for title in ("", "seconds", "CPU seconds", "peak MB", "of it at rest"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for name, figures in result["raw"].items():
        times = (f"{figures['seconds']:.2f}", f"{figures['cpu_seconds']:.2f}")
        numbers = (f"{figures['peak_mb']:,.0f}", f"{figures['base_mb']:,.0f}")
        table.add_row(name, *times, *numbers)
    console = Console(soft_wrap=True)
    console.print(table)
    for key, value in result["ratios"].items():
        console.print(f"{key:28}{value:9.2f}   by CPU {result['ratios_cpu'][key]:9.2f}")
    for part in ("checks", "machine"):
        console.print(f"{part}: " + ", ".join(f"{k}={v}" for k, v in result[part].items()))
    if options.json:
        print(json.dumps(result))
    return 1 if result["checks"]["mismatches"] else 0
