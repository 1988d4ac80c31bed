"""CPU, throughput and latency of `POST /predict`, beside other stacks in the same run.

Measured are an empty ASGI route, an empty FastAPI route, a textbook stack and a strong one (see
benchmarks/peers), and Sentinel with everything on: default plan, durable ledger with its indexer,
metrics, exact reasons (and once without). All are up at once, idle but for the one measured; short
rounds visit them in turn, and a ratio is the median of the rounds' ratios. A stack's CPU is the
time of all its processes, Redis and indexer among them, by answered payment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import serving_production
from benchmarks.serving_bodies import write_templates
from benchmarks.serving_measure import SENTINEL, Bench, measure
from benchmarks.serving_open_loop import compile_client
from benchmarks.serving_report import of_shadows, print_report, ratios, raw
from benchmarks.serving_stacks import (
    NEED_REDIS,
    SHADOWS,
    redis_is_installed,
    stacks,
    sync_microseconds,
)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Start all stacks, measure, stop them."""
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-serving-", dir=options.folder))
    skipped = [] if redis_is_installed() else list(NEED_REDIS)
    wanted = options.stacks.split(",") if options.stacks else None
    if wanted is None and options.shadows:
        wanted = [SENTINEL, SHADOWS]
    try:
        write_templates(folder, number=2_000 if options.quick else 20_000)
        with (
            contextlib.ExitStack() as running,
            Console(stderr=True).status("compiling the client") as status,
        ):
            compile_client()
            chosen = [
                stack
                for stack in stacks(folder, small_models=options.quick, shadows=options.shadows)
                if stack.name not in skipped and (wanted is None or stack.name in wanted)
            ]
            for stack in chosen:
                status.update(f"starting {stack.name}")
                running.callback(stack.stop)
                stack.start()
            sync_us = sync_microseconds(folder)
            try:
                results = measure(
                    Bench(folder),
                    chosen,
                    rounds=options.rounds,
                    seconds=options.seconds,
                    report=status.update,
                )
            except Exception:
                for stack in chosen:
                    print(f"--- {stack.name}\n{stack.log()}", file=sys.stderr)
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "ratios": ratios(results) | of_shadows(results, options.shadows),
        "raw": raw(results),
        "checks": {
            "errors": results.errors,
            "not_recorded": results.not_recorded,
            "recorded_twice": results.recorded_twice,
        },
        "settings": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "models": "small" if options.quick else "200x31 and 300x64",
            "without": skipped,
        },
        "machine": {
            "cpus": os.cpu_count(),
            "loadavg_before": before,
            "loadavg_after": os.getloadavg(),
            "sync_us": round(sync_us),
        },
    }


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks serving", description=__doc__)
    parser.add_argument("--rounds", type=int, help="how often each stack is visited (7)")
    parser.add_argument("--seconds", type=int, help="of each visit (3)")
    parser.add_argument(
        "--shadows",
        type=int,
        default=0,
        metavar="N",
        help="what each of N further models of the same plan in shadow costs; only that, unless "
        "--stacks names others",
    )
    parser.add_argument("--stacks", help="only these, separated by commas")
    parser.add_argument(
        "--profile",
        choices=("laptop", "production"),
        default="laptop",
        help="production: state in Redis, ledger in PostgreSQL, beside the embedded one",
    )
    parser.add_argument("--folder", type=Path, help="on the disk to measure (a temporary folder)")
    parser.add_argument("--quick", action="store_true", help="small models, one second, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.quick else 7)
    options.seconds = options.seconds or (1 if options.quick else 3)
    if shutil.which("wrk") is None:
        parser.exit(2, "The benchmark needs wrk; as root: apt-get install wrk\n")
    if options.profile == "production":
        result = serving_production.run(options)
        serving_production.print_production(result)
    else:
        result = run(options)
        print_report(result)
    if options.json:
        print(json.dumps(result))
    return 1 if any(result["checks"].values()) else 0
