"""The sets of feature definitions that come with Sentinel, and how one gets to a deployment.

A deployment's definitions are a folder that its owner edits, see `Settings.definitions_dir`. Where
there is none yet, the default set is copied to the workspace on first use. Each set is a folder
here; Feast's settings files beside them are the same for all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.settings import Settings

DEFAULT: Final = "default"
IEEE_CIS: Final = "ieee_cis"
HANDBOOK: Final = "handbook"
SETS: Final = {
    DEFAULT: "cards, customers, merchants, devices and addresses, for any payments",
    IEEE_CIS: "the columns of the IEEE-CIS data, as `sentinel import ieee-cis` keeps them",
    HANDBOOK: "customers at terminals, as `sentinel import handbook` brings them",
}
"""Names of the sets and what each is for."""

OF_SOURCES: Final = {"ieee-cis": IEEE_CIS, "handbook": HANDBOOK}
"""The set that fits what a source brings, by the source's name."""

DEFINITIONS: Final = "definitions.py"
FEAST_FILES: Final = ("feature_store.yaml", "production.yaml")
_WORKSPACE_OF_FILES: Final = "../.sentinel"


@dataclass(frozen=True)
class Installed:
    """What was written.

    Attributes:
        name: Of the set.
        folder: Where its files are.
    """

    name: str
    folder: Path

    def __str__(self) -> str:
        return f"The feature definitions are the set {self.name!r}, copied to {self.folder}."


def set_text(name: str) -> str:
    """The definitions of a set.

    Raises:
        ConfigurationError: There is no such set.
    """
    if name not in SETS:
        raise ConfigurationError(
            f"There is no set of feature definitions {name!r}. There is: {', '.join(SETS)}."
        )
    return resources.files(__name__).joinpath(name, DEFINITIONS).read_text("utf8")


def feast_text(file: str, folder: Path, workspace: Path) -> str:
    """One of `FEAST_FILES` for a folder of definitions.

    Its paths lead from that folder to the workspace, so that Feast's own commands find it.
    """
    text = resources.files(__name__).joinpath(file).read_text("utf8")
    there = Path(os.path.relpath(workspace.resolve(), folder.resolve())).as_posix()
    return text.replace(_WORKSPACE_OF_FILES, there)


def is_as_shipped(folder: Path) -> bool:
    """Whether a folder holds the definitions of a set, unchanged, and no others."""
    files = sorted(path.name for path in folder.glob("**/*.py"))
    if files != [DEFINITIONS]:
        return False
    found = (folder / DEFINITIONS).read_bytes()
    return any(found == set_text(name).encode() for name in SETS)


def install(name: str, folder: Path, workspace: Path) -> Installed:
    """Write a set into a folder; definitions that a person edited stay, and so do Feast's files.

    Args:
        name: Of the set.
        folder: Where to; a set that is there as it was shipped is replaced.
        workspace: The workspace that Feast's files name.

    Raises:
        ConfigurationError: There is no such set.
        WorkspaceError: The folder holds other definitions.
    """
    text = set_text(name)
    if any(folder.glob("**/*.py")) and not is_as_shipped(folder):
        raise WorkspaceError(
            f"{folder} holds feature definitions that are no set's, so they are left as they are. "
            "Move them away, or name another folder with --into."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / DEFINITIONS, text)
    complete(folder, workspace)
    return Installed(name, folder)


def complete(folder: Path, workspace: Path) -> None:
    """Write those of Feast's settings files that a folder of definitions lacks."""
    for file in FEAST_FILES:
        if not (folder / file).exists():
            _write(folder / file, feast_text(file, folder, workspace))


def ensure(settings: Settings) -> Installed | None:
    """See that a deployment has definitions: those it has, else a copy of the default set.

    Returns:
        What was written; None if there was nothing to do.
    """
    folder = settings.definitions_dir
    if folder.resolve() != settings.own_definitions_dir.resolve():
        return None
    if any(folder.glob("**/*.py")):
        complete(folder, settings.workspace)
        return None
    return install(DEFAULT, folder, settings.workspace)


def suit(settings: Settings, name: str) -> Installed | None:
    """Give a workspace the set that fits its data, where no definitions have been chosen yet.

    Chosen are definitions that the settings name, that lie in the workspace, that have been
    applied, or that somebody edited.

    Returns:
        What was written; None if definitions have been chosen.
    """
    if "feature_store" in settings.model_fields_set or settings.plan_path.exists():
        return None
    own, present = settings.own_definitions_dir, settings.definitions_dir
    if any(own.glob("**/*.py")) or (present.is_dir() and not is_as_shipped(present)):
        return None
    return install(name, own, settings.workspace)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, "utf8")
    partial.replace(path)
