"""What telemetry raises must reach nobody: it is logged once and counted."""

from __future__ import annotations

import contextlib
import logging


def said_once(log: logging.Logger, what: str, error: Exception, *, said: bool) -> bool:
    """Log that something could not be told of, unless that was said already.

    Args:
        log: Where to. If it fails itself, nothing is raised.
        what: What could not be told of; the beginning of the sentence.
        error: What was raised.
        said: Whether it was said before, and nothing has been told since.

    Returns:
        True: it is said by now.
    """
    if not said:
        with contextlib.suppress(Exception):
            log.error("%s could not be told of; sentinel_telemetry_failures_total counts the "
                      "further ones.", what, exc_info=error)  # fmt: skip
    return True
