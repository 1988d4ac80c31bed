"""Files in the shapes of nine public sets, from `sentinel propose` to a scoring service.

For each set a file is made, with fraud whose true probability is known. `sentinel propose` alone
writes mapping and definitions; they are imported, applied, trained, promoted and served; payments
that came later are scored over HTTP. The same again with column names that say nothing. Then other
seeds, without serving. Average precision is held against the best that can be reached: that of the
probability the truth was drawn with.

`--path FOLDER` runs the same on real files: FOLDER/NAME/ holds those of the set NAME.
`--resume FOLDER` keeps the figures of each set, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.datasets_live import refolded, scores_served
from benchmarks.datasets_real import run_real
from benchmarks.datasets_trial import MOST_FLAGS, Trial, frauds_of, payments_of, precision_of
from benchmarks.pieces import Pieces
from sentinel.features.plan.plan import Plan
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.parameter_search import search_parameters
from testkit.shapes import SHAPES
from testkit.shapes.base import Shape, unknown_names

AP_SHARE: Final = 0.85
WINDOWLESS_SHARE: Final = 0.7
ACCEPTED_SHARE: Final = 0.99
MOST_ACCUSED: Final = 1
FIRST_SEED: Final = 11


def run_set(
    shape: Shape, folder: Path, *, seeds: int, rows: int, search: int = 0
) -> dict[str, Any]:
    """All figures of a set, as the JSON line holds them."""
    started = time.monotonic()
    result: dict[str, Any] = {"error": ""}
    _note(shape.name, "its own column names")
    trial = _trial(shape, folder / "own", FIRST_SEED, rows)
    result["proposed"] = trial.propose() and not trial.flags
    imported = trial.imported()
    result |= {"read": imported.report.read, "accepted": imported.report.accepted}
    result |= _accusations(trial)
    _, built = trial.trained()
    result["features"] = len(Plan.load(trial.settings.plan_path).feature_names)
    if not shape.windowless:
        result["windowless"] = round(trial.without_windows(built), 4)
    log = trial.fresh_log()
    with trial.timed("serve"):
        scores = scores_served(trial.settings, log)
    result["served"] = len(scores) == len(payments_of(log))
    with trial.timed("verify"):
        fold = refolded(trial.workspace)
    result["mismatches"] = fold["mismatches"] + fold["recorded_mismatches"]
    result["mismatch_examples"] = fold["examples"]
    result["compared"] = fold["recorded"]
    by_seed = [(precision_of(scores, frauds_of(log)), trial.best)]
    result["steps"] = {step: round(value, 1) for step, value in trial.seconds.items()}
    _note(shape.name, f"AP {by_seed[0][0]:.3f} of {by_seed[0][1]:.3f}; {result['steps']}")
    if search:
        result["search"] = _searched(shape, folder / "searched", rows, search, by_seed[0][0])
    result["renamed"] = _renamed(shape, folder / "renamed", rows)
    for seed in range(FIRST_SEED + 1, FIRST_SEED + seeds):
        other = _trial(shape, folder / f"seed-{seed}", seed, rows)
        other.propose()
        other.imported()
        other.trained()
        by_seed.append((other.scored_in_process(), other.best))
        _note(shape.name, f"seed {seed}: AP {by_seed[-1][0]:.3f} of {by_seed[-1][1]:.3f}")
    shares = [reached / best for reached, best in by_seed]
    result |= {
        "ap": round(by_seed[0][0], 4),
        "ap_best": round(by_seed[0][1], 4),
        "ap_by_seed": [[round(value, 4) for value in pair] for pair in by_seed],
        "ap_share": round(statistics.median(shares), 4),
        "fresh": len(trial.fresh),
        "fresh_frauds": int(trial.fresh.fraud.sum()),
        "seconds": round(time.monotonic() - started, 1),
    }
    return result


def _trial(shape: Shape, folder: Path, seed: int, rows: int, *, renamed: bool = False) -> Trial:
    drawing = shape.draw(rows or shape.rows, seed)
    if renamed:
        drawing = drawing.renamed(unknown_names(list(drawing.columns)))
    history, fresh = drawing.split()
    return Trial(shape, folder, history, fresh, "data" if renamed else shape.stem)


def _searched(shape: Shape, folder: Path, rows: int, trials: int, without: float) -> dict[str, Any]:
    """The first file again with a search for parameters: what it buys, and what it takes."""
    trial = _trial(shape, folder, FIRST_SEED, rows)
    trial.propose()
    trial.imported()
    with trial.timed("search"):
        backfill(trial.settings)
        found = search_parameters(trial.settings, trials)
    trial.trained()
    reached = trial.scored_in_process()
    _note(shape.name, f"searched: AP {reached:.3f} instead of {without:.3f}; {found.words}")
    return {
        "trials": found.trials,
        "given_up": found.pruned,
        "parameters": found.parameters,
        "validation": None
        if found.better_by is None
        else [
            round(v, 4) for v in (found.better_by.value, found.better_by.low, found.better_by.high)
        ],
        "ap": round(reached, 4),
        "bought": round(reached - without, 4),
        "seconds": round(trial.seconds["search"], 1),
    }


def _accusations(trial: Trial) -> dict[str, Any]:
    """What the proposal left out, and which of the suspects are leaks."""
    report = trial.report
    suspects = set(report["leaks"])
    planted = set(trial.shape.leaks)
    return {
        "left_out": report["left_out"],
        "leaks_found": sorted(suspects & planted),
        "leaks_missed": sorted(planted - suspects),
        "innocents_accused": sorted(suspects - planted - set(trial.shape.late)),
    }


def _renamed(shape: Shape, folder: Path, rows: int) -> dict[str, Any]:
    """The same with column names that say nothing: what had to be told, and what became of it."""
    trial = _trial(shape, folder, FIRST_SEED, rows, renamed=True)
    names = unknown_names(list(shape.draw(200, FIRST_SEED).columns))
    there = trial.propose({flag: names.get(told, told) for flag, told in shape.truth.items()})
    imported = trial.imported()
    report = trial.report
    late = {names[column] for column in (*shape.leaks, *shape.late)}
    found = {
        "proposed": there,
        "flags": trial.flags,
        "read": imported.report.read,
        "accepted": imported.report.accepted,
        "entities": report["entities"],
        "leaks_missed": sorted({names[column] for column in shape.leaks} - set(report["leaks"])),
        "innocents_accused": sorted(set(report["leaks"]) - late),
    }
    trial.trained()
    log = trial.fresh_log()
    few = log[:1]
    with trial.timed("serve"):
        scores = scores_served(trial.settings, [few[0].slice(0, 200)])
    found["served"] = bool(scores)
    found["ap"] = round(trial.scored_in_process(), 4)
    _note(shape.name, f"renamed: {found}")
    return found


def musts(sets: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """What must be true, by what it says."""
    whole = [one for one in sets.values() if not one["error"]]
    renamed = [one["renamed"] for one in whole]
    accused = sum(len(one["innocents_accused"]) for one in whole)
    return {
        "every set ends in a scoring service": len(whole) == len(sets)
        and all(one["proposed"] and one["served"] for one in whole),
        f"with unknown names at most {MOST_FLAGS} flags": len(whole) == len(sets)
        and all(one["proposed"] and len(one["flags"]) <= MOST_FLAGS for one in renamed),
        f"accepted / read is at least {ACCEPTED_SHARE}": all(
            one["accepted"] >= ACCEPTED_SHARE * one["read"] for one in (*whole, *renamed)
        ),
        f"median of AP / best AP is at least {AP_SHARE}": all(
            one["ap_share"] >= AP_SHARE for one in whole
        ),
        "every planted leak is named": not any(one["leaks_missed"] for one in whole),
        f"at most {MOST_ACCUSED} innocent column is accused": accused <= MOST_ACCUSED,
        "what was served is what a fresh fold says": all(
            one["mismatches"] == 0 and one["compared"] > 0 for one in whole
        ),
        f"without windows at most {WINDOWLESS_SHARE} of the AP": all(
            one.get("windowless", 0.0) <= WINDOWLESS_SHARE for one in whole
        ),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks datasets", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON object as last line")
    parser.add_argument("--seeds", type=int, default=5, help="files of each set")
    parser.add_argument("--sets", default=",".join(SHAPES), help="names, with commas")
    parser.add_argument("--rows", type=int, default=0, help="payments of each file")
    parser.add_argument("--path", type=Path, help="folder of real files, a folder for each set")
    parser.add_argument(
        "--search", type=int, default=0, help="sets of parameters that a search tries on each"
    )
    parser.add_argument("--keep", type=Path, help="leave files and workspaces in this folder")
    parser.add_argument("--resume", type=Path, help="keep figures by set here, and go on from them")
    options = parser.parse_args(argv)
    names = [name for name in options.sets.split(",") if name]
    unknown = [name for name in names if name not in SHAPES]
    if unknown:
        parser.error(f"there is no set {unknown[0]!r}; there are {', '.join(SHAPES)}")
    if options.path is not None:
        return run_real(options.path, names, as_json=options.json)
    started = time.monotonic()
    sets: dict[str, dict[str, Any]] = {}
    pieces = Pieces(options.resume)
    about = [options.seeds, options.rows, options.search]
    for name in names:
        with tempfile.TemporaryDirectory(prefix="sentinel-datasets-") as scratch:
            folder = Path(scratch) if options.keep is None else options.keep / name
            try:
                measure = partial(
                    run_set,
                    SHAPES[name],
                    folder,
                    seeds=options.seeds,
                    rows=options.rows,
                    search=options.search,
                )
                sets[name] = pieces.record(name, about, measure)
            except Exception as error:  # noqa: BLE001 -- the other sets are still to be measured
                traceback.print_exc()
                sets[name] = {"error": f"{type(error).__name__}: {error}"}
    found = musts(sets)
    result = {
        "sets": sets,
        "musts": found,
        "met": all(found.values()),
        "seconds": round(time.monotonic() - started, 1),
    }
    _table(result)
    if options.json:
        print(json.dumps(result))
    return 0 if result["met"] else 1


def _table(result: dict[str, Any]) -> None:
    print(f"{'set':17}{'rows':>7}{'feat.':>6}{'AP':>7}{'best':>7}{'share':>7}{'leaks':>6}{'s':>7}")
    for name, one in result["sets"].items():
        if one["error"]:
            print(f"{name:17}{one['error'][:62]}")
            continue
        print(
            f"{name:17}{one['read']:7}{one['features']:6}{one['ap']:7.3f}{one['ap_best']:7.3f}"
            f"{one['ap_share']:7.3f}{len(one['leaks_found']):6}{one['seconds']:7.0f}"
        )
    for name, one in result["sets"].items():
        if found := one.get("search"):
            print(
                f"{name:17}{found['trials']:4} trials bought {found['bought']:+.3f} AP in "
                f"{found['seconds']:.0f} s"
            )
    for must, met in result["musts"].items():
        print(f"{'met' if met else 'NOT MET':8} {must}")


def _note(name: str, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {name}: {text}", file=sys.stderr, flush=True)
