"""`serving --profile production`: state in Redis, the ledger in PostgreSQL, beside embedded state.

One and two scorers with a Redis and a PostgreSQL of their own, one embedded scorer, and the strong
and the textbook stack, all up at once and visited in turns. CPU is that of all processes of a
stack, servers and indexers among them, by answered payment. Two scorers get half of the
connections each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
from rich.console import Console

from benchmarks.serving_bodies import write_templates
from benchmarks.serving_load import Load, cpu_seconds, wrk
from benchmarks.serving_stacks import (
    NEED_REDIS,
    START_SECONDS,
    Peer,
    Sentinel,
    Stack,
    redis_is_installed,
    sync_microseconds,
)
from sentinel.domain import SentinelError
from sentinel.ledger.open import open_shared
from sentinel.settings import Settings
from testkit.scratch import Server, make_workspace
from testkit.servers import MissingProgram, Postgres, Redis, wait_until
from testkit.shared_scorers import workspaces

CONNECTIONS: Final = (1, 8, 64)
ONE_SCORER: Final = "production"
TWO_SCORERS: Final = "production_two"
EMBEDDED: Final = "embedded"
_SLOW: Final = (1, 8)


class Production(Stack):
    """Scorers that share a Redis and a PostgreSQL of their own."""

    def __init__(self, name: str, folder: Path, scorers: int, trees: int, leaves: int) -> None:
        super().__init__(name, "nested")
        self._shape = (trees, leaves)
        self._folder = folder / name
        self._number = scorers
        self._redis = Redis(self._folder / "redis")
        self._postgres = Postgres(self._folder / "postgres")
        self._scorers: list[Server] = []
        self.settings: Settings

    @property
    def urls(self) -> list[str]:
        """Of the scorers."""
        return [scorer.url for scorer in self._scorers]

    def start(self) -> None:
        self._redis.start()
        self._postgres.start()
        trees, leaves = self._shape
        made = make_workspace(self._folder / "scorer-1", trees=trees, leaves=leaves)
        environment = {
            "SENTINEL_LEDGER__URL": self._postgres.make_database("sentinel"),
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": self._redis.url,
        }
        ledger = made.ledger.model_copy(update={"url": environment["SENTINEL_LEDGER__URL"]})
        state = made.state.model_copy(update={"backend": "redis"})
        self.settings = made.model_copy(update={"ledger": ledger, "state": state})
        for settings in workspaces(self._folder, made, self._number):
            scorer = Server(settings, environment=environment)
            self._scorers.append(scorer)
            scorer.start(START_SECONDS)
        self.port = self._scorers[0].port

    def stop(self) -> None:
        for scorer in self._scorers:
            scorer.kill()
        self._redis.kill()
        self._postgres.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def parts(self) -> dict[str, list[int]]:
        """Processes by what they are."""
        servers = {"redis": self._redis.process, "postgres": self._postgres.process}
        found = {name: [server.pid] for name, server in servers.items() if server is not None}
        return {**found, "scorers": [scorer.pid for scorer in self._scorers]}

    def roots(self) -> list[int]:
        return [pid for pids in self.parts().values() for pid in pids]

    def log(self) -> str:
        return "\n".join(s.log.read_text(errors="replace")[-4000:] for s in self._scorers)

    def settle(self) -> None:
        """Wait until nobody looks after anything any more, and the queryable tables hold all."""
        wait_until(lambda: all(map(_is_calm, self.urls)), 120, "the scorers to be done")

    def recorded(self) -> int | None:
        with open_shared(self.settings) as ledger:
            return ledger.last_sequence()


def _is_calm(url: str) -> bool:
    found = {}
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        name, _, value = line.rpartition(" ")
        found[name] = value
    behind = found.get("sentinel_repairs_pending", "0")
    return float(behind) == 0


@dataclass
class Seen:
    """What was measured of a stack with so many connections.

    Attributes:
        rate: Payments a second.
        cpu_us: Of all processes, by payment.
        p50_ms, p99_ms: Latencies.
        parts: The CPU by what the processes are, where a stack has several.
    """

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass
class Books:
    """Answers that were errors, and decisions that are not in the log or there too often."""

    errors: int = 0
    not_recorded: int = 0
    recorded_twice: int = 0


def window(stack: Stack, templates: Path, seconds: int, connections: int, books: Books) -> Seen:
    """A stack under load for some seconds."""
    urls = stack.urls if isinstance(stack, Production) else [stack.url]
    urls = urls[: max(1, min(len(urls), connections))]
    parts = stack.parts() if isinstance(stack, Production) else {}
    before = {name: cpu_seconds(pids) for name, pids in parts.items()}
    cpu, recorded = stack.cpu_seconds(), stack.recorded()
    each = connections // len(urls)
    loads: list[Load | None] = [None] * len(urls)

    def send(place: int) -> None:
        loads[place] = wrk(
            urls[place],
            templates,
            prefix=f"{stack.name}-{place}",
            first=stack.sent,
            connections=each,
            seconds=seconds,
        )

    threads = [threading.Thread(target=send, args=(place,)) for place in range(len(urls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [load for load in loads if load is not None]
    assert len(found) == len(urls), "a client failed"
    stack.settle()
    answered = sum(load.requests for load in found)
    stack.take(max(load.requests for load in found) + each + 1)
    books.errors += sum(load.errors for load in found)
    after = stack.recorded()
    if recorded is not None and after is not None:
        books.not_recorded += max(answered - (after - recorded), 0)
        books.recorded_twice += max(after - recorded - answered - connections - len(urls), 0)
    spent = stack.cpu_seconds() - cpu
    each_payment = 1e6 / max(answered, 1)
    return Seen(
        rate=sum(load.rate for load in found),
        cpu_us=spent * each_payment,
        p50_ms=median(load.p50_us for load in found) / 1e3,
        p99_ms=max(load.p99_us for load in found) / 1e3,
        parts={n: (cpu_seconds(pids) - before[n]) * each_payment for n, pids in parts.items()},
    )


def stacks(folder: Path, *, small_models: bool) -> list[Stack]:
    """What is compared, not started."""
    trees, leaves = (20, 15) if small_models else (200, 31)
    shape = ("--trees", str(trees), "--leaves", str(leaves))
    store = ("--folder", str(folder / "feast"))
    return [
        Sentinel(EMBEDDED, folder, trees, leaves),
        Production(ONE_SCORER, folder, 1, trees, leaves),
        Production(TWO_SCORERS, folder, 2, trees, leaves),
        Peer("textbook", "flat", folder, redis=True, arguments=store),
        Peer("strong", "flat", folder, redis=True, arguments=shape),
    ]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Start all stacks, measure, stop them."""
    if not redis_is_installed():
        raise MissingProgram("The benchmark needs redis-server; as root: apt-get install redis")
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-production-", dir=options.folder))
    folder.chmod(0o755)
    wanted = options.stacks.split(",") if options.stacks else None
    books = Books()
    seen: dict[tuple[str, int], list[Seen]] = {}
    try:
        write_templates(folder, number=2_000 if options.quick else 20_000)
        with (
            contextlib.ExitStack() as running,
            Console(stderr=True).status("starting") as status,
        ):
            chosen = [
                stack
                for stack in stacks(folder, small_models=options.quick)
                if wanted is None or stack.name in wanted
            ]
            for stack in chosen:
                status.update(f"starting {stack.name}")
                running.callback(stack.stop)
                stack.start()
            try:
                for number in range(options.rounds + 1):
                    for stack in chosen:
                        slow = stack.name in NEED_REDIS
                        for connections in _SLOW if slow else CONNECTIONS:
                            status.update(f"round {number}: {stack.name}, {connections}")
                            templates = folder / f"{stack.layout}.txt"
                            found = window(stack, templates, options.seconds, connections, books)
                            if number:  # the first one warms up
                                seen.setdefault((stack.name, connections), []).append(found)
            except (SentinelError, RuntimeError, TimeoutError):
                for stack in chosen:
                    print(f"--- {stack.name}\n{stack.log()}", file=sys.stderr)
                raise
            sync_us = sync_microseconds(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "ratios": _ratios(seen),
        "raw": {f"{name}_{c}": _raw(windows) for (name, c), windows in seen.items()},
        "checks": vars(books),
        "settings": {
            "rounds": options.rounds,
            "seconds": options.seconds,
            "models": "small" if options.quick else "200x31",
        },
        "machine": {
            "cpus": os.cpu_count(),
            "loadavg_before": before,
            "loadavg_after": os.getloadavg(),
            "sync_us": round(sync_us),
        },
    }


