"""The suite divides its work sensibly, and its own parts do what their examples say."""

from __future__ import annotations

import doctest
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from testkit import pages, ports, readme
from tests import called_programs, workers
from tests.pages import test_commands

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("module", [called_programs, pages, readme, test_commands, workers])
def test_the_examples_of_the_suites_own_parts_run(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_every_group_that_is_named_is_there() -> None:
    for place in (*workers.TOGETHER, *workers.APART, *workers.FIRST):
        assert (ROOT / place).exists(), place


def test_no_other_process_gets_a_port_that_was_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ports.free_port()
    monkeypatch.setattr(ports, "_FIRST", mine)
    monkeypatch.setattr(ports, "_END", mine + 1)
    other = f"from testkit import ports; ports._FIRST, ports._END = {mine}, {mine + 1};"
    asked = [sys.executable, "-c", f"{other} ports.free_port()"]
    assert "is free" in subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stderr
    with socket.create_server(("127.0.0.1", mine)):  # it is mine to listen on
        pass
