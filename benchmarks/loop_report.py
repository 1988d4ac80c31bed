"""What the benchmark `loop` says of the worlds that it has lived through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.loop_arms import PROCEDURE
from benchmarks.loop_money import MONTH_DAYS
from benchmarks.loop_year import ARMS, Plan

LEAST_SHARE: Final = 0.90
"""What this loop must keep of the average precision of one that sees all truth."""

_DRAWS: Final = 2_000


def summary(plan: Plan, seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report on some seeds.

    Args:
        plan: What was run.
        seeds: For each its ``seed``, and in ``arms`` the results of `run_arm` by name.
    """
    final = {name: [seed["arms"][name]["final_ap"] for seed in seeds] for name in ARMS}
    money = {name: [seed["arms"][name]["cost_minor"] for seed in seeds] for name in ARMS}
    all_approved = np.array([seed["arms"]["this"]["approving_all_minor"] for seed in seeds])
    this = _ratio(final["this"], final["all_truth"])
    explored = [seed["arms"]["this"]["exploring"] for seed in seeds]
    return {
        "benchmark": "loop",
        "procedure": PROCEDURE,
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
        "cpu_seconds_a_seed": float(
            np.mean([sum(arm["cpu_seconds"] for arm in seed["arms"].values()) for seed in seeds])
        ),
        "memory_mb": max(arm["memory_mb"] for seed in seeds for arm in seed["arms"].values()),
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
    size = f"{len(report['seeds'])} of {plan['customers']:,} customers, {plan['days']} days, "
    lines = [
        size + f"trained every {plan['retrain_days']} nights",
        f"what serves: {report['procedure']}",
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
        f"{report['cpu_seconds_a_seed']:.0f} s of a core and {report['memory_mb']:,} MB a seed",
    ]
    return "\n".join(lines)
