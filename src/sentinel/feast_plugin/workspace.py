"""Where Feast finds a deployment's files: one rule for registry and stores.

The environment variable ``SENTINEL_WORKSPACE`` names the workspace, as it does for `sentinel`.
Without it, paths in ``feature_store.yaml`` count, relative to the folder of that file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from feast.infra.registry.file import FileRegistryStore
from feast.repo_config import RegistryConfig, RepoConfig

from sentinel.retrieval.view_table import offline_root
from sentinel.settings import Settings

WORKSPACE_VARIABLE: Final = "SENTINEL_WORKSPACE"


def find_workspace(configured: str, repo_path: Path | None) -> Path:
    """The workspace folder.

    Args:
        configured: What ``feature_store.yaml`` says.
        repo_path: The folder of that file.
    """
    named = os.environ.get(WORKSPACE_VARIABLE)
    if named:
        return Path(named).resolve()
    return ((repo_path or Path.cwd()) / configured).resolve()


_given: ContextVar[Settings | None] = ContextVar("_given", default=None)


@contextmanager
def working_on(settings: Settings) -> Iterator[None]:
    """For the length of the block, these are the settings of their workspace."""
    token = _given.set(settings)
    try:
        yield
    finally:
        _given.reset(token)


def settings_of(workspace: Path) -> Settings:
    """The settings of a deployment: those at work, else what files and environment say."""
    given = _given.get()
    if given is not None and given.workspace.resolve() == workspace:
        return given
    return Settings(workspace=workspace)


def place_of(config: RepoConfig) -> tuple[str, Settings]:
    """Folder or ``s3://`` address of the offline store that Feast's settings name, and ours."""
    settings = settings_of(find_workspace(config.offline_store.workspace, config.repo_path))
    path: str = config.offline_store.path
    return path if path and not path.startswith("${") else offline_root(settings), settings


class WorkspaceRegistryStore(FileRegistryStore):
    """Feast's registry as a file of the workspace.

    Args:
        registry_config: Its ``path`` is the file.
        repo_path: Folder of ``feature_store.yaml``.
    """

    def __init__(self, registry_config: RegistryConfig, repo_path: Path) -> None:
        super().__init__(registry_config, repo_path)
        path = Path(registry_config.path)
        self._filepath = find_workspace(str(path.parent), repo_path) / path.name
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
