"""Which names experiments of a deployment ever had, so that others are refused at no cost."""

from __future__ import annotations

import threading
from typing import Final

from sentinel.domain import NotFound
from sentinel.experiments.lineup import may_be_name
from sentinel.experiments.store import open_line_ups
from sentinel.settings import Settings

MOST_SHOWN: Final = 20
"""Names that are listed where another one is asked for."""
_PAGE: Final = 200


class Names:
    """Names in all versions of the line-up. Safe from any thread; waits for the store.

    A version is read once, so that there are at most as many names as versions
    (`sentinel.documents.store.MOST_VERSIONS`).

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._names: dict[str, None] = {}
        self._seen = 0

    def require(self, name: str) -> None:
        """Raise NotFound if no experiment ever had a name.

        Raises:
            LedgerUnavailable, WorkspaceError, ConfigurationError: The line-up cannot be read.
        """
        if may_be_name(name):
            with self._lock:
                if name in self._names:
                    return
                self._read()
                if name in self._names:
                    return
        names = list(self._names)
        more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
        there_were = ", ".join(names[-MOST_SHOWN:]) + more if names else "none"
        raise NotFound(f"There never was an experiment {name[:80]!r}. There were: {there_were}.")

    def _read(self) -> None:
        """Read the versions that are new."""
        store = open_line_ups(self._settings)
        try:
            latest = store.latest()
            before, found = latest + 1, list[str]()
            while before - 1 > self._seen:
                page = store.history(min(_PAGE, before - 1 - self._seen), before)
                if not page:
                    break
                found += [e.name for one in page for e in one.experiments]
                before = page[-1].version
        finally:
            store.close()
        self._names.update(dict.fromkeys(reversed(found)))
        self._seen = latest
