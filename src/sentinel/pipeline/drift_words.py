"""Hours of drift in words."""

from __future__ import annotations

import time


def hour_words(hour: int) -> str:
    """An hour since 1970, in words.

    >>> hour_words(490_000)
    '2025-11-24 16:00'
    """
    return time.strftime("%Y-%m-%d %H:00", time.gmtime(hour * 3600))
