"""Before labels come, and when they do: do estimates cover the truth, does label drift show?

*Estimates.* In made-up worlds of known truth a model is fitted and calibrated; then the kinds of
payments move (covariate shift), or the share of fraud does (label shift). What
`sentinel.drift.estimates` says of recent payments without their labels is held against what their
labels say later. When what fraud looks like moves (concept drift), the worlds count how often it
says that there is no estimate, and how well labels of a control group then correct it.

*Label drift.* Frauds become twice as many, or half as many, while payments stay as they are; or
labels become slower: in how many days after the first affected payment does it show, and how often
does it while nothing moves?
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.drift_worlds import Model, Rows, Shift, World
from sentinel.drift.density_ratio import density_ratio
from sentinel.drift.estimates import Figures, estimate_without_labels
from sentinel.drift.label_drift import LabelDays, LabelledPayments, label_drift
from sentinel.drift.score_table import KnownPayments, ScoredPayments
from sentinel.models.evaluation import average_precision
from sentinel.models.intervals import Estimate

Floats = npt.NDArray[np.float64]

PER_DAY: Final = 900
REVIEWED, DECLINED = 0.02, 0.006
"""Shares of payments above the lines."""
SHIFTS: Final[tuple[tuple[Shift, float], ...]] = (
    ("covariate", 0.5),
    ("covariate", 1.0),
    ("label", -1.0),
    ("label", 1.0),
)
DAY_US: Final = 86_400_000_000
MATURITY_DAYS: Final = 45
REFERENCE_DAYS: Final = 28
STABLE_DAYS: Final = 90
A_MONTH: Final = 1.0 / 3.0
"""False alarms a month: one in ninety days."""


def truth(rows: KnownPayments, lines: dict[str, float]) -> dict[str, float]:
    """What labels say of payments."""
    found = {
        "fraud share": float(rows.fraud.mean()),
        "average precision": average_precision(rows.fraud, rows.probability),
    }
    for name, line in lines.items():
        above = rows.probability >= line
        found[f"alert rate, {name}"] = float(above.mean())
        if above.any():
            found[f"precision, {name}"] = float(rows.fraud[above].mean())
    return found


def said(figures: Figures) -> dict[str, Estimate]:
    """The same figures as they were estimated."""
    found = {
        "fraud share": figures.fraud_share,
        "average precision": figures.average_precision,
    }
    for name in figures.alert_rate:
        found[f"alert rate, {name}"] = figures.alert_rate[name]
        found[f"precision, {name}"] = figures.precision[name]
    return found


class Tally:
    """How often intervals cover, and how wide they are."""

    def __init__(self) -> None:
        self._hits: dict[str, list[bool]] = defaultdict(list)
        self._half: dict[str, list[float]] = defaultdict(list)

    def add(self, figures: Figures, real: dict[str, float], long_run: dict[str, float]) -> None:
        """An estimate, held against the labels of its payments; rates against the long run."""
        for name, found in said(figures).items():
            true = (long_run if name.startswith("alert rate") else real).get(name)
            if true is not None and not np.isnan(found.value):
                self._hits[name].append(found.low <= true <= found.high)
                self._half[name].append((found.high - found.low) / 2.0)

    def coverage(self) -> dict[str, float]:
        """Share covered, by figure."""
        return {name: float(np.mean(hits)) for name, hits in self._hits.items()}

    def half_width(self) -> dict[str, float]:
        """Median half width, by figure."""
        return {name: float(np.median(found)) for name, found in self._half.items()}


def estimates(worlds: int, seed: int) -> dict[str, Any]:
    """Coverage under each shift, and what is said under concept drift."""
    own: dict[str, Tally] = defaultdict(Tally)
    either: dict[str, Tally] = defaultdict(Tally)
    absent: dict[str, int] = defaultdict(int)
    refused = {"warned": 0, "not estimable": 0, "false": 0}
    labels = Tally()
    for number in range(seed, seed + worlds):
        world = World.of(number)
        held_out = world.rows(2, REFERENCE_DAYS, PER_DAY)
        model = Model.fitted(world.rows(1, 30, PER_DAY), held_out)
        known = model.known(held_out)
        ranked = np.sort(known.probability)
        lines = {
            name: float(ranked[-int(share * len(ranked))])
            for name, share in (("review", REVIEWED), ("decline", DECLINED))
        }
        for shift, size in SHIFTS:
            name = f"{shift} {size:+g}"
            rows = world.rows(3, 14, PER_DAY, shift=shift, size=size)
            recent = model.known(rows)
            far = model.known(world.rows(4, 150, 300, shift=shift, size=size))
            found = estimate_without_labels(
                known,
                _without_truth(recent),
                lines,
                ratio=density_ratio(held_out.x, rows.x),
                seed=number,
            )
            by_shift = found.covariate_shift if shift == "covariate" else found.label_shift
            if by_shift is None or found.figures is None:
                absent[name] += 1
                continue
            real, long_run = truth(recent, lines), truth(far, lines)
            own[name].add(by_shift, real, long_run)
            either[name].add(found.figures, real, long_run)
        for shift, size in (("concept", 1.0), ("none", 0.0)):
            since = world.rows(5, 21, PER_DAY, shift=shift, size=size)
            rows = world.rows(6, 14, PER_DAY, shift=shift, size=size)
            recent = model.known(rows)
            for share, enough in ((0.1, 60.0), (0.1, np.inf)):
                found = estimate_without_labels(
                    known,
                    _without_truth(recent),
                    lines,
                    since=_left_known(model, since, lines["decline"], share, number),
                    enough=enough,
                    seed=number,
                )
                drifted = found.status != "estimated"
                if shift == "none":
                    refused["false"] += drifted and enough == np.inf
                elif enough == np.inf:
                    refused["not estimable"] += drifted
                elif drifted and found.figures is not None:
                    refused["warned"] += 1
                    real = truth(recent, lines)
                    labels.add(found.figures, real, real)
    covered = {name: tally.coverage() for name, tally in own.items()}
    return {
        "label_free_coverage": min(min(one.values()) for one in covered.values()),
        "coverage": covered,
        "coverage_of_either": {name: tally.coverage() for name, tally in either.items()},
        "half_width": {name: tally.half_width() for name, tally in own.items()},
        "half_width_of_either": {name: tally.half_width() for name, tally in either.items()},
        "not_estimated": {f"{s} {x:+g}": absent[f"{s} {x:+g}"] / worlds for s, x in SHIFTS},
        "concept_drift": {
            "not_estimable": refused["not estimable"] / worlds,
            "not_estimable_without_drift": refused["false"] / worlds,
            "corrected_coverage": labels.coverage(),
            "corrected_half_width": labels.half_width(),
            "corrected": refused["warned"],
        },
    }


def _without_truth(rows: KnownPayments) -> ScoredPayments:
    return ScoredPayments(probability=rows.probability, day=rows.day)


def _left_known(model: Model, rows: Rows, line: float, share: float, seed: int) -> KnownPayments:
    """What decisions leave to know: of declined payments, only a control group's share."""
    known = model.known(rows)
    declined = known.probability >= line
    passed = np.random.default_rng([seed, 9]).random(len(declined)) < share
    weight = np.where(declined, np.where(passed, 1.0 / share, 0.0), 1.0)
    return model.known(rows, weight)


