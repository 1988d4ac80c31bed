"""CPU, throughput and latency of `POST /predict`, beside other stacks in the same run.

Measured are an empty ASGI route, an empty FastAPI route, a textbook stack and a strong one (see
benchmarks/peers), and Sentinel with everything on: default plan, durable ledger with its indexer,
metrics, exact reasons (and once without). All run at once, idle but for the one that is measured;
short rounds visit them in turn, and a ratio is the median of the rounds' ratios. A stack's CPU is
the time of all its processes, Redis and indexer among them, by answered request.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.serving_bodies import write_templates
from benchmarks.serving_load import Load, open_loop, wrk
from benchmarks.serving_stacks import (
    NEED_REDIS,
    Stack,
    redis_is_installed,
    stacks,
    sync_microseconds,
)

BATCH = 200
SENTINEL = "sentinel_200x31"
EMPTY = "empty_asgi"


@dataclass(frozen=True)
class Window:
    """One stack under load for some seconds.

    Attributes:
        load: What the client saw.
        payments: Decided on; more than the requests where they are batches.
        cpu_us: Of all processes, by payment.
    """

    load: Load
    payments: int
    cpu_us: float


@dataclass
class Measurements:
    """Windows of each stack by kind of load, in the order of the rounds."""

    full: dict[str, list[Window]] = field(default_factory=dict)
    batch: list[Window] = field(default_factory=list)
    light: list[Load] = field(default_factory=list)
    light_dry: list[Load] = field(default_factory=list)
    half: dict[str, list[Load]] = field(default_factory=dict)
    not_recorded: int = 0
    recorded_twice: int = 0
    errors: int = 0


class Bench:
    """Runs windows and keeps the books: every answer 200, every decision recorded once.

    Args:
        folder: Where the templates are.
        connections: Open at once under full load.
    """

    def __init__(self, folder: Path, connections: int) -> None:
        self.folder = folder
        self.connections = connections
        self.results = Measurements()

    def full(self, stack: Stack, seconds: int, *, batch: int = 0) -> Window:
        """As fast as it goes."""
        size = max(batch, 1)
        before, recorded = stack.cpu_seconds(), stack.recorded()
        load = wrk(
            stack.url,
            self.templates(stack),
            prefix=stack.name,
            first=stack.sent,
            connections=self.connections,
            seconds=seconds,
            path="/predict/batch" if batch else "/predict",
            batch=batch,
        )
        if recorded is not None:
            httpx.get(f"{stack.url}/metrics").raise_for_status()
        stack.settle()
        cpu = stack.cpu_seconds() - before
        # When time is up, wrk hangs up on the requests in flight: they may be recorded as well.
        stack.take((load.requests + self.connections) * size)
        self._check(stack, recorded, load, load.requests * size, self.connections * size)
        return Window(load, load.requests * size, cpu / (load.requests * size) * 1e6)

    def light(self, stack: Stack, seconds: int, *, dry_run: bool) -> Load:
        """One request at a time."""
        recorded = stack.recorded()
        load = wrk(
            stack.url,
            self.templates(stack),
            prefix=stack.name,
            first=stack.sent,
            connections=1,
            seconds=seconds,
            path="/predict?dry_run=true" if dry_run else "/predict",
        )
        stack.take(load.requests + 1)
        self._check(stack, recorded, load, 0 if dry_run else load.requests, 0 if dry_run else 1)
        return load

    def half(self, stack: Stack, rate: float, seconds: float) -> Load:
        """At a fixed rate."""
        recorded = stack.recorded()
        load = open_loop(
            stack.port,
            self.templates(stack),
            prefix=stack.name,
            first=stack.take(int(rate * seconds)),
            rate=rate,
            seconds=seconds,
        )
        self._check(stack, recorded, load, load.requests, 0)
        return load

    def templates(self, stack: Stack) -> Path:
        return self.folder / f"{stack.layout}.txt"

    def _check(
        self, stack: Stack, before: int | None, load: Load, answered: int, in_flight: int
    ) -> None:
        self.results.errors += load.errors
        after = stack.recorded()
        if before is not None and after is not None:
            self.results.not_recorded += max(answered - (after - before), 0)
            self.results.recorded_twice += max(after - before - answered - in_flight, 0)


def measure(
    bench: Bench, running: Sequence[Stack], *, rounds: int, seconds: int, progress: Progress
) -> Measurements:
    """All windows of a run."""
    results = bench.results
    by_name = {stack.name: stack for stack in running}
    steps = progress.add_task("warming up", total=len(running) * (rounds + 1) + 4 * rounds)
    for stack in running:
        bench.full(stack, 1)
        progress.advance(steps)
    for number in range(rounds):
        progress.update(steps, description=f"full load, round {number + 1} of {rounds}")
        for stack in running:
            results.full.setdefault(stack.name, []).append(bench.full(stack, seconds))
            progress.advance(steps)
        if SENTINEL in by_name:
            results.batch.append(bench.full(by_name[SENTINEL], seconds, batch=BATCH))
    if SENTINEL in by_name and EMPTY in by_name:
        compared = [by_name[EMPTY], by_name[SENTINEL]]
        rates = {s.name: _median([w.load.rate for w in results.full[s.name]]) for s in compared}
        for number in range(rounds):
            progress.update(steps, description=f"light and half load, {number + 1} of {rounds}")
            sentinel = by_name[SENTINEL]
            results.light.append(bench.light(sentinel, max(seconds // 2, 1), dry_run=False))
            results.light_dry.append(bench.light(sentinel, max(seconds // 2, 1), dry_run=True))
            for stack in compared:
                load = bench.half(stack, rates[stack.name] / 2, seconds)
                results.half.setdefault(stack.name, []).append(load)
            progress.advance(steps, 4)
    return results


def ratios(results: Measurements) -> dict[str, float]:
    """Medians of the rounds' ratios; those whose stacks were not measured are not there."""

    def cpu(ours: str, theirs: str) -> float:
        pairs = zip(results.full[ours], results.full[theirs], strict=True)
        return _median([a.cpu_us / b.cpu_us for a, b in pairs])

    def rate(ours: str, theirs: str) -> float:
        pairs = zip(results.full[ours], results.full[theirs], strict=True)
        return _median([a.load.rate / b.load.rate for a, b in pairs])

    found: dict[str, float] = {}
    for key, compare, ours, theirs in (
        ("cpu_vs_empty_asgi", cpu, "sentinel_no_reasons", EMPTY),
        ("cpu_reasons_200x31_vs_empty_asgi", cpu, SENTINEL, EMPTY),
        ("cpu_reasons_300x64_vs_empty_asgi", cpu, "sentinel_300x64", EMPTY),
        ("rps_vs_empty_fastapi", rate, SENTINEL, "empty_fastapi"),
        ("rps_vs_textbook", rate, SENTINEL, "textbook"),
        ("rps_vs_strong", rate, SENTINEL, "strong"),
    ):
        if ours in results.full and theirs in results.full:
            found[key] = compare(ours, theirs)
    if results.half:
        pairs = zip(results.half[SENTINEL], results.half[EMPTY], strict=True)
        found["p99_half_load_vs_empty"] = _median([a.p99_us / b.p99_us for a, b in pairs])
        added = zip(results.light, results.light_dry, strict=True)
        found["durable_added_p50_ms"] = _median([(a.p50_us - b.p50_us) / 1000 for a, b in added])
    if results.batch:
        both = zip(results.full[SENTINEL], results.batch, strict=True)
        found["batch_vs_single"] = _median([single.cpu_us / batch.cpu_us for single, batch in both])
    return found


