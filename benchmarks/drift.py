"""Drift: false alarms of whole deployments, payments until a change is found, and what it costs.

A deployment has 118 columns in 10 segments, tested every hour: with rhythms, growth, and days on
which all features stray together (`benchmarks.drift_streams`). In stable ones every alarm is false.
In others something moves in one column of one segment after two quiet weeks. Beside ours stand the
stability index and ADWIN on the same counts (`benchmarks.peers.drift_rules`); what is known without
labels is measured by `benchmarks.drift_labels`.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from benchmarks import drift_labels
from benchmarks.drift_pieces import find_pieces
from benchmarks.drift_streams import COLUMNS, PARTS, Drawing, World, make_world
from benchmarks.peers.drift_rules import AdwinRule, StabilityRule
from sentinel.drift.bins import Bins, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.detector import DriftDetector, HourCounts
from sentinel.drift.reference import DriftReference, freeze_reference
from sentinel.settings import DriftSettings

REFERENCE_DAYS: Final = 60
LIVE_DAYS: Final = 90
QUIET_DAYS: Final = 14
CHANGED_DAYS: Final = 45
STAYS: Final = (40, 10)
"""Days for which the other rules are given time once ours has found a change: gradual, others."""
GRADUAL_DAYS: Final = 30
DISTANCE: Final = 0.10
SCENARIOS: Final = ("sudden", "gradual", "new_category", "constant", "unit_change", "nulls")
LEAST_COVERAGE: Final = 0.9
RIVAL_WORLDS: Final = 2
"""Stable deployments on which the other rules are run, too; their false alarms are many."""
PROCEDURES: Final = {"stable": 1, "stable, beside others": 1, "heavy tails": 1, "changed": 1}
"""Another number makes `--resume` pass over the results of before."""

Floats = npt.NDArray[np.float64]


def begin(seed: int, **changes: Any) -> tuple[World, Drawing, DriftReference]:
    """A deployment and the reference of its first days."""
    rng = np.random.default_rng(seed)
    world = make_world(rng)
    drawing = Drawing(world, rng, **changes)
    days = [drawing.next_day() for _ in range(REFERENCE_DAYS)]
    hours = np.concatenate([first + np.arange(24) for first, _ in days])
    counts = np.concatenate([counts for _, counts in days])
    return world, drawing, freeze_reference(world.bins, world.segments, hours, counts)


def an_hour(bins: Bins, hour: int, counts: npt.NDArray[np.uint32]) -> HourCounts:
    events = counts[:, : bins.starts[1]].sum(axis=1, dtype=np.int64)
    return HourCounts(hour, counts, events)


def stable(seed: int, rivals: bool, changes: dict[str, Any]) -> dict[str, int]:
    """False alarms of a deployment in which nothing moves."""
    world, drawing, reference = begin(seed, **changes)
    detector = DriftDetector(reference, DriftSettings())
    rules: dict[str, StabilityRule | AdwinRule] = {}
    if rivals:
        rules["psi"] = StabilityRule(reference.counts, world.bins.starts)
        rules["adwin"] = AdwinRule(len(world.segments), world.bins.starts)
    found = dict.fromkeys(("ours", *rules), 0)
    for _ in range(LIVE_DAYS):
        first, counts = drawing.next_day()
        for at in range(24):
            found["ours"] += bool(detector.advance(an_hour(world.bins, first + at, counts[at])))
            for name, rule in rules.items():
                found[name] += int(rule.advance(first + at, counts[at]).sum())
    return found


# ------------------------------------------------------------------------------------- changes


def target(world: World, scenario: str, column: int, part: int, rng: np.random.Generator) -> Floats:
    """Shares of a column's cells in a part after a change."""
    cells = slice(int(world.bins.starts[column]), int(world.bins.starts[column + 1]))
    usual = world.rates[:, part, cells].mean(axis=0).astype(np.float64)
    usual /= usual.sum()
    moved = np.zeros(len(usual))
    if scenario in ("sudden", "gradual"):
        place, sign = world.position[cells], rng.choice([-1.0, 1.0])
        if rng.random() < 0.5:  # a lump of payments in one cell
            cell = int(rng.choice(np.flatnonzero(usual < 1 - 2 * DISTANCE)))
            moved = np.asarray(usual * (1 - usual[cell] - DISTANCE) / (1 - usual[cell]))
            moved[cell] = usual[cell] + DISTANCE
            return moved
        low, high = 0.0, 20.0  # all values a little higher, or lower
        for _ in range(60):
            middle = (low + high) / 2
            moved = usual * np.exp(sign * middle * (place - place.mean()))
            moved /= moved.sum()
            if np.abs(moved - usual).sum() / 2 < DISTANCE:
                low = middle
            else:
                high = middle
    elif scenario == "new_category":
        moved = usual * (1 - DISTANCE / 2)
        moved[1] += DISTANCE / 2
    elif scenario == "constant":
        moved[int(np.argmax(usual[1:])) + 1] = 1.0
    elif scenario == "unit_change":
        moved[0], moved[-1] = usual[0], 1 - usual[0]
    else:
        moved = usual * 0.5
        moved[0] += 0.5
    return moved


