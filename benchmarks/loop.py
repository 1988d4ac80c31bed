"""A year of decisions that change what is known: this loop, the one before, and one that sees all.

The world answers decisions (`sentinel.sources.simulator.AnsweringWorld`): what is declined brings
no chargeback, frauds are tried again, analysts take their time and err. Three deployments begin
with the same history, in which everything was approved, and learn every night from what their own
decisions let them know. Average precision is measured each month on the truth of all payments of
that month, whatever was decided on them.

    python -m benchmarks loop --json                                  # ten seeds, a year, nightly
    python -m benchmarks loop --seeds 1 --days 120 --retrain-days 7   # minutes
    python -m benchmarks loop --resume loop.jsonl                     # can be cut and goes on

A seed is a process of its own. What is final is the last quarter of the year.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.loop_arms import REVIEWS_PER_1000, AllTruth, Before, Learner, Loop, costs_of
from benchmarks.loop_life import Life, TruthFeed, live
from benchmarks.loop_money import approving_all_minor, figures_of
from sentinel.features.plan.plan import DAY_US
from sentinel.features.plan.program import compile_program
from sentinel.policy.versions import Exploring, Terms
from sentinel.settings import Settings
from sentinel.sources.simulator import AnsweringWorld, Behaviour, SimulatorConfig
from testkit.scratch import default_plan

ARMS: Final = ("this", "old", "all_truth")
MONTH_DAYS: Final = 30
LEAST_SHARE: Final = 0.90
"""What this loop must keep of the average precision of one that sees all truth."""

_FRAUD_RATE: Final = 0.009  # that of the world of `sentinel up`
_DRAWS: Final = 2_000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run, but for the seeds.

    Attributes:
        customers: Of the world; 700 make about 170,000 payments a year.
        history_days: Approved history that all arms begin with.
        days: Of decisions.
        retrain_days: Nights between two trainings.
        budget_minor: What the control group may cost a month, minor units.
    """

    customers: int
    history_days: int
    days: int
    retrain_days: int
    budget_minor: float


def main(argv: Sequence[str]) -> int:
    """Run it; the status is 1 if the target was missed."""
    options = _parse(argv)
    plan = Plan(
        customers=options.customers,
        history_days=options.history_days,
        days=options.days,
        retrain_days=options.retrain_days,
        budget_minor=options.budget_minor,
    )
    seeds = list(range(options.first_seed, options.first_seed + options.seeds))
    done = _kept(options.resume, plan)
    missing = [seed for seed in seeds if seed not in done]
    for result in _run(plan, missing, options.processes):
        done[result["seed"]] = result
        if options.resume:
            with options.resume.open("a") as file:
                file.write(json.dumps({"plan": asdict(plan)} | result) + "\n")
    report = summary(plan, [done[seed] for seed in seeds])
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
        "--processes", type=int, default=os.cpu_count() or 1, help="seeds at once (default: cores)"
    )
    parser.add_argument(
        "--resume", type=Path, help="file that results of seeds are kept in and read from"
    )
    return parser.parse_args(argv)


def _kept(path: Path | None, plan: Plan) -> dict[int, dict[str, Any]]:
    """Results of an earlier run of the same plan, by seed."""
    if path is None or not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return {line["seed"]: line for line in lines if line.pop("plan") == asdict(plan)}


