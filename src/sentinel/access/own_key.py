"""The key that this process's own clients send: live traffic, the dashboard, doctor."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final, Protocol

from sentinel.settings import Settings

OWN_KEY_FILE: Final = "access.key"
"""In the workspace: the key of its own tools."""
_VARIABLE: Final = "SENTINEL_ACCESS__KEY_FILE"


class HasHeaders(Protocol):
    """A request of any HTTP client, as far as it matters here."""

    @property
    def headers(self) -> MutableMapping[str, str]: ...


class OwnKey:
    """The key that is set, or that the workspace holds; a file is read again when it changes.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._key = settings.access.key.get_secret_value()
        named = os.environ.get(_VARIABLE)
        self._path: Path | None = Path(named) if named else None
        if self._path is None and not self._key:
            self._path = settings.workspace / OWN_KEY_FILE
        self._seen: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        """The key; empty if there is none."""
        if self._path is not None:
            try:
                found = self._path.stat()
                stamp = (found.st_mtime_ns, found.st_ino)
                if stamp != self._seen:
                    self._key = self._path.read_text(encoding="utf-8").strip()
                    self._seen = stamp
            except (OSError, UnicodeDecodeError):
                pass  # the one that is known stays; the API says what is wrong with it
        return self._key

    def sign(self, request: HasHeaders) -> None:
        """Put the key into a request: a hook for HTTP clients."""
        request.headers.update(self.headers())

    def headers(self) -> dict[str, str]:
        """What a request has to carry; nothing if there is no key."""
        key = self.text
        return {"authorization": f"Bearer {key}"} if key else {}