def changed(seed: int) -> list[dict[str, Any]]:
    """Each scenario in one deployment: payments and hours until it was named."""
    world, drawing, reference = begin(10_000 + seed)
    bins = world.bins
    detector = DriftDetector(reference, DriftSettings())
    quiet = []
    for _ in range(QUIET_DAYS):
        first, counts = drawing.next_day()
        quiet.append((first, counts))
        for at in range(24):
            detector.advance(an_hour(bins, first + at, counts[at]))
    return [
        one_change(seed, name, world, drawing, reference, detector, quiet) for name in SCENARIOS
    ]


def one_change(
    seed: int,
    scenario: str,
    world: World,
    drawing: Drawing,
    reference: DriftReference,
    detector: DriftDetector,
    quiet: list[tuple[int, npt.NDArray[np.uint32]]],
) -> dict[str, Any]:
    rng = np.random.default_rng((seed, SCENARIOS.index(scenario)))
    drawing, detector = copy.deepcopy(drawing), copy.deepcopy(detector)
    bins, segment = world.bins, int(rng.integers(len(PARTS) + 1))
    kinds = [c for c in range(COLUMNS) if bins.is_category[c] == (scenario == "new_category")]
    column = int(rng.choice(kinds if scenario in ("new_category", "unit_change") else COLUMNS))
    cells = slice(int(bins.starts[column]), int(bins.starts[column + 1]))
    begins = int(rng.integers(24))
    parts = range(len(PARTS)) if segment == 0 else [segment - 1]
    ratio = np.ones((len(PARTS), bins.cells))
    draws = rng.integers(2**32)
    for part in parts:
        usual = world.rates[:, part, cells].mean(axis=0).astype(np.float64)
        after = target(world, scenario, column, part, np.random.default_rng(draws))
        ratio[part, cells] = after / (usual / usual.sum())
    # The other rules follow the stream that will move, and no other.
    offset = bins.starts[[column, column + 1]] - bins.starts[column]
    rules: dict[str, StabilityRule | AdwinRule] = {
        "psi": StabilityRule(reference.counts[segment : segment + 1, cells], offset),
        "adwin": AdwinRule(1, offset),
    }
    for first, counts in quiet:
        for at in range(24):
            for rule in rules.values():
                rule.advance(first + at, counts[at, segment : segment + 1, cells])
    events, hours = 0, 0
    found: dict[str, tuple[int, int]] = {}
    names = (world.segments[segment].name, world.segments[0].name)
    for day in range(CHANGED_DAYS):
        share = np.ones((24, 1, 1))
        if day == 0:
            share[:begins] = 0.0
        if scenario == "gradual":
            share *= np.minimum((day + np.arange(24)[:, None, None] / 24) / GRADUAL_DAYS, 1.0)
        first, counts = drawing.next_day(1 + share * (ratio - 1))
        for at in range(begins if day == 0 else 0, 24):
            events += int(counts[at, segment, cells].sum())
            hours += 1
            named = detector.advance(an_hour(bins, first + at, counts[at]))
            if any(c.feature == bins.names[column] and c.segment in names for c in named):
                found.setdefault("ours", (events, hours))
            for name, rule in rules.items():
                if rule.advance(first + at, counts[at, segment : segment + 1, cells]).any():
                    found.setdefault(name, (events, hours))
        if len(found) == 3 or ("ours" in found and day >= STAYS[scenario != "gradual"]):
            break
    return {"scenario": scenario, "found": found}


