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
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.drift_pieces import find_pieces
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
LONG_RUN_DAYS: Final = 300
"""Days that tell the rate of alerts in the long run."""
WORLDS: Final = 200
"""Of estimates. The least of 24 shares of so many worlds is about two points below what each would
be in endless ones."""
LABEL_WORLDS: Final = 60
LABEL_SEED: Final = 0
PROCEDURES: Final = {"estimates": 1, "label drift": 1}
"""Another number makes `--resume` pass over the results of before."""


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


Held = dict[str, tuple[bool, float]]
"""Of each figure, whether its interval covers the truth, and half the interval's width."""


def held(figures: Figures, real: dict[str, float], long_run: dict[str, float]) -> Held:
    """An estimate, held against the labels of its payments; rates of alerts against the long run.

    Args:
        figures: The estimate.
        real: What labels say of the same payments.
        long_run: What they say of many other days like these.
    """
    result: Held = {}
    for name, found in said(figures).items():
        true = (long_run if name.startswith("alert rate") else real).get(name)
        if true is not None and not np.isnan(found.value):
            result[name] = (bool(found.low <= true <= found.high), (found.high - found.low) / 2.0)
    return result


def coverage(found: Sequence[Held]) -> dict[str, float]:
    """Share of worlds whose interval covers the truth, by figure."""
    return {name: float(np.mean([one[0] for one in some])) for name, some in _turned(found)}


def half_width(found: Sequence[Held]) -> dict[str, float]:
    """Median half width over worlds, by figure."""
    return {name: float(np.median([one[1] for one in some])) for name, some in _turned(found)}


def _turned(found: Sequence[Held]) -> list[tuple[str, list[tuple[bool, float]]]]:
    names = dict.fromkeys(name for one in found for name in one)
    return [(name, [one[name] for one in found if name in one]) for name in names]


def estimates_of_world(number: int) -> dict[str, Any]:
    """What is said in one world, held against the labels; JSON can hold it."""
    own: dict[str, Held] = {}
    either: dict[str, Held] = {}
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
        name = _named(shift, size)
        rows = world.rows(3, 14, PER_DAY, shift=shift, size=size)
        recent = model.known(rows)
        far = model.known(world.rows(4, LONG_RUN_DAYS, 300, shift=shift, size=size))
        found = estimate_without_labels(
            known,
            _without_truth(recent),
            lines,
            ratio=density_ratio(held_out.x, rows.x),
            seed=number,
        )
        by_shift = found.covariate_shift if shift == "covariate" else found.label_shift
        if by_shift is None or found.figures is None:
            continue
        real, long_run = truth(recent, lines), truth(far, lines)
        own[name] = held(by_shift, real, long_run)
        either[name] = held(found.figures, real, long_run)
    concept: dict[str, Any] = {"corrected": None}
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
            if enough == np.inf:
                concept[f"drifted, {shift}"] = drifted
            elif shift == "concept" and drifted and found.figures is not None:
                real = truth(recent, lines)
                concept["corrected"] = held(found.figures, real, real)
    return {"own": own, "either": either, "concept": concept}