def labelled(
    random: np.random.Generator, days: int, *, changed: int = 10**6, times: float, slower: float
) -> LabelledPayments:
    """Payments with labels that come late.

    Args:
        random: Draws them.
        days: How many.
        changed: From this day on, there are so many times more frauds, and labels are slower.
        times, slower: Factors of fraud's share and of the delay.
    """
    n = days * PER_DAY
    day = np.arange(n) // PER_DAY
    mood = np.exp(random.normal(0.0, 0.25, days) - 0.25**2 / 2.0)
    p = np.minimum(random.gamma(0.06, 0.25, n) * mood[day], 0.9)
    after = day >= changed
    true = np.minimum(np.where(after, times, 1.0) * p, 0.95)
    card = np.arange(n) // 3
    fraud = random.random(int(card[-1]) + 1)[card] < true
    time_us = day * DAY_US + random.integers(0, DAY_US, n)
    delay = np.exp(random.normal(np.log(8.0), 0.8, n)) * np.where(after, slower, 1.0)
    declined = p > np.quantile(p, 1.0 - DECLINED)
    passed = random.random(n) < 0.1
    return LabelledPayments(
        time_us=time_us,
        weight=np.where(declined, np.where(passed, 10.0, 0.0), 1.0),
        label_us=np.where(fraud, time_us + (delay * DAY_US).astype(np.int64), -1),
        probability=p,
    )


