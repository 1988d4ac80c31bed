"""What holds up a single payment: 300 a second, while everything else that is heavy happens.

A deployment with a million decisions in its index, imported history and about 2 GB of state answers
300 single payments a second. One after the other, while they go on: 10,000 labels about imported
history arrive, analysts ask eight filtered questions, a snapshot is written, the largest question
for features is asked, two batches of 10,000 arrive, the plan changes, a new champion comes. For
each, the latencies of the single payments are held against those of a quiet time.

What the machine does by itself is shown apart: another process, which has nothing to do with the
server, gives as much memory back as a state takes. A virtual machine may hand such memory on to its
host, and syncs of the disk wait meanwhile. Between scenarios that is waited for.

Exit code 1 if a payment failed, or was held up longer than allowed: p99 at most 3 times that of the
quiet time, and the longest at most 100 ms above its longest.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.serving_bodies import read_templates
from benchmarks.stalls_load import Load, Window
from benchmarks.stalls_world import (
    FULL,
    QUICK,
    START_SECONDS,
    STOP_SECONDS,
    World,
    history_id,
    open_world,
)
from testkit.scratch import Server

P99_TIMES: Final = 3.0
MAX_ADDED_MS: Final = 100.0
LONGEST_SECONDS: Final = 300.0
"""How long a disturbance may take; then it counts as failed."""
SNAPSHOT_SECONDS: Final = 3
NO_SNAPSHOT_SECONDS: Final = 1_000_000

Disturb = Callable[[], None]


class Site:
    """A running server, and what the disturbances need of it.

    Args:
        world: The deployment.
        server: Serves it.
        load: Sends single payments to it.
    """

    def __init__(self, world: World, server: Server, load: Load) -> None:
        self.world = world
        self.sizes = world.sizes
        self.server = server
        self.mark = f"{time.time_ns() // 1_000_000:x}"
        self._load = load
        self._sent = 0

    def connect(self) -> HTTPConnection:
        """A connection to the server, for a client that costs this machine little.

        Payments, server and clients share the processors; a client of `httpx` spends 25 ms of CPU
        before its first request.
        """
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=LONGEST_SECONDS)
        connection.connect()
        return connection

    def post(self, connection: HTTPConnection, path: str, body: bytes) -> None:
        """Send a request, and again where the server asks for it later; raises if it fails."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while True:
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 429 or time.monotonic() > deadline:
                break
            time.sleep(float(answer.headers["retry-after"]))
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}: {text[:300]!r}")

    def health(self) -> dict[str, Any]:
        """What the server says of itself."""
        with closing(self.connect()) as connection:
            connection.request("GET", "/health")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found

    def window(self, seconds: float) -> Window:
        """Send payments for so long."""
        first = self.sizes.decisions + self._sent
        self._sent += int(self.sizes.rate * seconds) + 1
        return self._load.send(f"single-{self.mark}", first, seconds).result()

    def crown(self, version: str, *, other_plan: bool) -> None:
        """Make a new version the champion, and wait until it serves from its plan's own state."""
        plan = self.world.plans[other_plan]
        self.world.crown(plan, version)
        wanted = (version, plan.hash)
        deadline = time.monotonic() + LONGEST_SECONDS
        while True:
            health = self.health()
            serving = health["model"]["version"], health["feature_store"]["plan_hash"]
            if serving == wanted:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{wanted} does not serve, but {serving}")
            time.sleep(0.2)


def _posting(site: Site, path: str, body: bytes) -> Disturb:
    connection = site.connect()

    def disturb() -> None:
        with closing(connection):
            site.post(connection, path, body)

    return disturb


def _labels(site: Site, number: int) -> Disturb:
    drawn = random.Random(number)
    ids = drawn.sample(range(site.sizes.history), site.sizes.labels)
    verdicts = ("fraud", "legitimate")
    body = json.dumps(
        {
            "labels": [
                {"transaction_id": history_id(i), "verdict": verdicts[(i + number) % 2]}
                for i in ids
            ]
        }
    ).encode()
    return _posting(site, "/labels", body)


