"""`python -m sentinel.cli.ask URL`: a container's health check, with the standard library alone."""

from __future__ import annotations

import sys
import urllib.request
from typing import Final

_SECONDS: Final = 4.0


def ask(url: str) -> str:
    """Why a URL is not well; empty if it is."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_SECONDS):  # anything but 2xx is an error
            return ""
    except (OSError, ValueError) as error:
        return str(error)


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1]))
