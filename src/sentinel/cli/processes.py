"""Child processes of `sentinel up`: started together, watched, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sentinel.domain import ConfigurationError

_STOP_SECONDS: Final = 15.0
_RESTARTS: Final = 5
_PR_SET_PDEATHSIG: Final = 1


def _die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it ends, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@dataclass
class Child:
    """One process of the stack.

    Attributes:
        name: What people call it.
        command: Program and arguments.
        log: File that its output goes to.
        url: Answers 2xx or 3xx once it is ready; empty: ready when started.
        environment: Added to this process's environment.
        ends: Whether it has a job that ends, and is not started again after it.
    """

    name: str
    command: list[str]
    log: Path
    url: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    ends: bool = False
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0

    def start(self) -> None:
        """Start the process in a group of its own, so that Ctrl-C reaches it only through us."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- no threads before the fork
            )

    @property
    def done(self) -> bool:
        """Whether it has ended well."""
        return self.process is not None and self.process.poll() == 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def answers(self) -> bool:
        """Whether the process is ready to be used."""
        if not self.url:
            return self.running
        try:
            with urllib.request.urlopen(self.url, timeout=2) as answer:  # noqa: S310 -- our own URL
                return bool(answer.status < 400)
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def last_lines(self, count: int = 12) -> str:
        """The end of its log."""
        try:
            return "\n".join(
                self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
            )
        except OSError:
            return ""

    def wait_ready(self, seconds: float) -> None:
        """Wait until it answers.

        Raises:
            ConfigurationError: It ended, or took too long; says where its log is, and that it may
                be the machine.
        """
        deadline = time.monotonic() + seconds
        while not self.answers():
            if not self.running:
                raise ConfigurationError(
                    f"{self.name} ended while starting. The end of {self.log}:\n{self.last_lines()}"
                )
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"{self.name} runs, but did not answer at {self.url} within {seconds:.0f} s. "
                    f"Its log is {self.log}. Where the machine is busy with other work, run the "
                    "command again: what is finished stays."
                )
            time.sleep(0.05)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its own children."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


class Stack:
    """Children in the order of their start; stopped in the reverse order."""

    def __init__(self) -> None:
        self.children: list[Child] = []

    def start(self, child: Child) -> Child:
        """Start a child and remember it."""
        child.start()
        self.children.append(child)
        return child

    def revive(self) -> list[str]:
        """Start ended children again, a few times each; says what was done."""
        told = []
        for child in self.children:
            if child.running or child.restarts > _RESTARTS:
                continue
            if child.ends:
                child.restarts = _RESTARTS + 1
                said = child.last_lines(1)
                told.append(said if child.done else f"{child.name} failed: {said} ({child.log})")
                continue
            child.restarts += 1
            code = child.process.returncode if child.process is not None else None
            if child.restarts > _RESTARTS:
                told.append(f"{child.name} keeps ending ({code}); see {child.log}")
            else:
                told.append(f"{child.name} ended ({code}); started again, see {child.log}")
                child.start()
        return told

    def stop(self) -> None:
        """End all children; those that don't end when asked are killed."""
        for child in reversed(self.children):
            if child.running:
                child.signal_group(signal.SIGTERM)
                if child.name == "traffic":
                    _wait([child], 2.0)
        _wait(self.children, _STOP_SECONDS)
        for child in self.children:
            child.signal_group(signal.SIGKILL)
            if child.process is not None:
                child.process.wait()


def _wait(children: list[Child], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(child.running for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