QUESTIONS: Final[tuple[dict[str, str], ...]] = (
    {"customer_id": "nobody"},
    {"card_id": "nobody"},
    {"merchant_id": "SM17"},
    {"min_probability": "0.999"},
    {"label": "fraud"},
    {"label": "none", "min_probability": "0.9"},
    {"outcome": "decline", "is_fraud": "true"},
    {"customer_id": "SC5", "since_us": "1", "label": "legitimate"},
)


def _questions(site: Site, _: int) -> Disturb:
    paths = [f"/decisions?{urlencode({**question, 'limit': '1000'})}" for question in QUESTIONS]
    analysts = [site.connect() for _ in paths]

    def ask(analyst: HTTPConnection, failed: list[str]) -> None:
        with closing(analyst):
            for path in paths:
                analyst.request("GET", path)
                answer = analyst.getresponse()
                answer.read()
                if answer.status != 200:
                    failed.append(f"{path}: {answer.status}")

    def disturb() -> None:
        failed: list[str] = []
        askers = [threading.Thread(target=ask, args=(one, failed)) for one in analysts]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        if failed:
            raise RuntimeError(f"/decisions failed: {failed[:3]}")

    return disturb


def _features(site: Site, _: int) -> Disturb:
    rows = [
        {"card_id": f"SK{i}", "customer_id": f"SC{i}", "merchant_id": f"SM{i}"}
        for i in range(site.sizes.rows)
    ]
    body = json.dumps({"rows": rows}).encode()
    return _posting(site, "/features/read", body)


def _batches(site: Site, number: int) -> Disturb:
    templates = read_templates(site.world.templates)
    bodies = []
    for half in range(2):
        prefix = f"batch-{site.mark}-{number}-{half}"
        first = site.sizes.decisions
        payments = b",".join(
            templates[n % len(templates)].body(n, prefix)
            for n in range(first, first + site.sizes.batch)
        )
        bodies.append(b'{"transactions":[' + payments + b"]}")
    sending = [_posting(site, "/predict/batch", body) for body in bodies]

    def disturb() -> None:
        problems: list[Exception] = []

        def send(batch: Disturb) -> None:
            try:
                batch()
            except Exception as error:  # noqa: BLE001 -- told by the thread that waits
                problems.append(error)

        senders = [threading.Thread(target=send, args=(batch,)) for batch in sending]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        if problems:
            raise problems[0]

    return disturb


def _plan_change(site: Site, number: int) -> Disturb:
    other = site.health()["feature_store"]["plan_hash"] == site.world.plans[0].hash
    return lambda: site.crown(f"{site.mark}-plan-{number}", other_plan=other)


def _champion(site: Site, number: int) -> Disturb:
    other = site.health()["feature_store"]["plan_hash"] != site.world.plans[0].hash
    return lambda: site.crown(f"{site.mark}-champion-{number}", other_plan=other)


def _snapshot(site: Site, _: int) -> Disturb:
    before = site.health()["ledger"]["snapshot_sequence"]

    def disturb() -> None:
        deadline = time.monotonic() + LONGEST_SECONDS
        while site.health()["ledger"]["snapshot_sequence"] == before:
            if time.monotonic() > deadline:
                raise RuntimeError("no snapshot was written")
            time.sleep(0.2)

    return disturb


def _hold_memory(size: int, touched: Event, let_go: Event) -> None:
    """In a process of its own: hold so many bytes until told to give them back."""
    held = np.ones(size, dtype=np.uint8)
    touched.set()
    let_go.wait(LONGEST_SECONDS)
    del held