def raw(results: Measurements) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by stack and kind of load."""
    found = {name: _window_medians(windows) for name, windows in results.full.items()}
    if results.batch:
        found[f"{SENTINEL} batch of {BATCH}"] = _window_medians(results.batch)
    for name, loads in results.half.items():
        found[f"{name} at half load"] = _load_medians(loads)
    if results.light:
        found[f"{SENTINEL} one connection"] = _load_medians(results.light)
        found[f"{SENTINEL} one connection, dry run"] = _load_medians(results.light_dry)
    return found


def _window_medians(windows: Sequence[Window]) -> dict[str, float]:
    return {
        "cpu_us": _median([w.cpu_us for w in windows]),
        **_load_medians([w.load for w in windows]),
        "payments_per_second": _median([w.payments / w.load.seconds for w in windows]),
    }


def _load_medians(loads: Sequence[Load]) -> dict[str, float]:
    fields = ("p50_us", "p99_us", "p999_us", "max_us")
    return {
        "requests_per_second": _median([load.rate for load in loads]),
        **{name: _median([asdict(load)[name] for load in loads]) for name in fields},
    }


def _median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Start all stacks, measure, stop them."""
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-serving-", dir=options.folder))
    skipped = [] if redis_is_installed() else list(NEED_REDIS)
    wanted = options.stacks.split(",") if options.stacks else None
    console = Console(stderr=True)
    try:
        write_templates(folder, number=2_000 if options.quick else 20_000)
        chosen = [
            stack
            for stack in stacks(folder, small_models=options.quick)
            if stack.name not in skipped and (wanted is None or stack.name in wanted)
        ]
        with contextlib.ExitStack() as running, Progress(console=console) as progress:
            starting = progress.add_task("starting", total=len(chosen))
            for stack in chosen:
                running.callback(stack.stop)
                stack.start()
                progress.advance(starting)
            bench = Bench(folder, options.connections)
            results = measure(
                bench, chosen, rounds=options.rounds, seconds=options.seconds, progress=progress
            )
        return {
            "ratios": ratios(results),
            "raw": raw(results),
            "checks": {
                "errors": results.errors,
                "answered_but_not_recorded": results.not_recorded,
                "recorded_twice": results.recorded_twice,
                "skipped_for_want_of_redis": skipped,
            },
            "settings": {
                "connections": options.connections,
                "rounds": options.rounds,
                "seconds": options.seconds,
                "models": "small" if options.quick else "200x31 and 300x64",
            },
            "machine": {
                "cpus": os.cpu_count(),
                "loadavg_before": before,
                "loadavg_after": os.getloadavg(),
                "sync_us": sync_microseconds(folder),
            },
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks serving", description=__doc__)
    parser.add_argument("--connections", type=int, default=8, help="open at once under full load")
    parser.add_argument("--rounds", type=int, help="how often each stack is visited (7)")
    parser.add_argument("--seconds", type=int, help="of each visit (3)")
    parser.add_argument("--stacks", help="only these, separated by commas")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: temporary)")
    parser.add_argument("--quick", action="store_true", help="small models, a second a visit")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 7)
    options.seconds = options.seconds or (1 if options.quick else 3)
    if shutil.which("wrk") is None:
        parser.exit(2, "The benchmark needs wrk; as root: apt-get install wrk\n")
    result = run(options)
    _print(result)
    if options.json:
        print(json.dumps(result))
    checks = result["checks"]
    return 1 if any(checks[key] for key in checks if not key.startswith("skipped")) else 0


def _print(result: dict[str, Any]) -> None:
    table = Table(title="Stacks under load", title_justify="left")
    columns = ("cpu_us", "payments_per_second", "p50_us", "p99_us", "p999_us")
    for name in ("", "CPU µs/payment", "payments/s", "p50 µs", "p99 µs", "p99.9 µs"):
        table.add_column(name, justify="right" if name else "left")
    for name, figures in result["raw"].items():
        cells = [f"{figures[c]:,.0f}" if c in figures else "" for c in columns]
        table.add_row(name, *cells)
    console = Console()
    console.print(table)
    for key, value in result["ratios"].items():
        console.print(f"{key:36} {value:10.2f}")
    console.print(", ".join(f"{key}={value}" for key, value in result["checks"].items()))
