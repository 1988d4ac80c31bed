"""Values that come from files: those that variables name, and the one in the workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    TomlConfigSettingsSource,
)

from sentinel.domain import ConfigurationError


class SecretFileSource(EnvSettingsSource):
    """Values from the files that ``SENTINEL_..._FILE`` variables name.

    Raises:
        ConfigurationError: A file cannot be read, a variable names no setting, or the value is
            given twice.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        known = set(_variables(settings_cls))
        values: dict[str, str | None] = {}
        for name, path in sorted(os.environ.items()):
            variable = name.upper().removesuffix("_FILE")
            if variable == name.upper() or not variable.startswith("SENTINEL_"):
                continue
            if variable not in known:
                raise ConfigurationError(
                    f"{name} is set, but {variable} is no setting. See docs/settings.md."
                )
            if variable in os.environ:
                raise ConfigurationError(f"{name} and {variable} are both set. Keep one of them.")
            try:
                values[variable.lower()] = Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(
                    f"{name} names {path}, which cannot be read ({error}). Make the file readable "
                    "for this process, or unset the variable."
                ) from None
        self.env_vars = values


class WorkspaceFileSource(TomlConfigSettingsSource):
    """Values from the ``sentinel.toml`` of the workspace: what its data needs.

    A folder of feature definitions is named relative to the workspace.

    Args:
        settings_cls: The settings.
        stronger: What names the workspace, the strongest first.

    Raises:
        ConfigurationError: The file names another workspace.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], stronger: tuple[PydanticBaseSettingsSource, ...]
    ) -> None:
        named = next((found for source in stronger if (found := source().get("workspace"))), None)
        default = settings_cls.model_fields["workspace"].default
        folder = Path(named if named is not None else default)
        path = folder / "sentinel.toml"
        here = Path("sentinel.toml")
        there = path.is_file() and not (here.exists() and path.samefile(here))
        super().__init__(settings_cls, path if there else Path("/nonexistent/sentinel.toml"))
        if "workspace" in self.init_kwargs:
            raise ConfigurationError(
                f"{path} names a workspace, but it belongs to the one that it lies in. Remove the "
                "line."
            )
        if "feature_store" in self.init_kwargs:
            self.init_kwargs["feature_store"] = folder / str(self.init_kwargs["feature_store"])


def _variables(model: type[BaseModel], prefix: str = "SENTINEL_") -> Iterator[str]:
    """Environment variables of all settings."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()