def memory_given_back(site: Site) -> Disturb:
    """Another process ends and with it goes as much memory as the largest snapshot is long."""
    context = multiprocessing.get_context("spawn")
    touched, let_go = context.Event(), context.Event()
    files = (path for path in site.world.settings.state_dir.rglob("*") if path.is_file())
    size = max((path.stat().st_size for path in files), default=0) or 1 << 26
    holder = context.Process(target=_hold_memory, args=(size, touched, let_go), daemon=True)
    holder.start()
    if not touched.wait(LONGEST_SECONDS):
        raise RuntimeError(f"a process could not take {size:,} bytes of memory")

    def disturb() -> None:
        let_go.set()
        holder.join()
        time.sleep(site.sizes.aftermath_seconds)

    return disturb


SCENARIOS: Final[Mapping[str, tuple[str, Callable[[Site, int], Disturb]]]] = {
    "labels": ("labels about imported history", _labels),
    "decisions": ("eight analysts, eight filters each", _questions),
    "features": ("the largest question for features", _features),
    "batches": ("two batches at once", _batches),
    "plan_change": ("another plan takes over", _plan_change),
    "champion": ("a new champion takes over", _champion),
    "snapshot": ("a snapshot of the state", _snapshot),
}
"""By name: what happens, and what makes it ready. The last needs a server of its own, which writes
snapshots every few seconds; the first one writes none."""


@dataclass
class Seen:
    """What was measured of one scenario.

    Attributes:
        p50_ms, p99_ms, max_ms: One for each run.
        errors: Payments that failed, in all runs.
        seconds: How long the disturbance took, for each run.
        failed: Why the disturbance itself did not come through.
    """

    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    max_ms: list[float] = field(default_factory=list)
    errors: int = 0
    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, windows: Sequence[Window], seconds: float) -> None:
        """Take in a run."""
        latencies = [one for window in windows for one in window.latencies_ms] or [float("inf")]
        p50, p99 = np.percentile(latencies, (50, 99))
        self.p50_ms.append(float(p50))
        self.p99_ms.append(float(p99))
        self.max_ms.append(max(latencies))
        self.errors += sum(window.errors for window in windows)
        self.seconds.append(seconds)

    def result(self) -> dict[str, Any]:
        """Medians of the runs."""
        found: dict[str, Any] = {
            name: round(median(getattr(self, name)), 3) for name in ("p50_ms", "p99_ms", "max_ms")
        }
        found["errors"] = self.errors
        found["seconds"] = round(median(self.seconds), 2)
        if self.failed:
            found["failed"] = self.failed[0]
        return found


def disturbed(site: Site, seen: Seen, disturb: Disturb) -> None:
    """Send payments while something happens, until it is over and at least for one window."""
    windows: list[Window] = []
    took: list[float] = []

    def run() -> None:
        time.sleep(site.sizes.seconds / 4)
        began = time.perf_counter()
        try:
            disturb()
        except Exception as error:  # noqa: BLE001 -- reported with the figures
            seen.failed.append(str(error) or type(error).__name__)
        took.append(time.perf_counter() - began)

    happening = threading.Thread(target=run)
    happening.start()
    while True:
        windows.append(site.window(site.sizes.seconds))
        if not happening.is_alive():
            break
    happening.join()
    seen.add(windows, took[0])


def measure(
    world: World, runs: int, only: Sequence[str], told: Callable[[str], None]
) -> dict[str, Seen]:
    """Scenarios, so many times each.

    Under "quiet" what is seen when nothing happens, under "machine" while another process gives
    memory back.
    """
    seen = {"quiet": Seen(), "machine": Seen()}
    seen |= {name: Seen() for name in SCENARIOS if name in only}
    for often in (False, True):
        names = [name for name in seen if name in SCENARIOS and (name == "snapshot") == often]
        if often and not names:
            break
        pause = str(SNAPSHOT_SECONDS if often else NO_SNAPSHOT_SECONDS)
        server = Server(world.settings, environment={"SENTINEL_STATE__SNAPSHOT_SECONDS": pause})
        server.start(START_SECONDS)
        try:
            with Load(server.port, world.templates, world.sizes.rate) as load:
                site = Site(world, server, load)
                site.window(min(world.sizes.seconds, 2.0))  # connections, caches and pages warm up
                for run in range(runs):
                    if not often:
                        told(f"run {run + 1}: quiet")
                        seen["quiet"].add([site.window(world.sizes.seconds)], 0.0)
                        told(f"run {run + 1}: another process gives memory back")
                        disturbed(site, seen["machine"], memory_given_back(site))
                    for name in names:
                        told(f"run {run + 1}: {SCENARIOS[name][0]}")
                        disturbed(site, seen[name], SCENARIOS[name][1](site, run))
                        site.window(site.sizes.aftermath_seconds)
            server.stop(STOP_SECONDS)
        finally:
            server.kill()
    return seen


