"""`sentinel up`: everything on one machine, from an empty folder to live decisions.

The first run makes history, features and a model, one stage after the other; a stage that is
done is never done again, so a run that was interrupted goes on where it was. Every run then
starts the services and watches them until Ctrl-C.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

import httpx
import msgspec
from filelock import FileLock, Timeout
from rich.table import Table

from sentinel.access.opening import check_exposure, has_keys
from sentinel.access.own_key import OwnKey
from sentinel.cli.console import err, out
from sentinel.cli.processes import Child, Stack
from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.ledger.open import ledger_exists, ledger_name, open_reader
from sentinel.settings import Settings

_LEAST_FREE_BYTES: Final = 1 << 30
_READY_SECONDS: Final = 600.0
"""Kernels are compiled at the first start, which takes minutes where others use the processors."""
_EXPLORING_MINOR: Final = 100_000
"""What the control group of a simulated world may cost in 30 days."""
_WATCH_SECONDS: Final = 1.0

WORLD_CUSTOMERS: Final = 2600
WORLD_DAYS: Final = 180.0
"""Size of the simulated world, unless the caller has other wishes."""


class Progress(msgspec.Struct, kw_only=True):
    """Which stages of the first run are done.

    Attributes:
        data: The mapping file whose data this workspace holds; empty: simulated.
        stages: Names of the finished stages.
        seconds: How long each took.
    """

    data: str = ""
    stages: list[str] = []
    seconds: dict[str, float] = {}

    @property
    def shares(self) -> str:
        """What took how long until there was a champion, in a line."""
        whole = sum(self.seconds.values())
        parts = ", ".join(
            f"{stage} {seconds:.0f} s ({seconds / max(whole, 1e-9):.0%})"
            for stage, seconds in self.seconds.items()
        )
        return f"From data to a champion in {whole:.0f} s: {parts}."


class FirstRun:
    """The stages that turn an empty workspace into one that can serve.

    Args:
        settings: The workspace.
        data: Mapping file of the user's own data; None to simulate.
        customers, days: Size of the simulated world.
        now_us: The clock, microseconds UTC: where live traffic is to arrive.
    """

    def __init__(
        self, settings: Settings, data: Path | None, customers: int, days: float, now_us: int
    ) -> None:
        self.settings = settings
        self._data = data
        self._customers = customers
        self._days = days
        self._now_us = now_us
        self._path = settings.workspace / "up.json"
        self._progress = self._load()

    @property
    def simulated(self) -> bool:
        return not self._progress.data

    @property
    def complete(self) -> bool:
        return "promoted" in self._progress.stages

    @property
    def measured(self) -> bool:
        """Whether the champion's baselines were measured and lengths of history compared."""
        return "measured" in self._progress.stages

    def remember_measured(self) -> None:
        """Do not measure again at the next start."""
        self._once("measured", lambda: None)

    def check(self) -> None:
        """See that the mapping file and its data can be read, before anything is started.

        Raises:
            ConfigurationError: They cannot.
        """
        from sentinel.sources.registry import open_source

        if self._data is not None and "imported" not in self._progress.stages:
            open_source(self._data)

    def prepare(self) -> None:
        """Import, apply and backfill, as far as that was not done before."""
        self._once("imported", self._import)
        self._once("applied", self._apply)
        self._once("backfilled", self._backfill)

    def train(self) -> None:
        """Train, pass the gate and promote; needs MLflow."""
        self._once("trained", self._train)
        self._once("promoted", self._promote)
        if self.simulated:
            self._once("explored", self._explore)
        out.print(self._progress.shares, soft_wrap=True)

    def _load(self) -> Progress:
        wanted = str(self._data.resolve()) if self._data is not None else ""
        try:
            progress = msgspec.json.decode(self._path.read_bytes(), type=Progress)
        except FileNotFoundError:
            return Progress(data=wanted)
        except msgspec.DecodeError:
            raise WorkspaceError(
                f"{self._path} is damaged. Run `sentinel reset --workspace "
                f"{self.settings.workspace}` to start over."
            ) from None
        if progress.data != wanted:
            held = progress.data or "simulated data"
            raise WorkspaceError(
                f"The workspace {self.settings.workspace} holds {held}. Use another one: "
                "`sentinel up --workspace FOLDER`."
            )
        return progress

    def _once(self, stage: str, job: Callable[[], None]) -> None:
        if stage in self._progress.stages:
            return
        began = time.monotonic()
        job()
        if stage != "measured":
            self._progress.seconds[stage] = time.monotonic() - began
        self._progress.stages.append(stage)
        partial = self._path.with_suffix(".partial")
        partial.write_bytes(msgspec.json.encode(self._progress))
        partial.replace(self._path)

    def _import(self) -> None:
        from sentinel.cli.importing import ALLOWED_REJECTS, import_and_report
        from sentinel.cli.traffic import remember, world_before
        from sentinel.pipeline.importing import import_history
        from sentinel.sources.registry import open_source
        from sentinel.sources.simulator import SimulatorSource

        self._discard_half_import()
        if self._data is not None:
            source = open_source(self._data)
            now_us = self._now_us
        else:
            config = world_before(self._now_us, customers=self._customers, days=self._days)
            remember(self.settings, config)
            source = SimulatorSource(config)
            now_us = config.end_us
        import_and_report(
            lambda progress: import_history(
                self.settings,
                source,
                now_us=now_us,
                allow_rejects=ALLOWED_REJECTS,
                progress=progress,
            )
        )

    def _discard_half_import(self) -> None:
        """A first import that was interrupted left an incomplete log: nothing was served yet."""
        if "imported" in self._progress.stages or not ledger_exists(self.settings):
            return
        if self.settings.ledger.url:
            self._refuse_entries_of_others()
            return
        if (self.settings.models_dir / "champion.json").exists():
            raise WorkspaceError(
                f"The workspace {self.settings.workspace} was filled by other commands. Serve it "
                "with `sentinel serve`, or use another workspace."
            )
        err.print("The last import was interrupted; it starts over.")
        for path in self.settings.workspace.glob("ledger.db*"):
            if path.suffix != ".lock":
                path.unlink()
        for path in self.settings.workspace.glob("index.db*"):
            path.unlink()

    def _refuse_entries_of_others(self) -> None:
        """A database may be shared: what it holds is not for a first run to delete."""
        with open_reader(self.settings) as ledger:
            entries = ledger.last_sequence()
        if entries:
            raise WorkspaceError(
                f"The ledger {ledger_name(self.settings)} holds {entries:,} entries already, from "
                "a first import that was cut short or from elsewhere. Serve it with `sentinel "
                "serve`, delete it with `sentinel reset --ledger`, or set another "
                "SENTINEL_LEDGER__NAMESPACE."
            )

    def _apply(self) -> None:
        from sentinel.pipeline.apply import apply_definitions
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            applied = apply_definitions(self.settings, progress=progress)
        if applied.installed is not None:
            out.print(str(applied.installed), soft_wrap=True, markup=False)
        out.print(
            f"Plan {applied.plan.hash}: {len(applied.plan.feature_names)} features over "
            f"{len(applied.plan.views)} views."
        )

    def _backfill(self) -> None:
        from sentinel.pipeline.backfill import backfill
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            done = backfill(self.settings, progress=progress)
        out.print(f"Backfilled {done.new_rows:,} vectors in {done.seconds:.1f} s.")

    def _train(self) -> None:
        from sentinel.cli.reports import training_report
        from sentinel.pipeline.training import train
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            # Baselines, lengths of history and a refit come once the champion serves.
            trained = train(
                self.settings, baselines=False, search=False, refitted=False, progress=progress
            )
        training_report(out, trained)

    def _promote(self) -> None:
        from sentinel.pipeline.promotion import promote
        from sentinel.sources.progress import progress_bar

        with progress_bar(err) as progress:
            promoted = promote(self.settings, progress=progress)
        out.print(
            f"Version {promoted.version} is the champion; {promoted.scored:,} historic "
            "transactions have an answer."
        )

    def _explore(self) -> None:
        """Allow a control group: its money is made up, as everything of this world is."""
        from sentinel.pipeline.policies import apply
        from sentinel.policy.versions import Exploring, Terms

        made, workings = apply(
            self.settings,
            Terms(exploring=Exploring(budget_minor=_EXPLORING_MINOR)),
            by="sentinel up",
            why="a simulated world, whose money is nobody's",
        )
        out.print(
            f"A control group lets {100 * made.share:.2f} % of what is stopped through: "
            f"{workings.explored_a_month:,.1f} payments a month (`sentinel policy show`)."
        )


