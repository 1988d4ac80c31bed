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

from sentinel.domain import ConfigurationError
from sentinel.settings import Settings

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
        return settings.feature_store / named  # an absolute path stays what it is
    elsewhere = settings.feast.registry_url or settings.feast.online_url
    return settings.feature_store / (PRODUCTION_FILE if elsewhere else _LAPTOP_FILE)


@contextmanager
def feast_on(settings: Settings) -> Iterator[FeatureStore]:
    """Feast's SDK with this deployment's registry and stores.

    While the block runs, the environment says what the settings say, since Feast's settings file
    and our stores read it.

    Raises:
        ConfigurationError: The settings file is not there or not complete.
    """
    with _environment(_variables(settings)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Feast and its vendors, about themselves
        yield FeatureStore(config=_config(settings))


def _config(settings: Settings) -> Any:
    file = config_file(settings)
    try:
        config = load_repo_config(settings.feature_store.resolve(), file)
    except FileNotFoundError:
        raise ConfigurationError(
            f"There is no {file}, which says where Feast's registry and stores are. Copy it from "
            "the project, or name another one with FEAST_FS_YAML_FILE_PATH."
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


def _variables(settings: Settings) -> dict[str, str]:
    feast = settings.feast
    return {
        "SENTINEL_WORKSPACE": str(settings.workspace.resolve()),
        "SENTINEL_FEAST__REGISTRY_URL": feast.registry_url,
        "SENTINEL_FEAST__ONLINE_URL": feast.online_url,
        "SENTINEL_FEAST__OFFLINE_URL": feast.offline_url,
        "FEAST_USAGE": "False",
    }


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
