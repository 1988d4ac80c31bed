"""The pepper of a deployment: the secret without which the hashes of keys are worth nothing."""

from __future__ import annotations

from typing import Final

from sentinel.access.keys import Pepper
from sentinel.domain import WorkspaceError
from sentinel.private_files import made_secret
from sentinel.settings import Settings

PEPPER_FILE: Final = "access.pepper"


def pepper_of(settings: Settings, *, make: bool = False) -> Pepper:
    """The pepper of a deployment: that of the settings, else that of the workspace.

    Args:
        settings: The deployment.
        make: Make the workspace's on first use. A process that only checks keys must not: with a
            new one no key would be known.

    Raises:
        ConfigurationError: It is too short.
        WorkspaceError: The file cannot be made or read.
    """
    given = settings.access.pepper.get_secret_value()
    if given:
        return Pepper(given.encode())
    path = settings.workspace / PEPPER_FILE
    try:
        return Pepper(path.read_bytes().strip())
    except FileNotFoundError:
        if not make:
            raise WorkspaceError(
                f"There are keys, but there is no pepper at {path} to check them with. Bring it "
                "back, or set SENTINEL_ACCESS__PEPPER to the one that the keys were made with."
            ) from None
    except OSError as error:
        raise WorkspaceError(
            f"The pepper of keys in {path} cannot be read ({error}). Make it readable for this "
            "process."
        ) from None
    try:
        settings.workspace.mkdir(parents=True, exist_ok=True)
        return Pepper(made_secret(path))
    except OSError as error:
        raise WorkspaceError(f"The pepper of keys cannot be made at {path}: {error}.") from None