def up(
    settings: Settings,
    *,
    data: Path | None = None,
    customers: int = WORLD_CUSTOMERS,
    days: float = WORLD_DAYS,
    traffic: bool = True,
    speed: float | None = None,
) -> None:
    """Bring everything up and keep it up until SIGINT or SIGTERM.

    Args:
        settings: The workspace and the ports.
        data: Mapping file of the user's own data; None to simulate.
        customers, days: Size of the simulated world of a first run.
        traffic: Whether to play live traffic (simulated data only).
        speed: How many times faster than it happens; None for what `sentinel.cli.traffic` chooses.

    Raises:
        ConfigurationError: A port is taken, the disk is nearly full, a service does not start, or
            others than this machine could call while there is no key.
        WorkspaceError: The workspace is in use, or holds other data.
    """
    settings.workspace.mkdir(parents=True, exist_ok=True)
    with _alone(settings), _stopping() as stop:
        check_exposure(settings, has_keys=has_keys(settings))
        _check_disk(settings.workspace)
        first = FirstRun(settings, data, customers, days, time.time_ns() // 1000)
        first.check()
        check_ports(settings)
        stack = Stack()
        try:
            _run(settings, first, stack, stop, traffic=traffic, speed=speed)
        finally:
            # A second Ctrl-C must not leave children behind.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            err.print("Stopping ...")
            stack.stop()


def _run(
    settings: Settings,
    first: FirstRun,
    stack: Stack,
    stop: threading.Event,
    *,
    traffic: bool,
    speed: float | None,
) -> None:
    from sentinel.pipeline.signing import adopt_what_serves
    from sentinel.pipeline.workspace import close_to_others

    closed = close_to_others(settings.workspace)
    if closed:
        err.print(f"Others could read {closed:,} files of the workspace; they are yours alone now.")
    for version in adopt_what_serves(settings):
        err.print(
            f"Version {version} was promoted before models were signed; it is signed now as it "
            "lies here."
        )
    mlflow = stack.start(_mlflow(settings))
    if not first.complete:
        first.prepare()
        mlflow.wait_ready(_READY_SECONDS)
        first.train()
    err.print("Starting the scoring API, the dashboard and MLflow ...")
    services = [_api(settings), _dashboard(settings), _follower(settings), _monitor(settings)]
    for child in services:
        stack.start(child)
    services[0].wait_ready(_READY_SECONDS)
    if traffic and first.simulated:
        stack.start(_traffic(settings, speed))
    for child in (mlflow, *services):
        child.wait_ready(_READY_SECONDS)
    _print_addresses(settings, traffic=traffic and first.simulated)
    measuring = None if first.measured else stack.start(_measuring(settings))
    while not stop.wait(_WATCH_SECONDS):
        if measuring is not None and measuring.done:
            first.remember_measured()
            measuring = None
        for line in stack.revive():
            err.print(line)


@contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    lock = FileLock(settings.workspace / "up.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise WorkspaceError(
            f"`sentinel up` already runs in {settings.workspace}. See `sentinel status`."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; before the services run they interrupt the work."""
    stop = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt

    previous = [(s, signal.signal(s, interrupt)) for s in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield stop
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in previous:
            signal.signal(number, handler)


def _check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _LEAST_FREE_BYTES:
        raise ConfigurationError(
            f"Only {free / 1e9:.1f} GB are free at {folder.resolve()}; Sentinel needs 1 GB. Free "
            "some space, or name a folder on another disk with --workspace."
        )


def check_ports(settings: Settings) -> None:
    """See that the ports of all services are free.

    Raises:
        ConfigurationError: One is taken.
    """
    for port, name in (
        (settings.api.port, "api"),
        (settings.mlflow.port, "mlflow"),
        (settings.dashboard.port, "dashboard"),
        (settings.monitor.port, "monitor"),
    ):
        _check_port(port, name)


def _check_port(port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigurationError(
                f"Port {port} is in use by another program. Stop it, or set "
                f"SENTINEL_{name.upper()}__PORT to a free port."
            ) from None


def _environment(settings: Settings) -> dict[str, str]:
    """So that every child has this run's settings, whatever folder names them."""
    return {
        "SENTINEL_WORKSPACE": str(settings.workspace.resolve()),
        "SENTINEL_FEATURE_STORE": str(settings.definitions_dir.resolve()),
        "SENTINEL_API__PORT": str(settings.api.port),
        "SENTINEL_MLFLOW__PORT": str(settings.mlflow.port),
        "SENTINEL_DASHBOARD__PORT": str(settings.dashboard.port),
        "SENTINEL_MONITOR__PORT": str(settings.monitor.port),
        "PYTHONUNBUFFERED": "1",
    }


def _child(settings: Settings, name: str, command: list[str], url: str = "") -> Child:
    return Child(
        name=name,
        command=command,
        log=settings.workspace / "logs" / f"{name}.log",
        url=url,
        environment=_environment(settings),
    )


def _mlflow(settings: Settings) -> Child:
    command = [sys.executable, "-m", "sentinel", "mlflow"]
    return _child(settings, "mlflow", command, f"{settings.tracking_uri}/health")


def _api(settings: Settings) -> Child:
    url = f"http://{settings.api.host}:{settings.api.port}/readyz"
    return _child(settings, "api", [sys.executable, "-m", "sentinel", "serve"], url)


def _dashboard(settings: Settings) -> Child:
    url = f"http://{settings.dashboard.host}:{settings.dashboard.port}/_stcore/health"
    command = [sys.executable, "-m", "sentinel", "dashboard"]
    return _child(settings, "dashboard", command, url)


def _follower(settings: Settings) -> Child:
    return _child(settings, "follower", [sys.executable, "-m", "sentinel.pipeline.follow"])


def _monitor(settings: Settings) -> Child:
    url = f"http://{settings.monitor.host}:{settings.monitor.port}/healthz"
    return _child(settings, "monitor", [sys.executable, "-m", "sentinel.pipeline.monitor"], url)


def _measuring(settings: Settings) -> Child:
    command = [sys.executable, "-m", "sentinel.pipeline.afterwards"]
    return replace(_child(settings, "measuring", command), ends=True)


def _traffic(settings: Settings, speed: float | None) -> Child:
    command = [sys.executable, "-m", "sentinel", "simulate"]
    if speed is not None:
        command += ["--speed", str(speed)]
    return _child(settings, "traffic", command)


def _access(settings: Settings, status: int) -> tuple[str, str]:
    """Who may call the scoring API, and what to know of it."""
    if not has_keys(settings):
        return "this machine, without a key", "`sentinel keys create` asks for one"
    if status == httpx.codes.OK:
        return "with a key", "`sentinel keys list`"
    return "with a key", "tools here have none: `sentinel keys create tools --for-tools`"


def _print_addresses(settings: Settings, *, traffic: bool) -> None:
    answer = httpx.get(
        f"http://{settings.api.host}:{settings.api.port}/health",
        headers=OwnKey(settings).headers(),
        timeout=10,
    )
    table = Table(title="Sentinel is up", show_header=False, title_justify="left")
    api = f"http://{settings.api.host}:{settings.api.port}"
    table.add_row("Scoring API", api, "POST /predict")
    table.add_row("API documentation", f"{api}/docs", "try it there")
    dashboard = f"http://{settings.dashboard.host}:{settings.dashboard.port}"
    login = httpx.get(f"{dashboard}/login", timeout=10).status_code == httpx.codes.OK
    table.add_row("Dashboard", dashboard, "asks for a login" if login else "live decisions")
    table.add_row("MLflow", settings.tracking_uri, "experiments and models")
    if answer.status_code == httpx.codes.OK:
        model = answer.json()["model"]
        kind = "provisional" if model.get("provisional") else str(model["kind"])
        table.add_row("Model", f"{model['name']} version {model['version']}", kind)
    table.add_row("Access", *_access(settings, answer.status_code))
    what = "the last days quickly, then as it happens" if traffic else ""
    table.add_row("Live traffic", "playing" if traffic else "off", what)
    table.add_row("Logs", str(settings.workspace / "logs"), "")
    out.print(table)
    if not login:
        out.print(
            "Everybody on this machine may see the dashboard; `sentinel users create NAME` adds a "
            "login.",
            soft_wrap=True,
            markup=False,
        )
    out.print("Ctrl-C stops everything; the next start takes seconds.")
    if os.environ.get("SENTINEL_DEBUG"):
        out.print(f"pid {os.getpid()}")