def estimates(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Coverage under each shift, and what is said under concept drift, over worlds."""
    own, either = _by_shift(found, "own"), _by_shift(found, "either")
    covered = {name: coverage(some) for name, some in own.items()}
    concept = [one["concept"] for one in found]
    labels = [one["corrected"] for one in concept if one["corrected"] is not None]
    return {
        "label_free_coverage": min(min(one.values()) for one in covered.values()),
        "label_free_coverage_of_all": float(
            np.mean([hit for one in own.values() for some in one for hit, _ in some.values()])
        ),
        "coverage": covered,
        "coverage_of_either": {name: coverage(some) for name, some in either.items()},
        "half_width": {name: half_width(some) for name, some in own.items()},
        "half_width_of_either": {name: half_width(some) for name, some in either.items()},
        "not_estimated": {
            name: 1.0 - len(own.get(name, ())) / len(found)
            for name in (_named(*one) for one in SHIFTS)
        },
        "concept_drift": {
            "not_estimable": float(np.mean([one["drifted, concept"] for one in concept])),
            "not_estimable_without_drift": float(
                np.mean([one["drifted, none"] for one in concept])
            ),
            "corrected_coverage": coverage(labels),
            "corrected_half_width": half_width(labels),
            "corrected": len(labels),
        },
    }


def _named(shift: Shift, size: float) -> str:
    return f"{shift} {size:+g}"


def _by_shift(found: Sequence[dict[str, Any]], key: str) -> dict[str, list[Held]]:
    """The worlds in which there was an estimate, by shift."""
    names = [_named(*one) for one in SHIFTS]
    worlds = {name: [one[key][name] for one in found if name in one[key]] for name in names}
    return {name: some for name, some in worlds.items() if some}


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


SCENARIOS: Final = {
    "frauds doubled": (2.0, 1.0),
    "frauds halved": (0.5, 1.0),
    "labels twice as slow": (1.0, 2.0),
}
"""How many times more frauds there are, and how many times slower their labels are."""


def label_drift_of_world(number: int) -> dict[str, Any]:
    """One deployment of each kind: whether there was a false alarm, and days to each true one.

    Days are None if there was no alarm within 120 days, and -1 if one came before the change.
    """
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

    random = np.random.default_rng([LABEL_SEED, number])
    rows = labelled(random, total, times=1.0, slower=1.0)
    alarmed = looked(rows, total) is not None
    delays: dict[str, int | None] = {}
    for name, (times, slower) in SCENARIOS.items():
        begins = REFERENCE_DAYS + 45
        rows = labelled(random, begins + 120, changed=begins, times=times, slower=slower)
        first = first_alarm(rows, begins)
        delays[name] = None if first is None else first - begins if first > begins else -1
    return {"alarmed": alarmed, "delays": delays}


def labels_drift(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Delay of each kind of label drift, and alarms without any, over deployments."""
    delays = {
        name: [
            float("inf") if one["delays"][name] is None else float(one["delays"][name])
            for one in found
            if one["delays"][name] != -1
        ]
        for name in SCENARIOS
    }
    return {
        "false_alarms_in_90_days": float(np.mean([one["alarmed"] for one in found])),
        "setting_in_90_days": A_MONTH * STABLE_DAYS / 30.0,
        "delay_days": {name: _quantile(some, 0.5) for name, some in delays.items()},
        "delay_days_90pct": {name: _quantile(some, 0.9) for name, some in delays.items()},
        "alarmed_before": {name: 1.0 - len(some) / len(found) for name, some in delays.items()},
    }


def _quantile(found: list[float], share: float) -> float | None:
    """A quantile of delays; None if that many never showed."""
    value = sorted(found)[min(int(share * len(found)), len(found) - 1)] if found else np.inf
    return float(value) if np.isfinite(value) else None


def piece(kind: str, number: int) -> dict[str, Any]:
    """One world; see `PROCEDURES`."""
    return estimates_of_world(number) if kind == "estimates" else label_drift_of_world(number)


def run(
    worlds: int = WORLDS,
    label_worlds: int = LABEL_WORLDS,
    seed: int = 0,
    *,
    processes: int = 1,
    resume: Path | None = None,
) -> dict[str, Any]:
    """Both parts.

    Args:
        worlds: Of estimates.
        label_worlds: Of label drift.
        seed: The first world.
        processes: At once.
        resume: A file that each world's result is kept in, and read from by the next run.
    """
    began = time.perf_counter()
    of_estimates = [("estimates", number) for number in range(seed, seed + worlds)]
    of_labels = [("label drift", number) for number in range(seed, seed + label_worlds)]
    kept = find_pieces(
        piece,
        [*of_estimates, *of_labels],
        procedures=PROCEDURES,
        processes=processes,
        resume=resume,
    )
    return {
        **estimates([kept[one] for one in of_estimates]),
        "label_drift": labels_drift([kept[one] for one in of_labels]),
        "estimate_worlds": worlds,
        "label_worlds": label_worlds,
        "seconds_of_labels": round(time.perf_counter() - began, 1),
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
    console.print(
        f"Least of the first table: {result['label_free_coverage']:.3f}; of all its intervals: "
        f"{result['label_free_coverage_of_all']:.3f}"
    )
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
    parser.add_argument("--worlds", type=int, default=WORLDS, help="of estimates")
    parser.add_argument("--label-worlds", type=int, default=LABEL_WORLDS, help="of label drift")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="at once")
    parser.add_argument(
        "--resume", type=Path, help="file that results are kept in, and read from by the next run"
    )
    options = parser.parse_args(argv)
    result = run(
        options.worlds,
        options.label_worlds,
        options.seed,
        processes=options.processes,
        resume=options.resume,
    )
    if options.json:
        print(json.dumps(result))
    else:
        report(result)
    return 0
