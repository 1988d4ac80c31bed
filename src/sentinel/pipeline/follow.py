"""The follower: a small process that keeps the served champion that of the registry.

It asks the registry in plain HTTP, without a client of MLflow, and brings what should serve
(`sentinel.pipeline.registry_sync`). What it sees there it notes for others
(`sentinel.pipeline.registry_look`).
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import Final

from sentinel.domain import ConfigurationError, SentinelError, Unavailable
from sentinel.models.registry_owner import check_own_server
from sentinel.monitoring.follower_metrics import FollowerMetrics
from sentinel.pipeline.monitor_server import MonitorServer, process_registry
from sentinel.pipeline.registry_http import RegistryOverHttp
from sentinel.pipeline.registry_look import look, note_problem
from sentinel.pipeline.registry_sync import (
    Stamp,
    bring_champion,
    bring_line_up,
    warn_of_experiments,
)
from sentinel.pipeline.watches import Health
from sentinel.private_files import keep_files_private
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.log_setup import set_up_logs

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 2.0
_LONGEST_WAIT_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 10.0


def follow(
    settings: Settings, stop: threading.Event, metrics: FollowerMetrics | None = None
) -> None:
    """Keep the served champion that of the registry, until told to stop.

    Args:
        settings: The deployment.
        stop: Set it to end.
        metrics: Counts looks; default: a count that nobody sees.
    """
    metrics = metrics or FollowerMetrics()
    problem = ""
    wait = POLL_SECONDS
    serving: str | None = None
    looked = 0.0
    whole: dict[str, Stamp] = {}
    warned: dict[str, str] = {}
    untold = ""
    # One connection for all questions: opening one costs more than a question.
    with RegistryOverHttp(settings.tracking_uri) as server:
        while not stop.is_set():
            began, wanting = time.perf_counter(), 1
            try:
                if serving is None or problem:  # another server may answer by now
                    check_own_server(settings)
                try:
                    version = bring_champion(settings, server)
                    wanting = 0
                finally:  # experiments do not wait for a champion that cannot be fetched
                    missing = bring_line_up(settings, server, whole)
                    wanting += len(missing)
                    if missing != warned:
                        warn_of_experiments(missing)
                        warned = missing
                if problem or version != serving or time.monotonic() - looked > _LOOK_SECONDS:
                    said = look(settings, server)
                    if said and said != untold:
                        log.warning("%s", said)
                    untold, looked = said, time.monotonic()
            except (SentinelError, OSError) as error:
                known = None if isinstance(error, Unavailable) else wanting
                metrics.looked(time.perf_counter() - began, well=False, missing=known)
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
                if str(error) != problem:
                    problem = str(error)
                    log.warning("The served model stays as it is. %s", problem)
                    note_problem(settings, server, error)
            else:
                metrics.looked(time.perf_counter() - began, well=True, missing=wanting)
                wait = POLL_SECONDS
                if problem:
                    log.info("The registry's champion can be followed again.")
                    problem = ""
                if version != serving:
                    serving = version
                    log.info("Champion: version %s of %s.", version, settings.mlflow.model_name)
            stop.wait(wait)


def run_follower(settings: Settings) -> None:
    """Follow the registry until the process is told to end.

    Raises:
        ConfigurationError: The address of `/metrics` cannot be listened on.
    """
    stop = threading.Event()
    for wanted in (signal.SIGINT, signal.SIGTERM):
        signal.signal(wanted, lambda *_: stop.set())
    metrics = FollowerMetrics()
    server = show_metrics(settings, metrics) if settings.follower.port else None
    try:
        follow(settings, stop, metrics)
    finally:
        if server is not None:
            server.close()


def show_metrics(settings: Settings, metrics: FollowerMetrics) -> MonitorServer:
    """Serve `/metrics` and `/healthz` of the follower, in threads beside it.

    Raises:
        ConfigurationError: The address cannot be listened on.
    """
    return MonitorServer(
        settings.follower.host,
        settings.follower.port,
        process_registry(metrics),
        lambda: Health(not metrics.is_stuck, ()),
        whose="The follower",
        variables="SENTINEL_FOLLOWER__HOST and SENTINEL_FOLLOWER__PORT",
    )


def main() -> None:
    """Entry point of ``python -m sentinel.pipeline.follow``, without the command line's weight."""
    keep_files_private()
    settings = load_settings()
    set_up_logs(settings.logs, "follow")
    try:
        run_follower(settings)
    except ConfigurationError as error:
        raise SystemExit(f"sentinel.pipeline.follow: {error}") from None


if __name__ == "__main__":
    main()
