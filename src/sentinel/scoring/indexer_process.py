"""The process beside a scorer that fills the ledger's queryable tables."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Final

from sentinel.ledger.open import named_on_command_line
from sentinel.settings import Settings

log = logging.getLogger(__name__)

_STOP_SECONDS: Final = 5


class IndexerProcess:
    """`sentinel.ledger.indexer` as a child of this process; started at once.

    Args:
        settings: Where the ledger and its tables are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process = self._start()

    def keep_running(self) -> None:
        """Start it again if it has ended."""
        if self._process.poll() is not None:
            log.warning("The indexer ended (%s); starting it again.", self._process.returncode)
            self._process = self._start()

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not. Waits."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _start(self) -> subprocess.Popen[bytes]:
        ledger, environment = named_on_command_line(self._settings)
        index = ["--index", str(self._settings.index_path)]
        return subprocess.Popen(
            [sys.executable, "-m", "sentinel.ledger.indexer", *ledger, *index], env=environment
        )
