"""How much memory feature state may take."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from sentinel.settings import Settings

SHARE_OF_MEMORY: Final = 0.5
"""Of the memory that a scorer may use. A snapshot is written by a copy of the process, which keeps
the old content of what payments change meanwhile, so that state may be there twice."""

SHARE_OF_REDIS: Final = 0.9
"""Of the memory that Redis may use: records that exist go on growing."""

_CGROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

log = logging.getLogger(__name__)


def process_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" where there is none
            memory = min(memory, int(text))
    return memory


def embedded_budget(settings: Settings) -> int:
    """Bytes that state in the scoring process may take; 0 if there is no bound."""
    if settings.ledger.group_format == 1:
        log.warning(
            "Feature state has no budget while ledger.group_format is 1: that format cannot say "
            "which payments made no records."
        )
        return 0
    chosen = settings.state.max_mb * 1_000_000
    return chosen or int(SHARE_OF_MEMORY * process_memory())


def redis_budget(settings: Settings, maxmemory: int) -> int:
    """Bytes that state in Redis may take; 0 if there is no bound.

    Args:
        settings: The deployment.
        maxmemory: Of the server, bytes; 0 if it has none.
    """
    if settings.ledger.group_format == 1:
        return 0
    chosen = settings.state.max_mb * 1_000_000
    most = int(SHARE_OF_REDIS * maxmemory)
    return min(chosen, most) if chosen and most else chosen or most
