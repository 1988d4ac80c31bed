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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

import httpx
from filelock import FileLock, Timeout
from rich.table import Table

from sentinel.access.opening import check_exposure, has_keys
from sentinel.access.own_key import OwnKey
from sentinel.cli.console import err, out
from sentinel.cli.first_run import WORLD_CUSTOMERS, WORLD_DAYS, FirstRun
from sentinel.cli.processes import Child, Stack
from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.settings import Settings

_LEAST_FREE_BYTES: Final = 1 << 30
_READY_SECONDS: Final = 600.0
"""Kernels are compiled at the first start, which takes minutes where others use the processors."""
_WATCH_SECONDS: Final = 1.0


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
    from sentinel.models.registry_owner import check_own_server
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
        check_own_server(settings)  # the answer may be that of a server that began meanwhile
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
    check_own_server(settings)
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
        ConfigurationError: One is taken, that of MLflow perhaps by another workspace's server.
    """
    from sentinel.models.registry_owner import check_own_server

    check_own_server(settings)
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
