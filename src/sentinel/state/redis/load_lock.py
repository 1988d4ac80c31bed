"""The lock of the one scorer that loads a state into Redis."""

from __future__ import annotations

import os
from typing import Final

from sentinel.domain import StateUnavailable
from sentinel.state.redis.notes import CallFunction

LOCK_SECONDS: Final = 60
LOST: Final = "Another scorer loads the state by now."


class LoadLock:
    """Held by the one scorer that loads a state; it expires if that scorer stops.

    Args:
        key: Of the lock.
        call: See `Notes`.

    Attributes:
        key: Of the lock.
        holder: Names who holds it.
    """

    def __init__(self, key: bytes, call: CallFunction) -> None:
        self.key = key
        self.holder = os.urandom(16).hex().encode()
        self._call = call

    def take(self) -> bool:
        """Take it, or hold it for longer; whether nobody else has it."""
        return bool(self._call("hold", (self.key,), self.holder, b"%d" % LOCK_SECONDS))

    def hold(self) -> None:
        """Hold it for longer.

        Raises:
            StateUnavailable: Somebody else has it by now.
        """
        if not self.take():
            raise StateUnavailable(LOST)

    def release(self) -> None:
        """Let somebody else have it."""
        self._call("hold", (self.key,), self.holder, b"0")
