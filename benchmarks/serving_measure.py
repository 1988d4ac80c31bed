"""The measurements of `serving`: stacks under load in turns, with books that must balance."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import httpx

from benchmarks.serving_load import Load, wrk
from benchmarks.serving_open_loop import open_loop
from benchmarks.serving_stacks import Stack

ONE: Final = 1
FEW: Final = 8
MANY: Final = 64
BATCH: Final = 200
SINGLES_PASSED_SECONDS: Final = 1.2
"""Pause before batches. For a second after a single payment a scorer decides on batches in groups
of 32 (`sentinel.scoring.queue`), so without it a window of batches would partly measure that."""
SENTINEL: Final = "sentinel_200x31"
EMPTY: Final = "empty_asgi"
SLOW: Final = ("textbook", "strong")
"""Stacks that more connections only make wait longer."""


@dataclass(frozen=True)
class Window:
    """One stack under load for some seconds.

    Attributes:
        load: What the client saw.
        payments: Decided on; more than the requests where they are batches.
        cpu_us: Of all processes, by payment.
    """

    load: Load
    payments: int
    cpu_us: float

    @property
    def rate(self) -> float:
        """Payments per second."""
        return self.payments / self.load.seconds


@dataclass
class Measurements:
    """What was seen, in the order of the rounds.

    Attributes:
        full: Windows as fast as it goes, by stack and connections.
        batch: The same for batches.
        light, light_dry: One connection; the latter without the ledger.
        half: At half of the highest rate, by stack.
        errors: Answers that were not 200, and connections that broke.
        not_recorded, recorded_twice: Answers and entries of the ledger without the other.
    """

    full: dict[tuple[str, int], list[Window]] = field(default_factory=dict)
    batch: list[Window] = field(default_factory=list)
    light: list[Load] = field(default_factory=list)
    light_dry: list[Load] = field(default_factory=list)
    half: dict[str, list[Load]] = field(default_factory=dict)
    errors: int = 0
    not_recorded: int = 0
    recorded_twice: int = 0


class Bench:
    """Runs single windows and checks each: all answered with 200, every decision recorded once.

    Args:
        folder: Where the templates are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = Measurements()

    def full(self, stack: Stack, seconds: int, connections: int, *, batch: int = 0) -> Window:
        """As fast as it goes; batches come alone, after `SINGLES_PASSED_SECONDS`."""
        size = max(batch, 1)
        if batch:
            time.sleep(SINGLES_PASSED_SECONDS)
        before, recorded = stack.cpu_seconds(), stack.recorded()
        load = wrk(
            stack.url,
            self._templates(stack),
            prefix=stack.name,
            first=stack.sent,
            connections=connections,
            seconds=seconds,
            path="/predict/batch" if batch else "/predict",
            batch=batch,
        )
        if recorded is not None:
            httpx.get(f"{stack.url}/metrics").raise_for_status()
        stack.settle()
        cpu = stack.cpu_seconds() - before
        # wrk makes one request to look at, and when time is up it hangs up on those in flight.
        stack.take((load.requests + connections + 1) * size)
        payments = load.requests * size
        self._check(stack, recorded, load, payments, connections * size)
        return Window(load, payments, cpu / max(payments, 1) * 1e6)

    def light(self, stack: Stack, seconds: int, *, dry_run: bool) -> Load:
        """One request at a time."""
        recorded = stack.recorded()
        load = wrk(
            stack.url,
            self._templates(stack),
            prefix=stack.name,
            first=stack.sent,
            connections=1,
            seconds=seconds,
            path="/predict?dry_run=true" if dry_run else "/predict",
        )
        stack.take(load.requests + 2)
        self._check(stack, recorded, load, 0 if dry_run else load.requests, 0 if dry_run else 1)
        return load

    def at_rate(self, stack: Stack, rate: float, seconds: float) -> Load:
        """At a fixed rate."""
        recorded = stack.recorded()
        load = open_loop(
            stack.port,
            self._templates(stack),
            prefix=stack.name,
            first=stack.take(int(rate * seconds) + 1),
            rate=rate,
            seconds=seconds,
        )
        self._check(stack, recorded, load, load.requests, 0)
        return load

    def _templates(self, stack: Stack) -> Path:
        return self.folder / f"{stack.layout}.txt"

    def _check(
        self, stack: Stack, before: int | None, load: Load, answered: int, in_flight: int
    ) -> None:
        self.results.errors += load.errors
        stack.settle()  # what was in flight counts here, and not in the next window
        after = stack.recorded()
        if before is not None and after is not None:
            self.results.not_recorded += max(answered - (after - before), 0)
            self.results.recorded_twice += max(after - before - answered - in_flight, 0)


def measure(
    bench: Bench,
    running: Sequence[Stack],
    *,
    rounds: int,
    seconds: int,
    report: Callable[[str], None],
) -> Measurements:
    """All windows of a run.

    Args:
        bench: Keeps the results.
        running: Started stacks.
        rounds: How often each is visited.
        seconds: Of each visit.
        report: Told what comes next.
    """
    results = bench.results
    by_name = {stack.name: stack for stack in running}
    for stack in running:
        report(f"warming {stack.name} up")
        bench.full(stack, 1, FEW)
    for number in range(1, rounds + 1):
        for stack in running:
            for connections in (FEW,) if stack.name in SLOW else (FEW, MANY):
                report(f"round {number} of {rounds}: {stack.name}, {connections} connections")
                windows = results.full.setdefault((stack.name, connections), [])
                windows.append(bench.full(stack, seconds, connections))
        if SENTINEL in by_name:
            report(f"round {number} of {rounds}: one connection, batches")
            one = results.full.setdefault((SENTINEL, ONE), [])
            one.append(bench.full(by_name[SENTINEL], seconds, ONE))
            results.batch.append(bench.full(by_name[SENTINEL], seconds, FEW, batch=BATCH))
    if SENTINEL not in by_name or EMPTY not in by_name:
        return results
    compared = (by_name[EMPTY], by_name[SENTINEL])
    rates = {
        stack.name: max(
            median(window.rate for window in results.full[stack.name, connections])
            for connections in (FEW, MANY)
        )
        for stack in compared
    }
    for number in range(1, rounds + 1):
        report(f"round {number} of {rounds}: one connection")
        for dry_run, loads in ((False, results.light), (True, results.light_dry)):
            loads.append(bench.light(by_name[SENTINEL], max(seconds // 2, 1), dry_run=dry_run))
        for stack in compared:
            report(f"round {number} of {rounds}: {stack.name} at half load")
            load = bench.at_rate(stack, rates[stack.name] / 2, seconds)
            results.half.setdefault(stack.name, []).append(load)
    return results
