#!/usr/bin/env python3
"""Make .venv from the locked, hashed requirement files; needs Python 3.11 or newer and no more.

    python3 scripts/bootstrap.py base      what `sentinel up` needs
    python3 scripts/bootstrap.py dev       that, and what developers need
    python3 scripts/bootstrap.py airflow   Airflow with Sentinel beside it, into .venv-airflow
    python3 scripts/bootstrap.py uv        only uv, into .uv/

No pip, no venv module, no compiler, no root: uv's wheel is fetched from the configured package
index with the standard library, checked against the hashes of requirements/bootstrap.txt and
unpacked; uv does the rest. Settings of pip (environment and pip.conf) are handed on to uv.
A second run with unchanged requirement files does nothing.
"""

import sys

if sys.version_info < (3, 11):  # the rest of this file may use what 3.11 has
    import os

    for minor in range(11, 20):
        for folder in os.get_exec_path():
            candidate = os.path.join(folder, "python3.%d" % minor)
            if os.access(candidate, os.X_OK):
                os.execv(candidate, [candidate, *sys.argv])
    sys.exit("Sentinel needs Python 3.11 or newer; this is %s." % sys.version.split()[0])

import importlib.util

if importlib.util.find_spec("ctypes") is None:  # Debian's python3-minimal
    sys.exit("This Python lacks most of its standard library; as root: apt-get install python3")

import argparse
import ctypes
import hashlib
import os
import subprocess
from pathlib import Path

from fetch_uv import install_uv
from pip_settings import PipSettings

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"

GOMP_HOOK = '''\
"""Gives LightGBM the OpenMP runtime that this machine does not have; see scripts/bootstrap.py."""
import sys
from pathlib import Path


class _PreloadGomp:
    """Loads the runtime when LightGBM is first asked for, and then steps aside."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "lightgbm":
            import ctypes

            sys.meta_path.remove(_PreloadGomp)
            ctypes.CDLL(str(Path(__file__).with_name("libgomp.so.1")), ctypes.RTLD_GLOBAL)


sys.meta_path.insert(0, _PreloadGomp)
'''


def main(arguments: list[str] | None = None) -> None:
    """Install one set of requirements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["base", "dev", "airflow", "uv"])
    what = parser.parse_args(arguments).what
    settings = PipSettings.of_this_machine()
    if what == "uv":
        print(install_uv(ROOT, settings))
        return
    stamps = environment_of(what) / ".sentinel"
    if what == "base" and (stamps / "dev").exists():
        what = "dev"  # a developer's environment stays one
    stamp = stamps / what
    if not (stamp.exists() and stamp.read_text() == fingerprint(what)):
        install(what, settings)
        stamps.mkdir(exist_ok=True)
        stamp.write_text(fingerprint(what))
    held = {what} if what == "airflow" else {"base", what}
    for fresh in held:  # newer than the requirement files, which is what make looks at
        (stamps / fresh).touch()


def environment_of(what: str) -> Path:
    """The folder that a set of requirements goes into; Airflow's hold others back."""
    return ROOT / (".venv-airflow" if what == "airflow" else ".venv")


def python_of(venv: Path) -> Path:
    """The Python of an environment."""
    return venv / "bin" / "python"


def fingerprint(what: str) -> str:
    """Hash of everything the environment is made from."""
    python = python_of(environment_of(what)).resolve()  # an upgraded system has another one
    digest = hashlib.sha256(os.fsencode(python))
    for path in (REQUIREMENTS / f"{what}.txt", ROOT / "pyproject.toml"):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def install(what: str, settings: PipSettings) -> None:
    """Create the environment where there is none and bring it to exactly the locked packages."""
    uv = install_uv(ROOT, settings)
    venv = environment_of(what)
    environment = os.environ | settings.for_uv() | {"VIRTUAL_ENV": str(venv)}

    def run(*words: str) -> None:
        if subprocess.run([str(uv), *words], env=environment, cwd=ROOT, check=False).returncode:
            sys.exit("Installing stopped, uv says why above. The same command goes on from there.")

    if not usable(venv):
        python = getattr(sys, "_base_executable", sys.executable)  # not the environment's own
        run("venv", "--quiet", "--clear", "--no-project", "--python", python, str(venv))
    locked = str(REQUIREMENTS / f"{what}.txt")
    run("pip", "sync", "--require-hashes", "--only-binary", ":all:", locked)
    # uv builds with its own backend: nothing is downloaded that has no hash.
    run("pip", "install", "--quiet", "--no-deps", "--offline", "--editable", str(ROOT))
    provide_gomp(venv)


def usable(venv: Path) -> bool:
    """Whether an environment has a Python that runs and finds its packages."""
    code = "import os, sys, sysconfig; sys.exit(not os.path.isdir(sysconfig.get_path('purelib')))"
    try:
        return subprocess.run([str(python_of(venv)), "-c", code], check=False).returncode == 0
    except OSError:
        return False


def provide_gomp(venv: Path) -> None:
    """Give LightGBM the OpenMP runtime that it wants from the system, where the system has none.

    scikit-learn's wheel brings the same library under another name. A copy that bears the right
    name is put beside a hook that loads it just before LightGBM is imported.
    """
    if sys.platform == "linux":
        if loads("libgomp.so.1"):
            return
        packages = next((venv / "lib").glob("python3*/site-packages"))
        for bundled in packages.glob("scikit_learn.libs/libgomp-*.so*"):
            library = renamed_library(bundled.read_bytes(), bundled.name)
            (packages / "libgomp.so.1").write_bytes(library)
            (packages / "sentinel_libgomp.py").write_text(GOMP_HOOK)
            (packages / "sentinel_libgomp.pth").write_text("import sentinel_libgomp\n")
    command = [str(python_of(venv)), "-c", "import lightgbm"]
    if subprocess.run(command, check=False).returncode:
        sys.exit(
            "LightGBM misses the system's OpenMP runtime. Install it and run the same command"
            " again: apt-get install libgomp1, dnf install libgomp or brew install libomp."
        )


def loads(library: str) -> bool:
    """Whether the dynamic loader finds a library by its name."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def renamed_library(image: bytes, name: str) -> bytes:
    r"""The bytes of a bundled libgomp under the name by which LightGBM asks for it.

    The name in the file (its SONAME) is what the dynamic loader compares; the new one is shorter,
    so it is written over the old one.

    >>> renamed_library(b"<libgomp-0123.so.1.0.0\0>", "libgomp-0123.so.1.0.0").rstrip(b"\0>")
    b'<libgomp.so.1'
    """
    old = name.encode() + b"\0"
    return image.replace(old, b"libgomp.so.1".ljust(len(old), b"\0"))


if __name__ == "__main__":
    main()
