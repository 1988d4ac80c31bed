"""`sentinel monitor`: one process of a deployment that watches over all of it.

It stands beside the scorers and has no part in decisions. What it does are the watches that
`WATCHES` makes. Two locks keep it alone: a file in the workspace, and one on the database that
holds the ledger, where there is one.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from filelock import FileLock, Timeout

from sentinel.arrow_alone import keep_pandas_out
from sentinel.domain import LedgerUnavailable, SentinelError, WorkspaceError
from sentinel.ledger.open import held_lock
from sentinel.monitoring.watch_metrics import WatchMetrics
from sentinel.pipeline.monitor_server import MonitorServer, process_registry
from sentinel.pipeline.watches import MakeWatch, MonitorContext, Watch, WatchThread, health_of
from sentinel.private_files import keep_files_private
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.log_setup import set_up_logs

if TYPE_CHECKING:
    from sentinel.ledger.held_lock import HeldLock

log = logging.getLogger(__name__)


def _alerts(context: MonitorContext) -> Watch | None:
    from sentinel.pipeline.alert_watch import alert_watch

    return alert_watch(context)


def _digest(context: MonitorContext) -> Watch | None:
    from sentinel.pipeline.digest import digest_watch

    return digest_watch(context)


def _drift(context: MonitorContext) -> Watch | None:
    from sentinel.pipeline.drift_watch import make_drift_watch

    return make_drift_watch(context)


def _label_drift(context: MonitorContext) -> Watch | None:
    from sentinel.pipeline.label_drift_watch import make_label_drift_watch

    return make_label_drift_watch(context)


def _label_feed(context: MonitorContext) -> Watch:
    from sentinel.pipeline.label_feed_watch import watch_label_feed

    return watch_label_feed(context)


def _parity(context: MonitorContext) -> Watch | None:
    from sentinel.pipeline.parity_watch import watch_parity

    return watch_parity(context)


WATCHES: Final[tuple[MakeWatch, ...]] = (
    _drift,
    _alerts,
    _digest,
    _label_feed,
    _label_drift,
    _parity,
)
"""Makers of all watches. Each one's modules are imported when it is made."""

LOCK_FILE: Final = "monitor.lock"
LOCK_PURPOSE: Final = "monitor"
STOP_SECONDS: Final = 5.0
"""How long watches have to end their present run once the process is told to end."""
_TAKEOVER_SECONDS: Final = 10.0
"""How long a monitor that was killed may still seem to run."""
_LOCK_LOOK_SECONDS: Final = 5.0
_NICENESS: Final = 5
"""Where processors are short, decisions go first."""


def run_monitor(
    settings: Settings,
    *,
    makers: Sequence[MakeWatch] = WATCHES,
    stop: threading.Event | None = None,
) -> None:
    """Watch over a deployment until told to stop.

    Args:
        settings: The deployment.
        makers: Of the watches.
        stop: Set it to end; default: SIGTERM and SIGINT do.

    Raises:
        ConfigurationError: The monitor's address cannot be listened on.
        WorkspaceError: Another process watches over the deployment.
    """
    if stop is None:
        stop = _stop_by_signals()
    registry = process_registry()
    with _alone_in_workspace(settings, stop), _alone_in_database(settings, stop) as lock:
        if stop.is_set():
            return
        context = MonitorContext(settings, stop, registry)
        watches = [watch for make in makers if (watch := make(context)) is not None]
        threads = [WatchThread(watch, stop) for watch in watches]
        registry.register(WatchMetrics(lambda: health_of(threads).watches))
        server = MonitorServer(
            settings.monitor.host, settings.monitor.port, registry, lambda: health_of(threads)
        )
        try:
            log.info("Watching: %s.", ", ".join(w.name for w in watches) or "nothing")
            for thread in threads:
                thread.start()
            _wait(stop, lock)
        finally:
            stop.set()
            server.close()
            _join(threads)


def _wait(stop: threading.Event, lock: HeldLock | None) -> None:
    """Wait for the end, and see that the lock on the database stays ours.

    While the database is away the watches go on: one of them tells people of it.
    """
    away = False
    while not stop.wait(_LOCK_LOOK_SECONDS):
        if lock is None:
            continue
        try:
            ours = lock.take()
        except SentinelError as error:
            if not away:
                log.warning("Watching goes on without the lock on the database. %s", error)
            away = True
            continue
        away = False
        if not ours:
            raise WorkspaceError(_ANOTHER)


_ANOTHER: Final = (
    "Another monitor watches over this deployment, and one is enough. Stop it first, or let it go "
    "on instead of this one."
)


@contextmanager
def _alone_in_workspace(settings: Settings, stop: threading.Event) -> Iterator[None]:
    settings.workspace.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.workspace / LOCK_FILE, timeout=0, thread_local=False)

    def take() -> bool:
        try:
            lock.acquire()
        except Timeout:
            return False
        return True

    until = time.monotonic() + _TAKEOVER_SECONDS
    while not take():
        if time.monotonic() > until:
            raise WorkspaceError(_ANOTHER)
        if stop.wait(0.2):
            break
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _alone_in_database(settings: Settings, stop: threading.Event) -> Iterator[HeldLock | None]:
    lock = held_lock(settings, LOCK_PURPOSE)
    if lock is None:
        yield None
        return
    until = time.monotonic() + _TAKEOVER_SECONDS
    try:
        while True:
            try:
                if lock.take():
                    break
            except LedgerUnavailable as error:
                log.warning("Watching begins without the lock on the database. %s", error)
                break
            if time.monotonic() > until:
                raise WorkspaceError(_ANOTHER)
            if stop.wait(0.2):
                break
        yield lock
    finally:
        lock.close()


def _join(threads: Sequence[WatchThread]) -> None:
    until = time.monotonic() + STOP_SECONDS
    for thread in threads:
        if not thread.join(max(0.0, until - time.monotonic())):
            log.warning("Watch %s is ended in the middle of a run.", thread.watch.name)


def _stop_by_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def main() -> None:
    """Entry point of ``python -m sentinel.pipeline.monitor``, without the command line's weight."""
    keep_files_private()
    keep_pandas_out()
    settings = load_settings()
    set_up_logs(settings.logs, "monitor")
    os.nice(_NICENESS)
    try:
        run_monitor(settings)
    except SentinelError as error:
        raise SystemExit(f"sentinel.pipeline.monitor: {error}") from None


if __name__ == "__main__":
    main()