def _raw(windows: Sequence[Seen]) -> dict[str, Any]:
    parts = windows[0].parts
    return {
        "payments_per_second": round(median(w.rate for w in windows)),
        "cpu_us": round(median(w.cpu_us for w in windows), 1),
        "p50_ms": round(median(w.p50_ms for w in windows), 3),
        "p99_ms": round(median(w.p99_ms for w in windows), 3),
        **{f"{n}_cpu_us": round(median(w.parts[n] for w in windows), 1) for n in parts},
    }


def _ratios(seen: dict[tuple[str, int], list[Seen]]) -> dict[str, float]:
    """Medians of the rounds' ratios."""
    found: dict[str, float] = {}

    def compare(name: str, value: str, one: tuple[str, int], other: tuple[str, int]) -> None:
        if one in seen and other in seen:
            pairs = zip(seen[one], seen[other], strict=True)
            found[name] = round(median(getattr(a, value) / getattr(b, value) for a, b in pairs), 3)

    for connections in (8, 64):
        one, other = (ONE_SCORER, connections), (EMBEDDED, connections)
        compare(f"production_rps_{connections}_vs_embedded", "rate", one, other)
        two = (TWO_SCORERS, connections)
        compare(f"production_two_rps_{connections}_vs_one", "rate", two, one)
    compare("production_cpu_vs_embedded", "cpu_us", (ONE_SCORER, 8), (EMBEDDED, 8))
    compare("production_cpu_64_vs_embedded", "cpu_us", (ONE_SCORER, 64), (EMBEDDED, 64))
    for peer in NEED_REDIS:
        compare(f"production_rps_8_vs_{peer}", "rate", (ONE_SCORER, 8), (peer, 8))
        compare(f"production_cpu_vs_{peer}", "cpu_us", (ONE_SCORER, 8), (peer, 8))
    alone = seen.get((ONE_SCORER, 1))
    if alone:
        found["production_p50_ms"] = round(median(w.p50_ms for w in alone), 3)
    return found


def print_production(result: dict[str, Any]) -> None:
    """The result as a table of 80 columns."""
    print(f"{'':24}{'payments/s':>11}{'CPU us':>9}{'p50 ms':>8}{'p99 ms':>8}  CPU us by process")
    for name, raw in result["raw"].items():
        parts = " ".join(
            f"{key.removesuffix('_cpu_us')} {value:.0f}"
            for key, value in raw.items()
            if key.endswith("_cpu_us")
        )
        print(
            f"{name:24}{raw['payments_per_second']:>11,}{raw['cpu_us']:>9.0f}"
            f"{raw['p50_ms']:>8.2f}{raw['p99_ms']:>8.2f}  {parts}"
        )
    for name, value in result["ratios"].items():
        print(f"{name:40}{value:>8.3f}")
    print(", ".join(f"{name} {value}" for name, value in result["checks"].items()))
