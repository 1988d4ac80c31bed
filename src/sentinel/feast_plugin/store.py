"""Feast on this deployment's settings: which settings file, which registry, which stores."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from feast import FeatureStore
from feast.constants import FEAST_FS_YAML_FILE_PATH_ENV_NAME
from feast.repo_config import FeastConfigError, load_repo_config
from sqlalchemy.exc import OperationalError

from sentinel.domain import ConfigurationError, Unavailable
from sentinel.feast_plugin.workspace import WORKSPACE_VARIABLE, working_on
from sentinel.settings import Settings
from sentinel.state.online_history import redis_errors

PRODUCTION_FILE: Final = "production.yaml"
_LAPTOP_FILE: Final = "feature_store.yaml"


def config_file(settings: Settings) -> Path:
    """The settings file of Feast, in the folder of the definitions.

    It is what ``FEAST_FS_YAML_FILE_PATH`` names, as for the ``feast`` command; else
    ``production.yaml`` where a registry or online store elsewhere is set, else
    ``feature_store.yaml``.
    """
    named = os.environ.get(FEAST_FS_YAML_FILE_PATH_ENV_NAME)
    if named:
        return settings.definitions_dir / named  # an absolute path stays what it is
    elsewhere = settings.feast.registry_url or settings.feast.online_url
    return settings.definitions_dir / (PRODUCTION_FILE if elsewhere else _LAPTOP_FILE)


@contextmanager
def feast_on(settings: Settings) -> Iterator[FeatureStore]:
    """Feast's SDK with this deployment's registry and stores.

    While the block runs, our stores find these settings, whatever the environment says.

    Raises:
        ConfigurationError: The settings file is not there or not complete.
        StateUnavailable: The online store does not answer.
        Unavailable: The registry does not answer.
    """
    workspace = {WORKSPACE_VARIABLE: str(settings.workspace.resolve())}
    with _environment(workspace), working_on(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Feast and its vendors, about themselves
        with _translated(), redis_errors("SENTINEL_FEAST__ONLINE_URL"):
            store = FeatureStore(config=_config(settings))
            try:
                yield store
            finally:
                close_connections(store)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable(
            f"Feast's registry does not answer: {str(error.orig).strip()}. Look at PostgreSQL and "
            "at SENTINEL_FEAST__REGISTRY_URL, then run the command again."
        ) from error


def close_connections(store: FeatureStore) -> None:
    """Close connections, which Feast leaves to the end of the process."""
    for name in ("write_engine", "read_engine"):
        engine = getattr(store.registry, name, None)
        if engine is not None:
            engine.dispose()
    online: Any = store._get_provider().online_store
    online.release()


def _config(settings: Settings) -> Any:
    file = config_file(settings)
    addresses = {
        "SENTINEL_FEAST__REGISTRY_URL": _with_driver(settings.feast.registry_url),
        "SENTINEL_FEAST__ONLINE_URL": settings.feast.online_url,
        "SENTINEL_FEAST__OFFLINE_URL": settings.feast.offline_url,
    }
    try:
        with _environment(addresses):
            config = load_repo_config(settings.definitions_dir.resolve(), file)
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no {file}, which says where Feast's registry and stores are. `sentinel "
            "features init` writes it, or name another one with FEAST_FS_YAML_FILE_PATH."
        ) from None
    except FeastConfigError as error:
        raise ConfigurationError(f"{file} is not valid: {error}") from None
    path = str(config.registry.path)
    if not path or path.startswith("${"):
        raise ConfigurationError(
            f"{file} takes Feast's registry from SENTINEL_FEAST__REGISTRY_URL, which is not set. "
            "Name the database, such as postgresql://sentinel@postgres/feast_registry."
        )
    return config


def _with_driver(url: str) -> str:
    """The address of a PostgreSQL with the driver that Feast would choose, though not in silence.

    >>> _with_driver("postgresql://user@host/feast_registry")
    'postgresql+psycopg://user@host/feast_registry'
    """
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
