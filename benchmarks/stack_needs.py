"""What the `stack` benchmark needs, looked at before anything is started."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import psutil

from sentinel.state.redis.wire import OLDEST_VERSION
from testkit.airflow_server import VENV
from testkit.ports import free_port
from testkit.servers import MissingProgram, needed, program

PORTS: Final = 12
_GB: Final = 1 << 30
_MEMORY: Final = {False: 6 * _GB, True: 2 * _GB}
_DISK: Final = {False: 4 * _GB, True: 1 * _GB}


def missing(folder: Path | None, *, shared_only: bool) -> list[str]:
    """Everything that is missing, a line for each; empty if the benchmark can start.

    Args:
        folder: Where it is going to work; None for the temporary folder.
        shared_only: Without S3, MLflow and Airflow.
    """
    place = folder or Path(tempfile.gettempdir())
    return [*_programs(shared_only), *_room(place, shared_only)]


def _programs(shared_only: bool) -> Iterator[str]:
    looked_for: list[Callable[[], str]] = [
        lambda: program("initdb"),
        lambda: program("postgres"),
        lambda: needed("redis-server", "apt-get install redis-server"),
    ]
    if os.geteuid() == 0:
        looked_for.append(lambda: needed("setpriv", "apt-get install util-linux"))
    if not shared_only:
        looked_for.append(lambda: needed("rclone", "make install", Path(sys.prefix) / "bin"))
    for look in looked_for:
        try:
            found = look()
        except MissingProgram as error:
            yield str(error)
            continue
        if found.endswith("redis-server"):
            yield from _old_redis(found)
    if shared_only:
        return
    for module in ("mlflow", "feast"):
        if importlib.util.find_spec(module) is None:
            yield f"{module} is not installed: make install"
    if not (VENV / "bin" / "airflow").exists():
        yield f"Airflow's environment {VENV} is not there: make airflow"


def _old_redis(path: str) -> Iterator[str]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < OLDEST_VERSION:
        least = ".".join(map(str, OLDEST_VERSION))
        yield f"{path} is too old ({said.strip()}): Redis {least} or newer is needed"


def _room(folder: Path, shared_only: bool) -> Iterator[str]:
    memory, least = psutil.virtual_memory().available, _MEMORY[shared_only]
    if memory < least:
        yield f"{memory / _GB:.1f} GB of memory are available, {least / _GB:.0f} GB are needed"
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield f"{folder} is no folder that can be written to: name another one with --folder"
        return
    disk, least = shutil.disk_usage(folder).free, _DISK[shared_only]
    if disk < least:
        yield f"{folder} has {disk / _GB:.1f} GB free, {least / _GB:.0f} GB are needed"
    try:
        for _ in range(PORTS):
            free_port()
    except OSError as error:
        yield f"{PORTS} free ports of the loopback interface are needed: {error}"
