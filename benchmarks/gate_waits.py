"""Waits drawn in worlds, each world on a core of its own; finished worlds are kept in a file."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks import gate_worlds
from benchmarks.gate_worlds import Candidate, Outcome, wait
from benchmarks.kept_lines import keep, kept
from sentinel.models import noninferiority

LIKENESS: Final = 0.8

Waits = tuple[Outcome, ...]

_PROCEDURE: Final = {
    name: value
    for module in (noninferiority, gate_worlds)
    for name, value in vars(module).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, int | float)
}
"""The numbers of the test and of the worlds: what was drawn with others is drawn again."""


@dataclass(frozen=True)
class World:
    """Where a candidate waits.

    Attributes:
        candidate: What is judged.
        frauds: Effective frauds that have matured by the last night, at least.
        likeness: Correlation of the two models' scores where there is no fraud.
    """

    candidate: Candidate
    frauds: int
    likeness: float = LIKENESS

    def draw(self, draws: int, seed: int) -> Drawn:
        """Waits in this world; the same arguments give the same waits."""
        began = time.process_time()
        random = np.random.default_rng([seed, self.frauds, round(100 * self.likeness)])
        waits = tuple(
            wait(random, self.candidate, self.frauds, self.likeness) for _ in range(draws)
        )
        return Drawn(waits, time.process_time() - began)


@dataclass(frozen=True)
class Drawn:
    """What became of a candidate in a world.

    Attributes:
        waits: How each of its waits ended.
        cpu_seconds: What drawing them took.
    """

    waits: Waits
    cpu_seconds: float


def draw_worlds(
    worlds: Sequence[World],
    *,
    draws: int,
    seed: int,
    processes: int = 1,
    resume: Path | None = None,
) -> dict[World, Drawn]:
    """Draw waits in some worlds.

    Args:
        worlds: A world that is named twice is drawn once.
        draws: Waits in each.
        seed: Of the draws.
        processes: Worlds that are drawn at once.
        resume: File that finished worlds are kept in and read from; None if none is.
    """
    found = dict(_read(resume, draws, seed))
    missing = [world for world in dict.fromkeys(worlds) if world not in found]
    missing.sort(key=lambda world: -world.frauds)  # the longest ones first
    for world, drawn in _drawn(missing, draws, seed, processes):
        found[world] = drawn
        keep(resume, _about(draws, seed) | {"world": asdict(world)} | asdict(drawn))
    return {world: found[world] for world in worlds}


def _drawn(
    worlds: Sequence[World], draws: int, seed: int, processes: int
) -> Iterator[tuple[World, Drawn]]:
    if processes <= 1 or len(worlds) <= 1:
        yield from ((world, world.draw(draws, seed)) for world in worlds)
        return
    # Each process has a core; libraries that start threads read this when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(world.draw, draws, seed): world for world in worlds}
        for ready in as_completed(running):
            yield running[ready], ready.result()


def _about(draws: int, seed: int) -> dict[str, Any]:
    return {"draws": draws, "seed": seed, "procedure": _PROCEDURE}


def _read(path: Path | None, draws: int, seed: int) -> Iterator[tuple[World, Drawn]]:
    """The worlds of a file that were drawn like these."""
    for line in kept(path, _about(draws, seed)):
        where = line["world"]
        world = World(Candidate(**where["candidate"]), where["frauds"], where["likeness"])
        waits = tuple(Outcome(**one) for one in line["waits"])
        yield world, Drawn(waits, line["cpu_seconds"])
