"""A year of decisions that change what is known: this loop, the one before, and one that sees all.

The world answers decisions (`sentinel.sources.simulator.AnsweringWorld`): what is declined brings
no chargeback, frauds are tried again, analysts take their time and err. Three deployments begin
with the same history, in which everything was approved, and learn every night from what their own
decisions let them know. Average precision is measured each month on the truth of all payments of
that month, whatever was decided on them.

    python -m benchmarks loop --json                                  # ten seeds, a year, nightly
    python -m benchmarks loop --seeds 1 --days 120 --retrain-days 7   # minutes
    python -m benchmarks loop --resume loop.jsonl                     # can be cut and goes on
    python -m benchmarks loop --resume loop.jsonl --show              # what it has found so far

A year of one of the three is a process of its own on one core. What is final is the last quarter of
the year.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.kept_lines import keep, kept
from benchmarks.loop_arms import PROCEDURE
from benchmarks.loop_report import in_words, summary
from benchmarks.loop_year import ARMS, Plan, run_arm

Arm = tuple[int, str]
"""A seed, and a name of `ARMS`."""


def main(argv: Sequence[str]) -> int:
    """Run it; the status is 1 if the target was missed, 2 if no seed is complete."""
    options = _parse(argv)
    plan = Plan(
        customers=options.customers,
        history_days=options.history_days,
        days=options.days,
        retrain_days=options.retrain_days,
        budget_minor=options.budget_minor,
        max_rows=options.max_rows,
    )
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    done = _kept(options.resume, plan)
    if not options.show:
        missing = [(seed, name) for seed in seeds for name in ARMS if (seed, name) not in done]
        for arm, found in _run(plan, missing, options.processes, options.resume):
            done[arm] = found
            keep(options.resume, _about(plan) | _named(arm) | {"found": found})
    complete = [seed for seed in seeds if all((seed, name) in done for name in ARMS)]
    if not complete:
        print("No seed is complete yet; run it again without --show.", file=sys.stderr)
        return 2
    report = summary(
        plan,
        [{"seed": seed, "arms": {name: done[seed, name] for name in ARMS}} for seed in complete],
    )
    print(json.dumps(report) if options.json else in_words(report))
    return 0 if report["met"] else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks loop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--seeds", type=int, default=10, help="worlds (default 10)")
    parser.add_argument("--first-seed", type=int, default=1, help="seed of the first (default 1)")
    parser.add_argument("--days", type=int, default=365, help="days of decisions (default 365)")
    parser.add_argument("--history-days", type=int, default=120, help="before them (default 120)")
    parser.add_argument(
        "--retrain-days", type=int, default=1, help="nights between trainings (default 1)"
    )
    parser.add_argument("--customers", type=int, default=700, help="of a world (default 700)")
    parser.add_argument(
        "--budget-minor",
        type=float,
        default=100_000,
        help="what the control group may cost a month, in cents (default 100000)",
    )
    parser.add_argument(
        "--max-rows",
        type=int,
        help="most payments to fit on: all frauds, and good ones that count for all "
        "(default: that of training.max_rows)",
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="at once (default: cores)"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        help="file that results are kept in and read from; unfinished years are kept beside it",
    )
    parser.add_argument(
        "--show", action="store_true", help="run nothing: report on the complete seeds of --resume"
    )
    return parser.parse_args(argv)


def _about(plan: Plan) -> dict[str, Any]:
    return {"plan": asdict(plan), "procedure": PROCEDURE}


def _named(arm: Arm) -> dict[str, Any]:
    return {"seed": arm[0], "arm": arm[1]}


def _kept(path: Path | None, plan: Plan) -> dict[Arm, dict[str, Any]]:
    """Results of an earlier run of the same plan and procedure."""
    return {(line["seed"], line["arm"]): line["found"] for line in kept(path, _about(plan))}


def _run(
    plan: Plan, arms: Sequence[Arm], processes: int, resume: Path | None
) -> Iterator[tuple[Arm, dict[str, Any]]]:
    years = {arm: _checkpoint(resume, arm) for arm in arms}
    if processes <= 1 or len(arms) <= 1:
        yield from ((arm, run_arm(plan, *arm, years[arm])) for arm in arms)
        return
    # Each process has a core; libraries that start threads read this when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), max_tasks_per_child=1
    ) as pool:
        running = {pool.submit(run_arm, plan, *arm, years[arm]): arm for arm in arms}
        for ready in as_completed(running):
            yield running[ready], ready.result()


def _checkpoint(resume: Path | None, arm: Arm) -> Path | None:
    return None if resume is None else resume.with_name(f"{resume.name}.{arm[0]}-{arm[1]}.year")
