"""The questions of `sentinel.pipeline.registry_http`, to a workspace's own MLflow database.

For promotion, evaluation and rollback while no server runs. The follower, a small process that
must not import MLflow, asks a server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sentinel.domain import Unavailable
from sentinel.models.approval import APPROVAL_TAG
from sentinel.models.registry import CHAMPION, MANIFEST_TAG, ModelVersion, Registry
from sentinel.models.registry_owner import own_place
from sentinel.models.registry_place import MlflowPlace, artifact_path
from sentinel.models.registry_view import KnownVersion
from sentinel.models.signature import SIGNATURE_TAG
from sentinel.pipeline.registry_http import RegisteredVersion, RegistryOverHttp
from sentinel.settings import Settings


class RegistryReader(Protocol):
    """What following a registry asks of it; see `RegistryOverHttp`."""

    def champion(self, name: str) -> RegisteredVersion | None: ...
    def version(self, name: str, version: str) -> RegisteredVersion: ...
    def model(self, name: str) -> tuple[list[str], list[KnownVersion]]: ...
    def crown(self, name: str, champions: list[str]) -> None: ...
    def point(self, name: str, alias: str, version: str) -> None: ...
    def unpoint(self, name: str, alias: str) -> None: ...
    def location_of(self, name: str, version: str) -> str: ...
    def files(self, location: str, below: str = "") -> list[str]: ...
    def download(self, location: str, file: str, target: Path) -> None: ...


@contextmanager
def open_registry(settings: Settings) -> Iterator[RegistryReader]:
    """The registry of a deployment, over HTTP or in its workspace.

    Where a server that the settings name is away, every method raises `Unavailable`.

    Raises:
        ConfigurationError: It is another workspace's.
    """
    try:
        place = own_place(settings)
    except Unavailable:
        place = MlflowPlace(settings.tracking_uri)
    if place.files is not None:
        yield RegistryInFiles(place)
        return
    with RegistryOverHttp(place.uri) as server:
        yield server


def require_registered(settings: Settings, *versions: str | None) -> None:
    """See that the registry has versions, before anything is loaded or computed for them.

    Where the registry is away, what needs it says so.

    Args:
        settings: The deployment.
        versions: By their numbers; None for one that was not named.

    Raises:
        NoModel: It lacks one.
    """
    wanted = [version for version in versions if version is not None]
    if not wanted:
        return
    with open_registry(settings) as server:
        for version in wanted:
            try:
                server.version(settings.mlflow.model_name, version)
            except Unavailable:
                return


class RegistryInFiles:
    """The registry in a workspace's own database and folder.

    Args:
        place: Where they are.
    """

    def __init__(self, place: MlflowPlace) -> None:
        self._place = place

    def champion(self, name: str) -> RegisteredVersion | None:
        """The version that is champion."""
        found = self._of(name).by_alias(CHAMPION)
        return None if found is None else _registered(found)

    def version(self, name: str, version: str) -> RegisteredVersion:
        """A version by its number.

        Raises:
            NoModel: There is none.
        """
        return _registered(self._of(name).version(version))

    def model(self, name: str) -> tuple[list[str], list[KnownVersion]]:
        """Who was champion, oldest first, and all versions, newest first."""
        registry = self._of(name)
        known = [
            KnownVersion(
                version=version.version,
                run_id=version.run_id,
                aliases=version.aliases,
                description=version.description,
                tags=version.tags,
                created_at_us=version.created_at_us,
            )
            for version in registry.versions()
        ]
        return registry.champions(), known

    def crown(self, name: str, champions: list[str]) -> None:
        """Make the last of these the champion."""
        self._of(name).crown(champions)

    def point(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version."""
        self._of(name).point(alias, version)

    def unpoint(self, name: str, alias: str) -> None:
        """Remove an alias; nothing if it is not there."""
        self._of(name).unpoint(alias)

    def location_of(self, name: str, version: str) -> str:
        """Where the files of a version are, as a path below the folder of artifacts."""
        return artifact_path(self._of(name).files_of(version))

    def files(self, location: str, below: str = "") -> list[str]:
        """Paths of all files under a location, relative to it."""
        folder = self._folder / location
        found = (folder / below).rglob("*")
        return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())

    def download(self, location: str, file: str, target: Path) -> None:
        """Write one file durably."""
        try:
            content = (self._folder / location / file).read_bytes()
        except OSError as error:
            raise Unavailable(
                f"{self._folder / location / file} cannot be read ({error}). Restore it, or train "
                "anew with `sentinel train`."
            ) from None
        with target.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())

    @property
    def _folder(self) -> Path:
        assert self._place.files is not None
        return self._place.files

    def _of(self, name: str) -> Registry:
        return Registry(self._place, name)


def _registered(found: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(
        found.version,
        found.run_id,
        found.tags.get(MANIFEST_TAG, ""),
        found.tags.get(SIGNATURE_TAG, ""),
        found.tags.get(APPROVAL_TAG, ""),
    )
