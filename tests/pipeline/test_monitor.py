"""The monitor's process: one of a deployment, whose watches do not hold each other up."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from sentinel.domain import LedgerUnavailable, SentinelError, WorkspaceError
from sentinel.ledger.open import open_writer
from sentinel.pipeline import monitor, watches
from sentinel.pipeline.drift_watch import DriftWatch
from sentinel.pipeline.health import checks
from sentinel.pipeline.monitor import run_monitor
from sentinel.pipeline.monitor_server import MOST_REQUESTS, MonitorServer
from sentinel.pipeline.watches import (
    LONGEST_RETRY_SECONDS,
    Health,
    MakeWatch,
    MonitorContext,
    WatchThread,
    health_of,
)
from sentinel.settings import LedgerSettings, Settings
from sentinel.settings.monitoring import MonitorSettings
from testkit.drifting_log import START_HOUR, fill_hours
from testkit.ports import free_port


class Counting:
    """Counts its runs, after doing something else first."""

    def __init__(
        self, name: str, every_seconds: float, first: Callable[[], object] = lambda: None
    ) -> None:
        self.name = name
        self.every_seconds = every_seconds
        self.runs = 0
        self._first = first

    def run(self, now_us: int) -> None:
        assert abs(now_us / 1e6 - time.time()) < 5
        self._first()
        self.runs += 1


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def here(folder: Path, **more: Any) -> Settings:
    return Settings(workspace=folder, monitor=MonitorSettings(port=free_port()), **more)


@contextmanager
def running(settings: Settings, makers: Sequence[MakeWatch]) -> Iterator[str]:
    """A monitor in a thread; gives its address."""
    stop = threading.Event()
    thread = threading.Thread(
        target=run_monitor, args=(settings,), kwargs={"makers": makers, "stop": stop}
    )
    thread.start()
    url = f"http://127.0.0.1:{settings.monitor.port}"
    try:
        until(lambda: not thread.is_alive() or answers(url))
        yield url
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def samples(url: str) -> dict[tuple[str, str, str], float]:
    """By name, watch and result."""
    text = httpx.get(f"{url}/metrics", timeout=5).text
    return {
        (one.name, one.labels.get("watch", ""), one.labels.get("result", "")): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_a_watch_that_hangs_or_raises_holds_no_other_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ending = threading.Event()

    def raises() -> None:
        raise ZeroDivisionError("no luck")

    quick = Counting("quick", 0.02)
    broken = Counting("broken", 0.02, raises)
    hanging = Counting("hanging", 0.02, lambda: ending.wait(30))
    makers = [lambda _, w=w: w for w in (hanging, broken, quick)]
    with running(here(tmp_path), makers) as url:
        until(lambda: quick.runs >= 10)
        told = {one["name"]: one for one in httpx.get(f"{url}/healthz").json()["watches"]}
        seen = samples(url)
        ending.set()
    assert (broken.runs, hanging.runs) == (0, 1)
    assert told["broken"]["problem"] == "ZeroDivisionError"  # its words may be a caller's value
    assert told["hanging"]["running_seconds"] > 0
    assert told["quick"]["problem"] == ""
    assert seen["sentinel_watch_runs_total", "quick", "success"] >= 10
    assert seen["sentinel_watch_runs_total", "broken", "failure"] >= 1
    assert seen["sentinel_watch_runs_total", "hanging", "success"] == 0
    assert seen["sentinel_watch_last_success_timestamp_seconds", "hanging", ""] == 0
    (said,) = [r for r in caplog.records if "broken failed" in r.getMessage()]
    assert said.exc_info is not None  # what nobody expects comes with its traceback


def test_a_watch_that_fails_is_tried_again_with_longer_pauses_and_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(watches, "RETRY_SECONDS", 1.0)
    luck = iter([LedgerUnavailable("The ledger is away.")] * 9)

    def away() -> None:
        problem = next(luck, None)
        if problem is not None:
            raise problem

    thread = WatchThread(Counting("labels", 3600.0, away), threading.Event())
    pauses = []
    for _ in range(10):
        thread.run_once()
        pauses.append(thread._pause())
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert pauses[-2:] == [LONGEST_RETRY_SECONDS, 3600.0]
    assert [record.getMessage() for record in caplog.records] == [
        "Watch labels failed and is tried again. The ledger is away.",
        "Watch labels goes on.",
    ]
    state = thread.state()
    assert (state.runs, state.failures, state.problem) == (1, 9, "")


def test_a_run_that_never_ends_is_told_as_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "STUCK_SECONDS", 0.05)
    ending = threading.Event()
    thread = WatchThread(Counting("labels", 1.0, lambda: ending.wait(30)), ending)
    thread.start()
    registry = CollectorRegistry()
    port = free_port()
    server = MonitorServer("127.0.0.1", port, registry, lambda: health_of([thread]))
    try:
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 503)
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").json()["status"] == "stuck"
        assert httpx.get(f"http://127.0.0.1:{port}/other").status_code == 404
    finally:
        server.close()
        ending.set()
        assert thread.join(10)


def test_clients_that_say_nothing_do_not_use_the_monitor_up() -> None:
    port = free_port()
    server = MonitorServer("127.0.0.1", port, CollectorRegistry(), lambda: Health(True, []))
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_REQUESTS)]
    try:
        with pytest.raises(httpx.HTTPError):
            until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code != 200)
        for client in silent:
            client.close()
        until(lambda: answers(f"http://127.0.0.1:{port}"))
    finally:
        server.close()


def test_a_deployment_has_one_monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_TAKEOVER_SECONDS", 0.3)
    settings = here(tmp_path)
    with running(settings, []), pytest.raises(WorkspaceError, match="one is enough"):
        run_monitor(here(tmp_path), makers=[], stop=threading.Event())
    with running(settings, []) as url:  # the lock is free again
        assert answers(url)


def test_monitors_with_workspaces_of_their_own_share_one_database(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "_TAKEOVER_SECONDS", 0.3)
    of_ledger = {"ledger": LedgerSettings(url=postgres_url, namespace="monitors")}
    first, second = (here(tmp_path / name, **of_ledger) for name in ("a", "b"))
    with running(first, []), pytest.raises(WorkspaceError, match="one is enough"):
        run_monitor(second, makers=[], stop=threading.Event())
    other = here(tmp_path / "c", ledger=LedgerSettings(url=postgres_url, namespace="elsewhere"))
    with running(second, []) as url, running(other, []) as beside:
        assert answers(url)
        assert answers(beside)


def test_watches_run_while_the_database_is_away(tmp_path: Path) -> None:
    url = f"postgresql://nobody@127.0.0.1:{free_port()}/ledger"
    watch = Counting("alerts", 0.02)
    with running(here(tmp_path, ledger=LedgerSettings(url=url)), [lambda _: watch]):
        until(lambda: watch.runs > 2)


def test_makers_say_what_these_settings_have_no_use_for(tmp_path: Path) -> None:
    given: list[MonitorContext] = []

    def make(context: MonitorContext) -> None:
        given.append(context)

    settings = here(tmp_path)
    with running(settings, [make]) as url:
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok", "watches": []}
    assert [context.settings for context in given] == [settings]


def test_the_process_ends_within_seconds_of_sigterm_and_can_be_killed(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "SENTINEL_WORKSPACE": str(tmp_path),
        "SENTINEL_MONITOR__PORT": str(free_port()),
    }
    url = f"http://127.0.0.1:{environment['SENTINEL_MONITOR__PORT']}"
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)):
        process = subprocess.Popen(
            [sys.executable, "-m", "sentinel.pipeline.monitor"], env=environment
        )
        try:
            until(lambda: answers(url), 60)
            process.send_signal(number)
            assert process.wait(10) == status
        finally:
            process.kill()
            process.wait()


def doctor(settings: Settings) -> tuple[bool, str]:
    """What `sentinel doctor` says of the monitor."""
    check = dict(checks(settings))["monitor"]
    try:
        return True, check()
    except SentinelError as error:
        return False, str(error)


def test_the_doctor_says_whether_the_monitor_runs_and_how_each_watch_does(tmp_path: Path) -> None:
    settings = here(tmp_path)
    well, said = doctor(settings)
    assert not well
    assert "start it with `sentinel monitor`" in said
    broken = threading.Event()

    def may_fail() -> None:
        if broken.is_set():
            raise LedgerUnavailable("The ledger is away.")

    feed = Counting("feed", 0.02, may_fail)
    waiting = Counting("slow", 0.02, lambda: broken.wait(30))
    makers: list[MakeWatch] = [
        lambda _: feed, lambda _: waiting, DriftWatch
    ]  # fmt: skip
    with running(settings, makers) as url:
        until(lambda: feed.runs > 0)
        well, said = doctor(settings)
        assert well, said
        assert said.startswith(f"{url}, last successes: feed a moment ago, slow not yet, drift ")
        assert "drift has not looked at the log yet" in said
        broken.set()
        until(lambda: not doctor(settings)[0])
        assert "watch feed fails and is tried again: The ledger is away." in doctor(settings)[1]
    with HTTPServer(("127.0.0.1", settings.monitor.port), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert doctor(settings) == (False, f"what answers at {url} is no monitor")
        server.shutdown()


class Stranger(BaseHTTPRequestHandler):
    """Something else that listens where the monitor would."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_the_doctor_says_how_far_drift_is_behind_the_log(tmp_path: Path) -> None:
    settings = here(tmp_path)
    with open_writer(settings) as ledger:
        fill_hours(ledger, range(START_HOUR, START_HOUR + 3))
    with running(settings, [DriftWatch]):
        until(lambda: "entry 180" in doctor(settings)[1])
        assert doctor(settings)[1].endswith("; drift has followed the log to entry 180")