# ---------------------------------------------------------------------------------------- costs


def histogram_seconds() -> float:
    """Seconds to count 1,000,000 decisions of 118 columns in 10 segments."""
    rng = np.random.default_rng(1)
    X = rng.lognormal(size=(50_000, COLUMNS)).astype(np.float32)
    X[rng.random(X.shape) < 0.05] = np.nan
    bins = freeze_bins(X[:20_000], [f"number_{at}" for at in range(COLUMNS)])
    member = rng.random((len(X), 10)) < 0.3
    member[:, 0], member[:, 1:] = True, False
    member[np.arange(len(X)), rng.integers(1, 10, len(X))] = True
    counts = np.zeros((10, bins.cells), np.uint32)
    count_cells(bins, X[:10], member[:10], counts)
    started = time.perf_counter()
    for _ in range(20):
        count_cells(bins, X, member, counts)
    return time.perf_counter() - started


def test_seconds() -> float:
    """Median seconds of one hour's test of all streams."""
    world, drawing, reference = begin(1)
    detector = DriftDetector(reference, DriftSettings())
    taken = []
    for _ in range(3):
        first, counts = drawing.next_day()
        for at in range(24):
            started = time.perf_counter()
            detector.advance(an_hour(world.bins, first + at, counts[at]))
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


# --------------------------------------------------------------------------------------- report


def upper_bound(alarms: list[int]) -> float:
    """95 % upper bound of the alarms of one deployment: the larger of Poisson's and the normal."""
    exact = float(chi2.ppf(0.95, 2 * (sum(alarms) + 1)) / 2 / len(alarms))
    spread = statistics.stdev(alarms) / len(alarms) ** 0.5 if len(alarms) > 1 else 0.0
    return max(exact, statistics.mean(alarms) + 1.645 * spread)


def summary(results: list[dict[str, Any]], rule: str) -> dict[str, Any]:
    """Medians over deployments; None where fewer than half found it."""

    def median(which: int) -> float | None:
        values = sorted(r["found"][rule][which] if rule in r["found"] else np.inf for r in results)
        middle = statistics.median(values)
        return None if np.isinf(middle) else float(middle)

    share = sum(rule in r["found"] for r in results) / len(results)
    return {"events": median(0), "hours": median(1), "found": round(share, 3)}


def piece(kind: str, seed: int) -> Any:
    """One deployment, or one world of estimates; see `PROCEDURES`."""
    if kind == "changed":
        return changed(seed)
    changes = {"tails": 5.0, "memory": 0.4} if kind == "heavy tails" else {}
    return stable(seed, kind == "stable, beside others", changes)