def verdicts(quiet: Mapping[str, Any], scenarios: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is not as it must be, a line for each."""
    p99 = P99_TIMES * quiet["p99_ms"]
    longest = quiet["max_ms"] + MAX_ADDED_MS
    found = [f"quiet: {quiet['errors']} payments failed"] if quiet["errors"] else []
    for name, seen in scenarios.items():
        if seen.get("failed"):
            found.append(f"{name}: {seen['failed']}")
        if seen["errors"]:
            found.append(f"{name}: {seen['errors']} payments failed")
        if seen["p99_ms"] > p99:
            found.append(f"{name}: p99 {seen['p99_ms']:.1f} ms, allowed are {p99:.1f}")
        if seen["max_ms"] > longest:
            found.append(f"{name}: longest {seen['max_ms']:.1f} ms, allowed are {longest:.1f}")
    return found


def _report(result: dict[str, Any], console: Console) -> None:
    table = Table(title="Single payments, ms", title_justify="left")
    table.add_column("while")
    for heading in ("p50", "p99", "longest", "errors", "took s", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    missed = {line.partition(":")[0] for line in result["missed"]}
    apart = {"quiet": result["quiet"], "(machine)": result["machine"]["memory_given_back"]}
    for name, seen in {**apart, **result["scenarios"]}.items():
        figures = [f"{seen[key]:,.1f}" for key in ("p50_ms", "p99_ms", "max_ms")]
        said = "" if name in apart else "failed" if name in missed else "pass"
        table.add_row(name, *figures, f"{seen['errors']}", f"{seen['seconds']:,.1f}", said)
    console.print(table)
    for line in result["missed"]:
        console.print(line, markup=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(prog="stalls", description=__doc__)
    parser.add_argument("--runs", type=int, default=None, help="default: 5; quick: 1")
    parser.add_argument("--quick", action="store_true", help="tiny; only errors are judged")
    parser.add_argument("--keep", type=Path, help="folder that the deployment stays in")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=list(SCENARIOS),
        metavar="NAMES",
        help=f"with commas between: {', '.join(SCENARIOS)}",
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON, too")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.only) - SCENARIOS.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    sizes = QUICK if arguments.quick else FULL
    runs = arguments.runs or (1 if arguments.quick else 5)
    errors = Console(stderr=True, highlight=False)

    def told(what: str) -> None:
        errors.print(what, markup=False)

    with tempfile.TemporaryDirectory(prefix="sentinel-stalls-") as scratch:
        world = open_world(arguments.keep or Path(scratch) / "world", sizes, told)
        before = os.getloadavg()
        seen = measure(world, runs, arguments.only, told)
    quiet, machine = seen.pop("quiet").result(), seen.pop("machine").result()
    scenarios = {name: one.result() for name, one in seen.items()}
    missed = verdicts(quiet, scenarios)
    result = {
        "quiet": quiet,
        "scenarios": scenarios,
        "missed": missed,
        "runs": runs,
        "sizes": vars(sizes),
        "machine": {
            "loadavg_before": before,
            "loadavg_after": os.getloadavg(),
            "memory_given_back": machine,
        },
    }
    console = Console(width=80, highlight=False)
    _report(result, console)
    if arguments.json:
        print(json.dumps(result))
    if arguments.quick:  # the figures mean nothing
        missed = [line for line in missed if "ms, allowed" not in line]
    return 1 if missed else 0
