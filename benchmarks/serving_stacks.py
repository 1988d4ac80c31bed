"""What `serving` measures: each stack started as it would run, with all of its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from redis import Redis, RedisError

from benchmarks.serving_bodies import Layout, read_templates
from benchmarks.serving_load import cpu_seconds
from sentinel.experiments.lineup import Experiment
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.settings import Settings
from testkit.experiments import install_version, run_experiments
from testkit.ports import free_port
from testkit.scratch import REPOSITORY, Server, default_plan, make_workspace

START_SECONDS = 600.0
SHADOWS = "sentinel_200x31_shadows"
"""The Sentinel with further models beside its champion, if there is one."""
_REDIS_OPTIONS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
FEATURE_STORE = REPOSITORY / "feature_store"


class Stack:
    """A stack, running.

    Args:
        name: In reports.
        layout: Of the bodies it takes.
    """

    def __init__(self, name: str, layout: Layout) -> None:
        self.name = name
        self.layout = layout
        self.port = free_port()
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, payments: int) -> int:
        """The number of the first of so many payments that nobody has sent yet."""
        first = self.sent
        self.sent += payments
        return first

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def roots(self) -> list[int]:
        """Processes whose time, with that of their children, is the stack's."""
        raise NotImplementedError

    def log(self) -> str:
        """The end of what its processes wrote."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until nothing of what was sent is still worked on."""

    def recorded(self) -> int | None:
        """Decisions kept durably; None: the stack keeps none."""
        return None

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.roots())


class Peer(Stack):
    """A module of `benchmarks.peers`, with a Redis of its own if it wants one."""

    def __init__(
        self,
        name: str,
        layout: Layout,
        folder: Path,
        *,
        redis: bool = False,
        arguments: tuple[str, ...] = (),
    ) -> None:
        super().__init__(name, layout)
        self._folder = folder / name
        self._arguments = arguments
        self._redis_port = free_port() if redis else None
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / "log"
        arguments = [*self._arguments, "--port", str(self.port)]
        if self._redis_port is not None:
            self._spawn(
                ["redis-server", "--port", str(self._redis_port), *_REDIS_OPTIONS],
                log,
            )
            redis_port = self._redis_port
            _wait(lambda: Redis(port=redis_port).ping() is True, log)
            arguments += ["--redis", str(self._redis_port)]
        self._spawn([sys.executable, "-m", f"benchmarks.peers.{self.name}", *arguments], log)
        template = read_templates(self._folder.parent / f"{self.layout}.txt")[0]
        _wait(lambda: _answers(f"{self.url}/predict", template.body(0, "ready")), log)

    def _spawn(self, command: list[str], log: Path) -> None:
        with log.open("ab") as output:
            self._processes.append(
                subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            )

    def stop(self) -> None:
        while self._processes:
            process = self._processes.pop()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def roots(self) -> list[int]:
        return [process.pid for process in self._processes]

    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]


