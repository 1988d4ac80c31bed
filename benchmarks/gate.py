"""How often the gate lets worse and equal candidates pass: whole waits in worlds of known truth.

Each draw is one candidate's whole wait, at most 60 nightly looks, and runs the test that
`sentinel evaluate` runs (`sentinel.models.noninferiority`). Worlds are those of
`benchmarks.gate_worlds`: by two ways of being worse, by how much truth matures, and by how alike
the two models are. Of each claim the least favourable world counts.

``ten_small_losses``: ten candidates, one after the other, each 3 % worse than the champion of its
time. What passes becomes champion; the reference moves only to one that is shown to be better.

    python -m benchmarks gate --json                    # 1,000 waits in each of twenty worlds
    python -m benchmarks gate --draws 100               # half a minute
    python -m benchmarks gate --resume gate.jsonl       # can be cut and goes on
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.gate_waits import Waits, World, draw_worlds
from benchmarks.gate_worlds import Candidate, average_precision
from sentinel.models.noninferiority import MARGIN, NIGHTS

STEP: Final = 0.03
CHAIN: Final = 10
SEED: Final = 11

_CHAIN_STEPS: Final = 5


def passes(waits: Waits) -> float:
    """Share of the waits that ended with the candidate passing."""
    return sum(one.state == "passed" for one in waits) / len(waits)


def worlds() -> dict[str, dict[str, World]]:
    """The worlds of each claim, by name."""
    weaker, blind = Candidate.weaker(MARGIN), Candidate.blinded(MARGIN)
    much = {"weaker": Candidate.weaker(0.25), "blind": Candidate.blinded(0.25)}
    return {
        "worse_10": {
            "weaker, 40 frauds": World(weaker, 40),
            "weaker, 100 frauds": World(weaker, 100),
            "weaker, 300 frauds": World(weaker, 300),
            "weaker, 300 frauds, unlike models": World(weaker, 300, 0.5),
            "blind, 40 frauds": World(blind, 40),
            "blind, 100 frauds": World(blind, 100),
            "blind, 300 frauds": World(blind, 300),
        },
        "worse_25": {
            f"{name}, {frauds} frauds": World(candidate, frauds)
            for name, candidate in much.items()
            for frauds in (40, 100)
        },
        "equal": {
            "300 frauds": World(Candidate(), 300),
            "300 frauds, unlike models": World(Candidate(), 300, 0.5),
        },
        "few": {str(frauds): World(Candidate(), frauds) for frauds in (40, 100)},
        "chain": {
            str(steps): World(Candidate.weaker(1.0 - (1.0 - STEP) ** steps), 300)
            for steps in range(1, _CHAIN_STEPS + 1)
        },
    }


def measure(
    draws: int, *, seed: int = SEED, processes: int = 1, resume: Path | None = None
) -> dict[str, Any]:
    """All figures.

    Args:
        draws: Waits for each world.
        seed: Of the draws.
        processes: Worlds that are drawn at once.
        resume: File that finished worlds are kept in and read from; None if nothing is kept.
    """
    asked = worlds()
    every = [world for group in asked.values() for world in group.values()]
    drawn = draw_worlds(every, draws=draws, seed=seed, processes=processes, resume=resume)
    found = {
        claim: {name: drawn[world].waits for name, world in group.items()}
        for claim, group in asked.items()
    }
    worse_10, worse_25 = (
        {name: passes(waits) for name, waits in found[claim].items()}
        for claim in ("worse_10", "worse_25")
    )
    equal, few = found["equal"], found["few"]
    return {
        "draws": draws,
        "nights": NIGHTS,
        "margin": MARGIN,
        "average_precision_of_reference": round(average_precision(Candidate()), 3),
        "passes": {
            "worse_10": max(worse_10.values()),
            "worse_25": max(worse_25.values()),
            "equal_300": min(passes(waits) for waits in equal.values()),
        },
        "worse_10_by_world": worse_10,
        "worse_25_by_world": worse_25,
        "equal_by_world": {name: passes(waits) for name, waits in equal.items()},
        "equal_300_median_night": {
            name: float(np.median([one.night for one in waits])) for name, waits in equal.items()
        },
        "equal_below_300": {
            frauds: {
                "passes": passes(waits),
                "asked_for_frauds": round(
                    float(np.median([one.needed for one in waits if one.needed] or [0.0]))
                ),
            }
            for frauds, waits in few.items()
        },
        **_chain(list(found["chain"].values()), draws, seed),
        "cpu_seconds": round(sum(one.cpu_seconds for one in set(drawn.values())), 1),
    }


def _chain(drawn: Sequence[Waits], draws: int, seed: int) -> dict[str, Any]:
    """Ten successive candidates, each a bit worse than the champion of its time.

    Args:
        drawn: Waits of candidates that are one step worse than the reference, two steps, and so on.
        draws: Of the ten.
        seed: Of these draws.
    """
    random = np.random.default_rng(seed)
    lost = np.empty(draws)
    for draw in range(draws):
        below, given_away = 0, 0.0  # steps of the champion below the reference; before that
        for _ in range(CHAIN):
            outcome = drawn[min(below, len(drawn) - 1)][random.integers(draws)]
            if outcome.state != "passed":
                continue
            below += 1
            if outcome.better:
                given_away += below
                below = 0
        lost[draw] = 1.0 - (1.0 - STEP) ** (given_away + below)
    return {
        "ten_small_losses": round(float(lost.mean()), 4),
        "ten_small_losses_within_margin": float(np.mean(lost <= MARGIN)),
        "ten_small_losses_ungated": round(1.0 - (1.0 - STEP) ** CHAIN, 4),
    }


def met(found: dict[str, Any]) -> bool:
    """Whether the figures keep what the gate promises."""
    rates = found["passes"]
    return bool(
        rates["worse_10"] <= 0.05
        and rates["worse_25"] <= 0.005
        and rates["equal_300"] >= 0.80
        and found["ten_small_losses"] <= MARGIN
    )


def report(found: dict[str, Any]) -> str:
    """The figures in a few lines."""
    rates = found["passes"]
    lost, ungated = found["ten_small_losses"], found["ten_small_losses_ungated"]
    few = "; ".join(
        f"at {frauds}: {100 * one['passes']:.0f} % (it asks for {one['asked_for_frauds']})"
        for frauds, one in found["equal_below_300"].items()
    )
    lines = [
        f"{found['draws']:,} waits of at most {found['nights']} nights in each world;",
        "of each claim the least favourable world:",
        f"  10 % worse passes in {100 * rates['worse_10']:.1f} % (at most 5)",
        f"  25 % worse passes in {100 * rates['worse_25']:.2f} % (at most 0.5)",
        f"  equal passes in {100 * rates['equal_300']:.0f} % at 300 frauds (at least 80)",
        f"  equal passes {few}",
        f"  ten candidates, each {100 * STEP:.0f} % worse: {100 * lost:.1f} % lost",
        f"    (margin {100 * found['margin']:.0f}, without a gate {100 * ungated:.0f})",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--draws", type=int, default=1000, help="waits for each world")
    parser.add_argument("--seed", type=int, default=SEED, help="of the draws")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="at once (default: cores)"
    )
    parser.add_argument(
        "--resume", type=Path, help="file that finished worlds are kept in and read from"
    )
    given = parser.parse_args(argv)
    found = measure(given.draws, seed=given.seed, processes=given.processes, resume=given.resume)
    print(json.dumps(found, indent=2) if given.json else report(found))
    return 0 if met(found) else 1