def labels_drift(worlds: int, seed: int) -> dict[str, Any]:
    """Delay of each kind of label drift, and alarms without any."""
    scenarios = {
        "frauds doubled": (2.0, 1.0),
        "frauds halved": (0.5, 1.0),
        "labels twice as slow": (1.0, 2.0),
    }
    alarms = 0
    delays: dict[str, list[float]] = {name: [] for name in scenarios}
    early: dict[str, int] = dict.fromkeys(scenarios, 0)
    total = REFERENCE_DAYS + STABLE_DAYS + MATURITY_DAYS

    def looked(rows: LabelledPayments, day: int) -> Any:
        known = LabelDays.of(rows, day * DAY_US, MATURITY_DAYS * DAY_US)
        return label_drift(known, REFERENCE_DAYS, false_alarms_a_month=A_MONTH).change

    def first_alarm(rows: LabelledPayments, begins: int) -> int | None:
        # The test of a day takes those before it in, so the first alarm is found by halving.
        low, high = begins - 1, begins + 120
        if looked(rows, high) is None:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if looked(rows, middle) is None else (low, middle)
        return high

    for number in range(worlds):
        random = np.random.default_rng([seed, number])
        rows = labelled(random, total, times=1.0, slower=1.0)
        alarms += looked(rows, total) is not None
        for name, (times, slower) in scenarios.items():
            begins = REFERENCE_DAYS + 45
            rows = labelled(random, begins + 120, changed=begins, times=times, slower=slower)
            first = first_alarm(rows, begins)
            if first is not None and first <= begins:
                early[name] += 1
            else:
                delays[name].append(float("inf") if first is None else first - begins)
    return {
        "false_alarms_in_90_days": alarms / worlds,
        "setting_in_90_days": A_MONTH * STABLE_DAYS / 30.0,
        "delay_days": {name: _quantile(found, 0.5) for name, found in delays.items()},
        "delay_days_90pct": {name: _quantile(found, 0.9) for name, found in delays.items()},
        "alarmed_before": {name: count / worlds for name, count in early.items()},
    }


def _quantile(found: list[float], share: float) -> float | None:
    """A quantile of delays; None if that many never showed."""
    value = sorted(found)[min(int(share * len(found)), len(found) - 1)] if found else np.inf
    return float(value) if np.isfinite(value) else None


def run(worlds: int = 60, label_worlds: int = 60, seed: int = 0) -> dict[str, Any]:
    """Both parts.

    Args:
        worlds: Of estimates.
        label_worlds: Of label drift.
        seed: The first world.
    """
    began = time.perf_counter()
    return {
        **estimates(worlds, seed),
        "label_drift": labels_drift(label_worlds, seed),
        "worlds": worlds,
        "label_worlds": label_worlds,
        "seconds": round(time.perf_counter() - began, 1),
    }


def report(result: dict[str, Any]) -> None:
    """Print tables."""
    console = Console()
    for title, key in (("if the shift is known", "coverage"), ("either", "coverage_of_either")):
        names = list(result[key])
        table = Table(title=f"Share of intervals that cover the truth: {title}")
        table.add_column("figure")
        for name in names:
            table.add_column(name, justify="right")
        widths = result[key.replace("coverage", "half_width")]
        for figure in result[key][names[0]]:
            table.add_row(
                figure,
                *(f"{result[key][n][figure]:.2f} ±{widths[n][figure]:.3f}" for n in names),
            )
        console.print(table)
    console.print(f"Least of the first table: {result['label_free_coverage']:.3f}")
    concept = result["concept_drift"]
    console.print(
        f"Concept drift: no estimate in {concept['not_estimable']:.0%} of the worlds, and in "
        f"{concept['not_estimable_without_drift']:.0%} of those without."
    )
    console.print("Corrected by labels, share covered:", concept["corrected_coverage"])
    console.print("Label drift:", result["label_drift"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run both parts."""
    parser = argparse.ArgumentParser(prog="benchmarks drift_labels", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--worlds", type=int, default=60, help="of estimates")
    parser.add_argument("--label-worlds", type=int, default=60, help="of label drift")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    result = run(options.worlds, options.label_worlds, options.seed)
    if options.json:
        print(json.dumps(result))
    else:
        report(result)
    return 0
