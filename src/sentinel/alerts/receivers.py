"""A thread for each channel of alerts, so that a slow one holds up neither others nor the looks.

What a channel is told is the difference between the alerts and what it was told last, so nothing
piles up: while a channel is at work the newest look waits for it, and takes the place of one that
waited before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

from sentinel.alerts.states import Held, Key
from sentinel.alerts.telling import Channel

log = logging.getLogger(__name__)

LOOKS_WAITING: Final = 1
"""Looks that wait for a channel at work. A newer one says all that an older one does."""
SLOW_SECONDS: Final = 60.0
"""A channel that works on one look for longer is told of in the log."""

Look = tuple[int, Mapping[Key, Held]]
"""When it was, microseconds UTC, and the alerts as they were."""
Tell = Callable[[str, Channel, int, Mapping[Key, Held]], None]
"""(name, channel, now_us, alerts): tells a channel what it is to know."""


class Receivers:
    """Tells each channel in a thread of its own.

    Args:
        channels: By name.
        tell: Does it; what it raises is logged.
    """

    def __init__(self, channels: Mapping[str, Channel], tell: Tell) -> None:
        self._receivers = [_Receiver(name, channel, tell) for name, channel in channels.items()]

    def look(self, now_us: int, alerts: Mapping[Key, Held]) -> None:
        """Have every channel told what it is to know by now. Does not wait."""
        for receiver in self._receivers:
            receiver.take((now_us, alerts))

    def settle(self, seconds: float) -> bool:
        """Wait until all have been told; returns whether they were in that time."""
        until = time.monotonic() + seconds
        return all(one.settle(until - time.monotonic()) for one in self._receivers)


class _Receiver:
    """One channel and its thread, which is begun with the first look."""

    def __init__(self, name: str, channel: Channel, tell: Tell) -> None:
        self._name = name
        self._channel = channel
        self._tell = tell
        self._changed = threading.Condition()
        self._waiting: list[Look] = []
        self._began: float | None = None
        self._slow_said = False
        self._thread: threading.Thread | None = None

    def take(self, look: Look) -> None:
        with self._changed:
            self._waiting = [*self._waiting, look][-LOOKS_WAITING:]
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"alerts-{self._name}", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()
            began = self._began
        if began is not None and time.monotonic() - began > SLOW_SECONDS and not self._slow_said:
            self._slow_said = True
            log.warning("Telling of alerts by %s takes longer than %d s.", self._name, SLOW_SECONDS)

    def settle(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and self._began is None, max(0.0, seconds)
            )

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                now_us, alerts = self._waiting.pop(0)
                self._began = time.monotonic()
            try:
                self._tell(self._name, self._channel, now_us, alerts)
            except Exception as error:  # noqa: BLE001 -- the next look is told all the same
                log.warning("What was told by %s could not be noted. %s", self._name, error)
            finally:
                with self._changed:
                    self._began = None
                    self._slow_said = False
                    self._changed.notify_all()
