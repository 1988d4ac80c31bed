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


@pytest.mark.parametrize("where", [["PYTHONDONTWRITEBYTECODE=1"], []])
def test_no_module_is_compiled_twice_though_nothing_is_kept_beside_sources(
    where: list[str], tmp_path: Path
) -> None:
    """A process of the suite's, and one that it starts: the second finds the bytecode."""
    (tmp_path / "imported.py").write_text("FOUND = __cached__")
    child = "import imported, os; print(imported.FOUND, os.path.exists(imported.FOUND))"
    parent = f"""
from pathlib import Path
import os, subprocess, sys
from tests import bytecode
bytecode.FOLDER = Path({str(tmp_path / "bytecode")!r})
bytecode.keep_in_a_folder()
os.environ["PYTHONPATH"] = {str(tmp_path)!r}
subprocess.run([sys.executable, "-c", {child!r}], check=True)
"""
    plain = ["env", "-u", "PYTHONDONTWRITEBYTECODE", "-u", "PYTHONPYCACHEPREFIX", *where]
    done = subprocess.run(
        [*plain, sys.executable, "-c", parent], cwd=ROOT, capture_output=True, text=True, check=True
    )
    file, found = done.stdout.split()
    assert found == "True"
    assert Path(file).is_relative_to(tmp_path / ("bytecode" if where else "__pycache__"))
