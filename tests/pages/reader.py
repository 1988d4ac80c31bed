"""Does what a page says, command by command, as its reader would."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil

from testkit.ports import free_port

START_SECONDS = 600.0
PORTS = {"8000": "API", "8501": "DASHBOARD", "5000": "MLFLOW"}
STAYS = re.compile(r"(make|sentinel) up\b")
IS_UP = "Ctrl-C stops everything"


class Reader:
    """A folder to work in, and whatever was started there and stays.

    Args:
        folder: Where the page's commands run.
        environment: Variables on top of this process's own.

    The ports of the pages are replaced by free ones; nothing else is.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._ports = {port: str(free_port()) for port in PORTS}
        self._programs = folder.with_name(f"{folder.name}-programs")
        self._programs.mkdir()
        (self._programs / "left").touch()
        (self._programs / "sentinel").symlink_to(Path(sys.executable).with_name("sentinel"))
        self._environment = {
            **os.environ,
            "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}",
            **{f"SENTINEL_{PORTS[port]}__PORT": mine for port, mine in self._ports.items()},
            **environment,
        }
        self._log = folder.with_name(f"{folder.name}.log")
        self._up: subprocess.Popen[bytes] | None = None
        self._is_make = False

    def do(self, command: str) -> str:
        """Run a command to its end, or until what it starts is up; what it printed.

        Raises:
            AssertionError: It failed; what it said is in the message.
        """
        for port, mine in self._ports.items():
            command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{mine}")
        if STAYS.match(command):
            self.stop()
            return self._start(command)
        # The next command finds the folder and the variables that this one leaves behind.
        left = self._programs / "left"
        script = f". {left}\n{command}\n{{ echo cd \"'$PWD'\"; export -p; }} >{left}"
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def _start(self, command: str) -> str:
        self._is_make = command.startswith("make ")
        with self._log.open("wb") as output:
            self._up = subprocess.Popen(
                ["bash", "-c", f". {self._programs / 'left'}\nexec {command}"],
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while IS_UP not in (said := self._log.read_text(errors="replace")):
            assert self._up.poll() is None, f"{command}\n{said[-3000:]}"
            assert time.monotonic() < deadline, f"{command}\n{said[-3000:]}"
            time.sleep(0.1)
        return said

    def stop(self) -> None:
        """Press Ctrl-C, as the pages say: `sentinel` ends well, `make` says it was interrupted."""
        if self._up is not None:
            os.killpg(self._up.pid, signal.SIGINT)
            ended = self._up.wait(120)
            allowed = (0, -signal.SIGINT) if self._is_make else (0,)
            said = self._log.read_text(errors="replace")[-3000:]
            assert ended in allowed, f"it ended with {ended}:\n{said}"
            self._up = None

    def kill(self) -> None:
        """End what still runs, after a failure."""
        if self._up is not None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self._up.pid).children(recursive=True):
                    child.kill()
            self._up.kill()
            self._up.wait()
