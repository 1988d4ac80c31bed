from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.scratch import Server, make_workspace
from testkit.watching import COMPOSE, MONITORING


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of deploy/compose after `setup.sh --prepare`."""
    top = tmp_path_factory.mktemp("deployment")
    shutil.copytree(MONITORING, top / "monitoring")
    folder = top / "deploy" / "compose"
    left_out = shutil.ignore_patterns(".env", "secrets", "generated", "data", "backups")
    shutil.copytree(COMPOSE, folder, ignore=left_out)
    prepare(folder)
    return folder


def prepare(folder: Path) -> None:
    done = subprocess.run([folder / "setup.sh", "--prepare"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(make_workspace(tmp_path_factory.mktemp("scorer")))
    running.start()
    try:
        yield running
    finally:
        running.kill()
