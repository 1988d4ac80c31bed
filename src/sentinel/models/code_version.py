"""Which code trains a model: the version of Sentinel, its source, and the commit of a checkout."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec

PACKAGE: Final = Path(__file__).resolve().parents[1]


class CodeVersion(msgspec.Struct, frozen=True):
    """The code that a model was trained with.

    Attributes:
        version: Of Sentinel.
        source_sha256: Of all its Python files, in hex: it tells two states of a checkout apart
            that have one version and one commit.
        commit: What a checkout stood at; empty if Sentinel was installed without one.
    """

    version: str
    source_sha256: str
    commit: str = ""

    def __str__(self) -> str:
        commit = f", commit {self.commit[:12]}" if self.commit else ""
        return f"Sentinel {self.version}{commit}, source {self.source_sha256[:16]}"


@cache
def this_code() -> CodeVersion:
    """The code that runs."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return CodeVersion(metadata.version("sentinel-fraud"), digest.hexdigest(), _commit())


def _commit() -> str:
    """The commit of the checkout that this package is the ``src/sentinel`` of; empty if none."""
    try:
        return head_of(PACKAGE.parents[1] / ".git")
    except OSError:
        return ""


def head_of(git: Path) -> str:
    """The commit that a checkout stands at; empty if it has none yet.

    Args:
        git: Its ``.git``: the folder, or the file that names one elsewhere.

    Raises:
        OSError: There is none, or it cannot be read.
    """
    if git.is_file():  # a worktree beside the first one
        git = git.parent / git.read_text().strip().removeprefix("gitdir: ")
    head = (git / "HEAD").read_text().strip()
    if not head.startswith("ref: "):
        return head
    name, common = head.removeprefix("ref: "), git
    if (git / "commondir").is_file():
        common = git / (git / "commondir").read_text().strip()
    if (common / name).is_file():
        return (common / name).read_text().strip()
    packed = common / "packed-refs"
    for line in packed.read_text().splitlines() if packed.is_file() else ():
        commit, _, ref = line.partition(" ")
        if ref == name:
            return commit
    return ""
