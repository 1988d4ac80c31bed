"""`make test` passes on a bare Debian: every program that is called comes from a listed package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import debian
from tests.called_programs import (
    called_by_python,
    called_by_shell,
    commands_in_python,
    paths_in_python,
)

ROOT = Path(__file__).resolve().parent.parent
ON_DEBIAN = pytest.mark.skipif(not debian.installed(), reason="this is no Debian")

# Programs of Python packages in the developers' lock, and what each calls in turn.
FROM_THE_LOCK: dict[str, set[str]] = {
    "check-jsonschema": set(),
    "feast": set(),
    "hadolint": set(),
    "podman-compose": {"podman"},
    "rclone": set(),
    "sentinel": set(),
}
ELSEWHERE = {
    "buildah": "scripts/try-images says how to get it",
    "debootstrap": "scripts/try-images and scripts/try-bare-machine say how to get it",
    "docker": "deploy/compose/setup.sh says how to get it",
    "pip": "`uv pip`, a part of uv",
    "runc": "scripts/try-images says how to get it",
}


def sources() -> list[Path]:
    """Python files, but for the one whose examples are of any program."""
    return [
        path
        for top in ("benchmarks", "scripts", "src", "testkit", "tests")
        for path in (ROOT / top).rglob("*.py")
        if path.name != "called_programs.py"
    ]


def shell_scripts() -> list[Path]:
    places = [".ci", "deploy", "scripts", "tests"]
    return [
        path
        for top in places
        for path in (ROOT / top).rglob("*")
        if path.is_file() and re.match(rb"#!.*\b(ba)?sh\n", path.read_bytes())
    ]


def recipes() -> str:
    """The recipes of the Makefile as a shell script."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    lines = [line.strip().lstrip("@") for line in text.splitlines() if line.startswith("\t")]
    return "\n".join(re.sub(r"\$\((\w+)\)", r"./\1", line).replace("$$", "$") for line in lines)


def called() -> dict[str, str]:
    """Program -> a file that calls it."""
    found: dict[str, str] = dict.fromkeys(called_by_shell(recipes()), "Makefile")
    for path in shell_scripts():
        found |= dict.fromkeys(called_by_shell(path.read_text()), str(path.relative_to(ROOT)))
    everywhere = debian.programs_of(debian.installed())
    for path in sources():
        text = path.read_text()
        words = called_by_python(text) | (commands_in_python(text) & everywhere.keys())
        found |= dict.fromkeys(words, str(path.relative_to(ROOT)))
    for program in found.keys() & FROM_THE_LOCK.keys():
        found |= dict.fromkeys(FROM_THE_LOCK[program], found[program])
    return found


def postgres_programs() -> set[str]:
    """Those that Debian keeps off the PATH."""
    return {path.name for path in Path("/usr/lib/postgresql/15/bin").glob("*")}


def test_the_programs_that_files_call_are_found() -> None:
    found = called()
    for program in ("awk", "docker", "git", "haproxy", "podman", "psql", "strace", "wrk", "mount"):
        assert program in found, program
    assert len(shell_scripts()) > 10


@ON_DEBIAN
def test_every_program_comes_from_a_listed_package() -> None:
    assert debian.listed() <= debian.installed().keys(), "run scripts/debian-packages as root"
    there = debian.programs_of(debian.bare_machine()).keys() | postgres_programs()
    strange = {
        program: place
        for program, place in called().items()
        if program not in there | FROM_THE_LOCK.keys() | ELSEWHERE.keys()
    }
    assert not strange, "requirements/debian.txt lists no package with these"


@ON_DEBIAN
def test_every_absolute_path_belongs_to_a_listed_package() -> None:
    files = debian.files_of(debian.bare_machine())
    named = {name for path in sources() for name in paths_in_python(path.read_text())}
    assert "/usr/bin/chromium" in named
    for name in named:
        if Path(name).exists():
            assert str(Path(name).parent.resolve() / Path(name).name) in files, name


@ON_DEBIAN
def test_tests_see_no_program_that_a_bare_machine_lacks() -> None:
    assert len(os.environ["PATH"].split(os.pathsep)) == 1
    assert shutil.which("podman")
    assert not shutil.which("docker")
    assert not shutil.which("sentinel"), "a program of the environment is called by its path"
    seen = subprocess.run(["sh", "-c", "command -v awk sed git"], capture_output=True, text=True)
    assert seen.returncode == 0


def test_what_the_table_says_of_the_lock_is_true() -> None:
    beside = Path(sys.executable).parent
    for program in FROM_THE_LOCK:
        assert (beside / program).exists(), program
