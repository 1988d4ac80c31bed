"""A file of the workspace by which a scorer that reads the log at its start says that it goes on.

It answers no request before it has read all of it, so that nobody could tell it from one that is
down. The monitor of the same machine reads the file.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Final, Self

import msgspec

log = logging.getLogger(__name__)

STARTING_FILE: Final = "starting.json"
FRESH_SECONDS: Final = 60.0
"""A scorer that has said nothing for longer is not taken to be at work."""
LONGEST_SECONDS: Final = 900.0
"""A start that takes longer is told of like a scorer that is down."""
_EVERY_SECONDS: Final = 1.0


class Starting(msgspec.Struct, frozen=True, kw_only=True):
    """How far a scorer's start is.

    Attributes:
        began_us, at_us: When it began, and when it said so last, microseconds UTC.
        done, of: Entries of the log that were read, and that are to be read.
    """

    began_us: int
    at_us: int
    done: int = 0
    of: int = 0

    def is_at_work(self, now_us: int) -> bool:
        """Whether the start goes on, and has not taken too long."""
        fresh = now_us - self.at_us < FRESH_SECONDS * 1e6
        return fresh and now_us - self.began_us < LONGEST_SECONDS * 1e6


class StartingFile:
    """Written while a scorer starts, and removed at the end of the block.

    Args:
        workspace: Where it is.
    """

    def __init__(self, workspace: Path) -> None:
        self._path = workspace / STARTING_FILE
        self._began_us = time.time_ns() // 1000
        self._next = 0.0

    def __enter__(self) -> Self:
        self.progress(0, 0)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # one that stays is too old in a minute
            self._path.unlink(missing_ok=True)

    def progress(self, done: int, of: int) -> None:
        """Say how far it is, once a second at most."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _EVERY_SECONDS
        said = Starting(began_us=self._began_us, at_us=time.time_ns() // 1000, done=done, of=of)
        partial = self._path.with_suffix(".partial")
        try:
            partial.write_bytes(msgspec.json.encode(said))
            partial.replace(self._path)
        except OSError as error:
            log.warning("How far the start is could not be written. %s", error)
            self._next = float("inf")  # said once; the start goes on


def starting_of(workspace: Path) -> Starting | None:
    """How far the scorer of a workspace is with its start; None if none says that it starts."""
    try:
        return msgspec.json.decode((workspace / STARTING_FILE).read_bytes(), type=Starting)
    except (OSError, msgspec.DecodeError):
        return None