def _run(plan: Plan, seeds: Sequence[int], processes: int) -> Iterator[dict[str, Any]]:
    if processes <= 1 or len(seeds) <= 1:
        yield from (run_seed(plan, seed) for seed in seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        for ready in as_completed([pool.submit(run_seed, plan, seed) for seed in seeds]):
            yield ready.result()


def run_seed(plan: Plan, seed: int) -> dict[str, Any]:
    """All arms in the world of a seed."""
    began = time.monotonic()
    config = SimulatorConfig(
        customers=plan.customers,
        merchants=max(60, plan.customers // 3),
        days=plan.history_days,
        fraud_rate=_FRAUD_RATE,
        seed=seed,
    )
    behaviour = Behaviour()
    start = Life.begin(compile_program(default_plan()))
    live(start, AnsweringWorld(config, behaviour), config.end_us)
    terms = Terms(
        costs=costs_of(behaviour),
        reviews_per_day=REVIEWS_PER_1000 * len(start.book) / plan.history_days / 1000,
        exploring=Exploring(budget_minor=plan.budget_minor),
    )
    settings = Settings()
    # Figures on a candidate's test rows decide nothing here, so their intervals are not wanted.
    few = settings.training.model_copy(update={"bootstrap_rounds": 50})
    settings = settings.model_copy(update={"training": few})
    arms: dict[str, Learner] = {
        "this": Loop(settings, terms),
        "old": Before(settings),
        "all_truth": AllTruth(settings, _without_exploring(terms)),
    }
    arms_done: dict[str, Any] = {}
    for name in ARMS:
        world = AnsweringWorld(config, behaviour, from_us=config.end_us)
        year = _Year(plan, seed, arms[name], start.fork())
        arms_done[name] = year.live(world, config.end_us)
    return {
        "seed": seed,
        "arms": arms_done,
        "approving_all_minor": approving_all_minor(config, plan.days, costs_of(behaviour)),
        "seconds": round(time.monotonic() - began, 1),
    }


@dataclass
class _Year:
    """An arm's life in the world of a seed."""

    plan: Plan
    seed: int
    learner: Learner
    life: Life
    trained: int = 0
    kept: int = 0
    nights: int = 0

    def live(self, world: AnsweringWorld, start_us: int) -> dict[str, Any]:
        began = time.monotonic()
        self._learn(start_us)
        truth = None
        if self.learner.name == "all_truth":
            truth = TruthFeed(self.seed)
            self.life.promise_all(truth, start_us)
        end_us = start_us + self.plan.days * DAY_US
        live(self.life, world, end_us, night=self._night, truth=truth)
        found = figures_of(self.life.book, start_us, self.plan.days, costs_of(world.behaviour))
        seconds = round(time.monotonic() - began, 1)
        return found | {"trained": self.trained, "kept": self.kept, "seconds": seconds}

    def _night(self, now_us: int) -> None:
        self.nights += 1
        if self.nights % self.plan.retrain_days == 0:
            self._learn(now_us)
        else:
            assert self.life.in_charge is not None  # learnt when the year began
            changed = self.learner.refresh(self.life.in_charge, self.life.book, now_us)
            if changed is not None:
                self.life.put_in_charge(changed)
        if self.nights % MONTH_DAYS == 0:
            print(
                f"seed {self.seed}, {self.learner.name}: day {self.nights} of {self.plan.days}, "
                f"{len(self.life.book):,} payments, {self.trained} trainings",
                file=sys.stderr,
                flush=True,
            )

    def _learn(self, now_us: int) -> None:
        learnt = self.learner.learn(self.life.book.served(now_us), self.life.book)
        self.trained += 1
        if learnt is None:
            self.kept += 1
        else:
            self.life.put_in_charge(learnt)


def _without_exploring(terms: Terms) -> Terms:
    return Terms(costs=terms.costs, reviews_per_day=terms.reviews_per_day)


def summary(plan: Plan, seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report on some seeds.

    Args:
        plan: What was run.
        seeds: Results of `run_seed`.
    """
    final = {name: [seed["arms"][name]["final_ap"] for seed in seeds] for name in ARMS}
    money = {name: [seed["arms"][name]["cost_minor"] for seed in seeds] for name in ARMS}
    all_approved = np.array([seed["approving_all_minor"] for seed in seeds])
    this = _ratio(final["this"], final["all_truth"])
    explored = [seed["arms"]["this"]["exploring"] for seed in seeds]
    return {
        "benchmark": "loop",
        "plan": asdict(plan),
        "seeds": [seed["seed"] for seed in seeds],
        "ap_by_month": {
            name: np.round(
                np.mean([seed["arms"][name]["ap_by_month"] for seed in seeds], axis=0), 4
            ).tolist()
            for name in ARMS
        },
        "final_ap": {name: round(float(np.mean(values)), 4) for name, values in final.items()},
        "ratios": {
            "final_ap_vs_all_truth": this[0],
            "old_loop_vs_all_truth": _ratio(final["old"], final["all_truth"])[0],
        },
        "interval": list(this[1:]),
        "intervals": {"old_loop_vs_all_truth": list(_ratio(final["old"], final["all_truth"])[1:])},
        "exploring_cost": {
            "explored_a_month": _mean(explored, "explored") / plan.days * MONTH_DAYS,
            "frauds_a_month": _mean(explored, "frauds") / plan.days * MONTH_DAYS,
            "cost_a_month_minor": _mean(explored, "cost_minor") / plan.days * MONTH_DAYS,
            "net_cost_a_month_minor": _mean(explored, "net_cost_minor") / plan.days * MONTH_DAYS,
        },
        "money_saved": {
            name: {
                "a_month_minor": float(np.mean(all_approved - values)) / plan.days * MONTH_DAYS,
                "share": float(np.mean((all_approved - values) / all_approved)),
            }
            for name, values in money.items()
        },
        "rates": {
            name: {
                what: float(np.mean([seed["arms"][name][what] for seed in seeds]))
                for what in ("review_rate", "decline_rate", "fraud_rate", "kept")
            }
            for name in ARMS
        },
        "targets": {"final_ap_vs_all_truth": LEAST_SHARE},
        "met": this[0] >= LEAST_SHARE,
        "seconds_a_seed": float(np.mean([seed["seconds"] for seed in seeds])),
    }


def _mean(results: Sequence[dict[str, float]], name: str) -> float:
    return float(np.mean([result[name] for result in results]))


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Mean over the seeds of a ratio, and the 95 % interval of that mean by the bootstrap."""
    ratios: npt.NDArray[np.float64] = np.array(ours) / np.array(theirs)
    rng = np.random.default_rng(1)
    means = rng.choice(ratios, (_DRAWS, len(ratios))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return tuple(round(float(v), 4) for v in (ratios.mean(), low, high))  # type: ignore[return-value]


def in_words(report: dict[str, Any]) -> str:
    """The report for people."""
    plan, cost = report["plan"], report["exploring_cost"]
    ratios, (low, high) = report["ratios"], report["interval"]
    saved, met = report["money_saved"], "met" if report["met"] else "MISSED"
    met = f"{LEAST_SHARE:.2f} is wanted: {met}"
    size = (
        f"{len(report['seeds'])} worlds of {plan['customers']:,} customers, {plan['days']} days, "
    )
    lines = [
        size + f"trained every {plan['retrain_days']} nights",
        "",
        "average precision by month, on the truth of all payments",
    ]
    for name in ARMS:
        months = " ".join(f"{value:.2f}" for value in report["ap_by_month"][name])
        lines.append(f"  {name:9} {months}")
    control = (
        f"control group, a month: {cost['explored_a_month']:.1f} payments, "
        f"{cost['frauds_a_month']:.1f} frauds, cost {cost['cost_a_month_minor'] / 100:,.0f}"
    )
    shares = ", ".join(f"{name} {saved[name]['share']:.0%}" for name in ARMS)
    lines += [
        "",
        "last quarter, as a share of what one that sees all truth has:",
        f"  this loop {ratios['final_ap_vs_all_truth']:.3f} [{low:.3f}, {high:.3f}]: {met}",
        f"  the loop before {ratios['old_loop_vs_all_truth']:.3f}",
        f"saved of what approving everything would lose: {shares}",
        control,
        f"{report['seconds_a_seed']:.0f} s a seed",
    ]
    return "\n".join(lines)