def run(
    worlds: int, changes: int, processes: int, labels: int, seed: int, resume: Path | None = None
) -> dict[str, Any]:
    begin(seed)  # compiles once, for all processes
    started = time.perf_counter()
    quiet = [
        ("stable, beside others" if at < RIVAL_WORLDS else "stable", seed + at)
        for at in range(worlds)
    ]
    stress = [("heavy tails", seed + at) for at in range(worlds // 20)]
    moved = [("changed", seed + at) for at in range(changes)]
    kept = find_pieces(
        piece,
        [*quiet, *stress, *moved],
        procedures=PROCEDURES,
        processes=processes,
        resume=resume,
    )
    alarms = [kept[one] for one in quiet]
    strained = [kept[one]["ours"] for one in stress]
    found = [result for one in moved for result in kept[one]]
    ours = [one["ours"] for one in alarms]
    rules = ("ours", "psi", "adwin")
    scenarios = {
        name: {rule: summary([r for r in found if r["scenario"] == name], rule) for rule in rules}
        for name in SCENARIOS
        if found
    }
    beside = [one for one in alarms if "psi" in one]
    result: dict[str, Any] = {
        "worlds": worlds,
        "false_alarms": statistics.mean(ours),
        "false_alarms_upper": upper_bound(ours),
        "false_alarms_heavy_tails": statistics.mean(strained) if strained else None,
        "false_alarms_of_others": {
            rule: statistics.mean(one[rule] for one in beside) for rule in rules[1:] if beside
        },
        "events_to_find": scenarios["sudden"]["ours"]["events"] if scenarios else None,
        "changes": changes,
        "scenarios": scenarios,
        "seconds_of_worlds": time.perf_counter() - started,
        "histogram_seconds": histogram_seconds(),
        "test_seconds": test_seconds(),
    }
    if labels:
        of_labels = drift_labels.run(
            labels,
            min(labels, drift_labels.LABEL_WORLDS),
            seed,
            processes=processes,
            resume=resume,
        )
        assert not result.keys() & of_labels.keys()
        result |= of_labels
    return {**result, "missed": missed(result)}


def missed(result: Mapping[str, Any]) -> list[str]:
    """What was not reached of what must be, in words."""
    found = result["events_to_find"]
    wanted = {
        "false_alarms_upper is {:.3g}, at most 1 may be": (result["false_alarms_upper"], 1.0),
        "histogram_seconds is {:.3g}, at most 5 may be": (result["histogram_seconds"], 5.0),
        "test_seconds is {:.3g}, at most .1 may be": (result["test_seconds"], 0.1),
    }
    if result["scenarios"]:
        events = float("inf") if found is None else found
        wanted["events_to_find is {:,.0f}, at most 2,000 may be"] = (events, 2_000.0)
    said = [text.format(value) for text, (value, most) in wanted.items() if value > most]
    coverage = result.get("label_free_coverage", 1.0)
    if coverage < LEAST_COVERAGE:
        said.append(f"label_free_coverage is {coverage:.3g}, at least {LEAST_COVERAGE} must be")
    return said


def report(result: dict[str, Any]) -> None:
    print(f"False alarms of a deployment in {LIVE_DAYS} days, {result['worlds']} deployments")
    print(f"  ours                    {result['false_alarms']:10.3f}")
    print(f"  ours, 95 % upper bound  {result['false_alarms_upper']:10.3f}")
    if result["false_alarms_heavy_tails"] is not None:
        print(f"  ours, heavy tailed days {result['false_alarms_heavy_tails']:10.3f}")
    for name, value in result["false_alarms_of_others"].items():
        print(f"  {name:23} {value:10.1f}")
    print(f"\nPayments of the segment until found (hours; share found), {result['changes']} each")
    for name, rules in result["scenarios"].items():
        for rule, found in rules.items():
            events = "-" if found["events"] is None else f"{found['events']:,.0f}"
            hours = "-" if found["hours"] is None else f"{found['hours']:,.0f}"
            print(f"  {name:13} {rule:6} {events:>9} ({hours:>5} h; {found['found']:.0%})")
    print(f"\n1M decisions counted: {result['histogram_seconds']:.2f} s")
    print(f"An hour of all streams tested: {result['test_seconds'] * 1000:.2f} ms")
    if "label_free_coverage" in result:
        print()
        drift_labels.report(result)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks drift", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--worlds", type=int, default=500, help="stable deployments")
    parser.add_argument("--changes", type=int, default=40, help="deployments that change")
    parser.add_argument(
        "--labels",
        type=int,
        default=drift_labels.WORLDS,
        help="worlds of `drift_labels`; 0: none",
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1_000, help="0 to 11 set the margins")
    parser.add_argument(
        "--resume", type=Path, help="file that results are kept in, and read from by the next run"
    )
    options = parser.parse_args(argv)
    result = run(
        options.worlds,
        options.changes,
        options.processes,
        options.labels,
        options.seed,
        options.resume,
    )
    report(result)
    for text in result["missed"]:
        print(text, file=sys.stderr)
    if options.json:
        print(json.dumps(result))
    return 1 if result["missed"] else 0
