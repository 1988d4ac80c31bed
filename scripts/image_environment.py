#!/usr/bin/env python3
"""Makes the environment of a container image from a lock; deploy/images/*.Dockerfile call it.

    python3 scripts/image_environment.py packages LOCK TARGET   packages of requirements/LOCK.txt
    python3 scripts/image_environment.py project TARGET         Sentinel itself, on top

Two steps, so that a change of code rebuilds only the second layer. As in scripts/bootstrap.py, uv
is fetched by its pinned hash and told what pip is configured to.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from bootstrap import REQUIREMENTS, ROOT, provide_gomp
from fetch_uv import install_uv
from pip_settings import PipSettings


def main(arguments: list[str] | None = None) -> None:
    """Do one of the two steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    steps = parser.add_subparsers(dest="step", required=True)
    packages = steps.add_parser("packages")
    packages.add_argument("lock")
    packages.add_argument("target", type=Path)
    steps.add_parser("project").add_argument("target", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.step == "packages":
        install_packages(chosen.lock, chosen.target)
    else:
        install_project(chosen.target)


def install_packages(lock: str, target: Path) -> None:
    """Make an environment with exactly the locked packages, compiled to bytecode."""
    path = REQUIREMENTS / f"{lock}.txt"
    uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(target))
    uv(
        *("pip", "sync", "--require-hashes", "--only-binary", ":all:", "--no-cache"),
        *("--compile-bytecode", "--link-mode", "copy", str(path)),
        target=target,
    )
    if "\nlightgbm==" in path.read_text(encoding="utf-8"):
        provide_gomp(target)


def install_project(target: Path) -> None:
    """Install Sentinel into an environment; nothing is downloaded."""
    uv(
        *("pip", "install", "--quiet", "--no-deps", "--offline", "--no-cache"),
        *("--compile-bytecode", "--link-mode", "copy", str(ROOT)),
        target=target,
    )


def uv(*words: str, target: Path | None = None) -> None:
    """Run uv on an environment.

    Raises:
        SystemExit: It failed, and says why.
    """
    settings = PipSettings.of_this_machine()
    environment = os.environ | settings.for_uv()
    if target is not None:
        environment["VIRTUAL_ENV"] = str(target)
    command = [str(install_uv(ROOT, settings)), *words]
    if subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode:
        sys.exit("The environment was not made; uv says why above.")


if __name__ == "__main__":
    main()
