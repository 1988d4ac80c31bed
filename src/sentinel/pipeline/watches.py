"""Watches: jobs that the monitor repeats for as long as it runs.

Each has a thread of its own, so that a slow one holds no other up. One that raises is logged,
counted and run again; it ends neither the others nor the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, runtime_checkable

from prometheus_client import CollectorRegistry

from sentinel.domain import SentinelError
from sentinel.models.label_feed import LabelFeed
from sentinel.monitoring.watch_metrics import WatchState
from sentinel.settings import Settings
from sentinel.telemetry.safe_errors import shown
from sentinel.telemetry.safe_records import without_numbers

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 5.0
"""Pause after a run that failed, unless the watch runs more often anyway; doubled each time."""
LONGEST_RETRY_SECONDS: Final = 60.0
STUCK_SECONDS: Final = 1800.0
"""A run that takes longer is told as stuck by `/healthz`."""


class Watch(Protocol):
    """A job that is repeated.

    A run need not be quick, since it has a thread of its own. One that may take more than a second
    looks at `MonitorContext.stop` meanwhile. A watch is used by one thread, except for samples that
    it gives to a registry.

    Attributes:
        name: Lower-case words with hyphens; a label of metrics.
        every_seconds: Pause between the end of a run and the next one.
    """

    name: str
    every_seconds: float

    def run(self, now_us: int) -> None:
        """Do the job once.

        Args:
            now_us: The clock, microseconds UTC.

        Raises:
            Exception: Anything; the job is done again a little later.
        """
        ...


@runtime_checkable
class ClosedWatch(Watch, Protocol):
    """A watch that has something to end, in its thread after the last run."""

    def close(self) -> None:
        """End it, within seconds."""
        ...


class LatestLabelFeed:
    """What the watch of the label feed saw last, for other watches.

    Attributes:
        seen: How the feed did by the end of the log; None before all of the log was read, and
            while it cannot be read.
    """

    def __init__(self) -> None:
        self.seen: LabelFeed | None = None


@dataclass(frozen=True)
class MonitorContext:
    """What the makers of watches are given. They reach no store, disk or network themselves.

    Attributes:
        settings: The deployment.
        stop: Set when the process is to end: whatever lasts looks at it, or waits on it.
        registry: What `/metrics` of the monitor shows; a watch registers its collectors here.
        label_feed: What one watch sees of labels and others ask for.
    """

    settings: Settings
    stop: threading.Event
    registry: CollectorRegistry
    label_feed: LatestLabelFeed = field(default_factory=LatestLabelFeed)


MakeWatch = Callable[[MonitorContext], Watch | None]
"""Makes a watch; None if these settings have no use for it."""


class WatchThread:
    """Repeats one watch in a thread, and knows how it does.

    Args:
        watch: The watch.
        stop: Ends the thread after the present run.
    """

    def __init__(self, watch: Watch, stop: threading.Event) -> None:
        self.watch = watch
        self._stop = stop
        self._lock = threading.Lock()
        self._runs = 0
        self._failures = 0
        self._failed_in_a_row = 0
        self._began: float | None = None
        self._last_seconds = 0.0
        self._last_success_us = 0
        self._problem = ""
        # A run that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._repeat, name=watch.name, daemon=True)

    def start(self) -> None:
        """Begin with the first run at once."""
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for the thread's end; returns whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def state(self) -> WatchState:
        """How the watch does now."""
        with self._lock:
            return WatchState(
                name=self.watch.name,
                every_seconds=self.watch.every_seconds,
                runs=self._runs,
                failures=self._failures,
                running_seconds=0.0 if self._began is None else time.monotonic() - self._began,
                last_seconds=self._last_seconds,
                last_success_us=self._last_success_us,
                problem=self._problem,
            )

    def _repeat(self) -> None:
        while not self._stop.is_set():
            self.run_once()
            self._stop.wait(self._pause())
        if isinstance(self.watch, ClosedWatch):
            self.watch.close()

    def run_once(self) -> None:
        """One guarded run."""
        with self._lock:
            self._began = time.monotonic()
        problem: BaseException | None = None
        try:
            self.watch.run(time.time_ns() // 1000)
        except Exception as error:  # noqa: BLE001 -- the next run may do better
            problem = error
        with self._lock:
            self._last_seconds = time.monotonic() - self._began
            self._began = None
            before, self._problem = self._problem, _told(problem)
            if problem is None:
                self._runs += 1
                self._failed_in_a_row = 0
                self._last_success_us = time.time_ns() // 1000
            else:
                self._failures += 1
                self._failed_in_a_row += 1
        self._say(before, problem)

    def _say(self, before: str, problem: BaseException | None) -> None:
        if self._problem == before:
            return  # said already
        if problem is None:
            log.info("Watch %s goes on.", self.watch.name)
        elif isinstance(problem, SentinelError):
            log.warning("Watch %s failed and is tried again. %s", self.watch.name, problem)
        else:
            log.error("Watch %s failed and is tried again.", self.watch.name, exc_info=problem)

    def _pause(self) -> float:
        if not self._failed_in_a_row:
            return self.watch.every_seconds
        doubled = RETRY_SECONDS * 2.0 ** min(self._failed_in_a_row - 1, 10)
        return min(doubled, LONGEST_RETRY_SECONDS, max(self.watch.every_seconds, RETRY_SECONDS))


class Health(NamedTuple):
    """How the monitor does.

    Attributes:
        well: Whether every watch is on its way.
        watches: Of each, its state.
    """

    well: bool
    watches: Sequence[WatchState]


def health_of(threads: Sequence[WatchThread]) -> Health:
    """How watches do. Watches whose last run failed are on their way: they are tried again."""
    states = [thread.state() for thread in threads]
    return Health(all(state.running_seconds < STUCK_SECONDS for state in states), states)


def _told(problem: BaseException | None) -> str:
    """What `/healthz` says of a failure; like the log, it shows no value that came in."""
    return "" if problem is None else without_numbers(shown(problem))
