"""What a Debian has on which nothing was installed but the packages that the tests list.

A developer's machine has more. Tests run with the programs of this module alone on their PATH, so
that one which needs another program fails everywhere, and not only on a bare machine.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "requirements" / "debian.txt"
DPKG = Path("/var/lib/dpkg")
FOLDERS = [Path(f"/usr/{place}") for place in ("local/sbin", "local/bin", "sbin", "bin")]
PREFIX = "sentinel-programs-"
_LINKS = {name for name in ("bin", "sbin", "lib", "lib64") if Path(f"/{name}").is_symlink()}
FOR_MAKE = frozenset({"python3", "make", "ca-certificates"})  # what `.ci/run` installs by itself


def listed() -> set[str]:
    """The packages of requirements/debian.txt."""
    lines = LIST.read_text().splitlines()
    return {name for line in lines if (name := line.partition("#")[0].strip())}


@cache
def installed() -> dict[str, dict[str, str]]:
    """Package -> its fields, of those that are installed; empty where this is no Debian."""
    if not (DPKG / "status").exists():
        return {}
    found = {}
    for paragraph in (DPKG / "status").read_text(errors="replace").split("\n\n"):
        fields = dict(re.findall(r"^([A-Z][\w-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields
    return found


def with_dependencies(wanted: Iterable[str]) -> set[str]:
    """Packages and all that they depend on, as installed here."""
    packages = installed()
    providers: dict[str, list[str]] = {}
    for name, fields in packages.items():
        for virtual in re.findall(r"([a-z0-9][a-z0-9.+-]+)", fields.get("Provides", "")):
            providers.setdefault(virtual, []).append(name)
    found: set[str] = set()
    waiting = [name for name in wanted if name in packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        fields = packages[name]
        for group in f"{fields.get('Pre-Depends', '')},{fields.get('Depends', '')}".split(","):
            for choice in group.split("|"):
                package = choice.strip().partition(" ")[0].partition(":")[0]
                there = [package] if package in packages else providers.get(package, [])
                if there:
                    waiting += there
                    break
    return found


def bare_machine() -> set[str]:
    """Packages of a machine made by debootstrap on which `make test` has run."""
    required = {
        name for name, fields in installed().items() if fields.get("Priority") == "required"
    }
    return with_dependencies(required | {"apt"} | FOR_MAKE | listed())


def files_of(packages: Iterable[str]) -> set[str]:
    """Files and folders that packages bring, by the paths that no link leads to."""
    listings: dict[str, Path] = {}
    for listing in (DPKG / "info").glob("*.list"):
        listings.setdefault(listing.stem.partition(":")[0], listing)
    found = set()
    for package in packages:
        if package in listings:
            found |= set(listings[package].read_text().splitlines())
    return {_real(path) for path in found}


def _real(path: str) -> str:
    """With /bin, /sbin and /lib where they lead to, as they are links on a merged system."""
    top = path.split("/")[1]
    return f"/usr{path}" if top in _LINKS else path


def programs_of(packages: Iterable[str]) -> dict[str, Path]:
    """Name -> path of the programs that packages bring and a PATH finds."""
    files = files_of(packages)
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            # One of several alternatives, such as awk, belongs to no package by this name.
            alternative = path.is_symlink() and str(path.readlink()).startswith("/etc/alternatives")
            if str(path) in files or (alternative and str(path.resolve()) in files):
                found.setdefault(path.name, path)
    return found


@cache
def path_of_a_bare_machine() -> Path | None:
    """A folder for PATH with those programs alone; None if this is no Debian with all of them."""
    if not listed() <= installed().keys():
        return None
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    for name, path in programs_of(bare_machine()).items():
        (folder / name).symlink_to(path)
    return folder