class Sentinel(Stack):
    """The product: a scorer with its indexer and durable ledger, a model and the default plan.

    Args:
        name: In reports.
        folder: For whatever it writes.
        trees, leaves: How large each of its models is.
        reasons: Whether decisions are explained.
        shadows: Further models of that size and plan that score all payments and decide on none.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        trees: int,
        leaves: int,
        *,
        reasons: bool = True,
        shadows: int = 0,
    ) -> None:
        super().__init__(name, "nested")
        self._shadows = shadows
        self._trees, self._leaves, self._reasons = trees, leaves, reasons
        self._folder = folder / name
        self._server: Server | None = None
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        assert self._settings is not None
        return self._settings

    def start(self) -> None:
        made = self._folder.parent / f"made-{self._trees}x{self._leaves}"
        if not made.exists():
            make_workspace(made, trees=self._trees, leaves=self._leaves)
        shutil.copytree(made, self._folder)
        self._settings = Settings(workspace=self._folder, feature_store=FEATURE_STORE)
        self._run_shadows()
        reasons = "true" if self._reasons else "false"
        self._server = Server(
            self.settings, port=self.port, environment={"SENTINEL_SCORING__REASONS": reasons}
        )
        self._server.start(START_SECONDS)
        said = httpx.get(f"{self.url}/health", timeout=30).raise_for_status().json()
        running = [one["name"] for one in said["experiments"] if one["problem"] is None]
        if len(running) != self._shadows:
            raise RuntimeError(f"Not all models score beside the champion: {said['experiments']}")

    def _run_shadows(self) -> None:
        if not self._shadows:
            return
        versions = [str(number) for number in range(11, 11 + self._shadows)]
        for version in versions:
            install_version(
                self.settings, default_plan(), version, trees=self._trees, leaves=self._leaves
            )
        shadows = [Experiment(name=f"shadow-{v}", kind="shadow", version=v) for v in versions]
        run_experiments(self.settings, *shadows)

    def stop(self) -> None:
        if self._server is not None:
            self._server.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def roots(self) -> list[int]:
        assert self._server is not None
        return [self._server.pid]

    def log(self) -> str:
        assert self._server is not None
        return self._server.log.read_text(errors="replace")[-4000:]

    def settle(self) -> None:
        """Wait until the queryable tables hold all decisions: making them counts, too."""
        # Answered in the order of arrival, so after whatever clients that hung up have sent.
        template = read_templates(self._folder.parent / "nested.txt")[0]
        _answers(f"{self.url}/predict?dry_run=true", template.body(0, "settle"))
        with SqliteLedger.open_reader(self.settings.ledger_path) as ledger:
            index = LedgerIndex(self.settings.index_path, ledger)
            with contextlib.closing(index):
                deadline = time.monotonic() + 60
                while index.indexed_through < ledger.last_sequence():
                    if time.monotonic() > deadline:
                        raise RuntimeError("The index does not catch up with the ledger.")
                    time.sleep(0.05)

    def recorded(self) -> int | None:
        with SqliteLedger.open_reader(self.settings.ledger_path) as ledger:
            return ledger.last_sequence()


def stacks(folder: Path, *, small_models: bool = False, shadows: int = 0) -> list[Stack]:
    """All stacks of the benchmark, not started; templates must be in the folder.

    Args:
        folder: For whatever they write.
        small_models: Train in a second, for runs whose figures mean nothing.
        shadows: Of one more Sentinel; 0 for none.
    """
    small, large = ((20, 15), (30, 31)) if small_models else ((200, 31), (300, 64))
    shape = ("--trees", str(small[0]), "--leaves", str(small[1]))
    store = ("--folder", str(folder / "feast"))
    beside = [Sentinel(SHADOWS, folder, *small, shadows=shadows)] if shadows else []
    return [
        *beside,
        Peer("empty_asgi", "nested", folder),
        Peer("empty_fastapi", "flat", folder),
        Sentinel("sentinel_no_reasons", folder, *small, reasons=False),
        Sentinel("sentinel_200x31", folder, *small),
        Sentinel("sentinel_300x64", folder, *large),
        Peer("textbook", "flat", folder, redis=True, arguments=store),
        Peer("strong", "flat", folder, redis=True, arguments=shape),
    ]


NEED_REDIS = ("textbook", "strong")


def redis_is_installed() -> bool:
    return shutil.which("redis-server") is not None


def sync_microseconds(folder: Path, rounds: int = 100) -> float:
    """Median time of appending 4 KiB to a file and syncing it: what durability costs here."""
    path = folder / "sync"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(rounds):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    path.unlink()
    return sorted(times)[rounds // 2] * 1e6


def _answers(url: str, body: bytes) -> bool:
    headers = {"content-type": "application/json"}
    answer = httpx.post(url, content=body, headers=headers, timeout=30)
    if answer.status_code == 422:
        raise RuntimeError(answer.text)
    return answer.status_code == 200


def _wait(test: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, RedisError):
            if test():
                return
        time.sleep(0.05)
    raise RuntimeError(f"A stack did not start:\n{log.read_text()[-4000:]}")
