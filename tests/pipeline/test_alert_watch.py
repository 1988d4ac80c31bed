"""Without Prometheus, too, people are told when something goes wrong, and when it is over."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from sentinel.alerts.states import Held
from sentinel.alerts.store import AlertStore
from sentinel.cli.main import app
from sentinel.domain import LedgerUnavailable
from sentinel.pipeline.alert_watch import AlertWatch, alert_watch
from sentinel.pipeline.health import checks
from sentinel.pipeline.history import read_arrivals
from sentinel.pipeline.label_feed_watch import watch_label_feed
from sentinel.pipeline.raised_alerts import acknowledge
from sentinel.pipeline.watches import LatestLabelFeed, MonitorContext
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import AlertSettings, LabelSettings, Settings
from sentinel.telemetry.starting import (
    FRESH_SECONDS,
    LONGEST_SECONDS,
    Starting,
    StartingFile,
    starting_of,
)
from testkit.ports import free_port
from testkit.scratch import Server, fraud_label, make_workspace
from testkit.servers import Mail


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(make_workspace(tmp_path_factory.mktemp("watched")))
    running.start()
    yield running
    running.kill()


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[Mail]:
    with Mail(tmp_path / "box") as server:
        yield server


def watched(server: Server, mail: Mail | None = None, **more: object) -> Settings:
    """The settings of a monitor beside a scorer, with short times."""
    short = {
        "window_seconds": 2, "page_after_seconds": 0.2, "ticket_after_seconds": 0.2,
        "group_seconds": 0, "interval_seconds": 0, "smtp_host": "127.0.0.1" if mail else "",
        "smtp_port": mail.port if mail else 25, "smtp_tls": "none", "mail_to": "ann@example.com",
    }  # fmt: skip
    settings = server.settings.model_copy(
        update={
            "api": server.settings.api.model_copy(update={"port": server.port}),
            "alerts": AlertSettings.model_validate(short | more),
        }
    )
    settings.alerts_path.unlink(missing_ok=True)
    return settings


def look_until(watch: AlertWatch, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        watch.run(time.time_ns() // 1_000)
        time.sleep(0.1)


def states(settings: Settings) -> dict[str, str]:
    return {one.name: one.state for one in AlertStore(settings.alerts_path).held().values()}


def state_of_labels(settings: Settings) -> str | None:
    """The state of the alert about labels; on a busy machine decisions may be slow, too."""
    return states(settings).get("LabelsStopped")


def test_a_scorer_that_is_killed_is_mailed_acknowledged_and_resolved(
    scorer: Server, mail: Mail
) -> None:
    settings = watched(scorer, mail)
    watch = AlertWatch(settings)
    watch.run(time.time_ns() // 1_000)
    assert states(settings) == {}
    scorer.kill()
    look_until(watch, lambda: len(mail.messages()) == 1)
    assert states(settings) == {"NoScorer": "firing"}
    command = ["--workspace", str(settings.workspace)]
    cli = CliRunner(env={"COLUMNS": "80"})
    done = cli.invoke(
        app, ["alerts", "acknowledge", "NoScorer", "--by", "ann", "--why", "on it", *command]
    )
    assert done.exit_code == 0, done.output
    listed = json.loads(cli.invoke(app, ["alerts", "list", "--json", *command]).stdout)
    (alert,) = listed["alerts"]
    assert (alert["name"], alert["state"]) == ("NoScorer", "firing")
    assert (alert["acknowledged"]["by"], alert["acknowledged"]["why"]) == ("ann", "on it")
    shown = cli.invoke(app, ["alerts", "list", *command]).stdout
    assert "ann is on NoScorer" in shown
    assert "docs/runbooks/NoScorer.md" in shown
    scorer.start()
    look_until(watch, lambda: len(mail.messages()) == 2)
    assert states(settings) == {"NoScorer": "resolved"}
    assert any("NoScorer is resolved" in message for message in mail.messages())
    refused = cli.invoke(app, ["alerts", "acknowledge", "NoScorer", "--why", "late", *command])
    assert refused.exit_code == 1
    assert "No alert 'NoScorer' fires. None does." in refused.output


class Refusing(BaseHTTPRequestHandler):
    """A scorer that knows no key."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def alone(folder: Path, port: int, mail: Mail) -> Settings:
    """The settings of a monitor beside something that is no scorer of a workspace."""
    at_once = {
        "page_after_seconds": 0, "group_seconds": 0, "smtp_host": "127.0.0.1",
        "smtp_port": mail.port, "smtp_tls": "none", "mail_to": "ann@example.com",
    }  # fmt: skip
    api = {"host": "127.0.0.1", "port": port, "admin_port": 0}
    return Settings.model_validate({"workspace": folder, "api": api, "alerts": at_once})


def test_a_scorer_that_refuses_the_monitors_key_is_not_taken_for_one_that_is_down(
    tmp_path: Path, mail: Mail, caplog: pytest.LogCaptureFixture
) -> None:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        settings = alone(tmp_path, server.server_port, mail)
        watch = AlertWatch(settings)
        for _ in range(3):
            watch.run(time.time_ns() // 1_000)
        server.shutdown()
        thread.join()
    assert states(settings) == {}
    assert mail.messages() == []
    assert caplog.text.count("it answers 401") == 1


def test_people_are_told_once_while_the_file_of_alerts_cannot_be_written(
    tmp_path: Path, mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentinel.workspace_database._LOCK_SECONDS", 0.05)
    settings = alone(tmp_path, free_port(), mail)
    AlertStore(settings.alerts_path).note_digest("another", 0)  # the file is there
    watch = AlertWatch(settings)
    with closing(sqlite3.connect(settings.alerts_path, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        for _ in range(4):
            with pytest.raises(LedgerUnavailable, match="locked"):
                watch.run(time.time_ns() // 1_000)
        assert watch.receivers.settle(20)
        another.execute("ROLLBACK")
    assert len(mail.messages()) == 1
    watch.run(time.time_ns() // 1_000)
    assert watch.receivers.settle(20)
    assert states(settings) == {"NoScorer": "firing"}
    assert len(mail.messages()) == 1


def test_people_are_told_once_while_the_file_of_alerts_cannot_be_read(
    tmp_path: Path, mail: Mail
) -> None:
    settings = alone(tmp_path, free_port(), mail)
    settings.alerts_path.write_bytes(b"no database at all " * 400)
    watch = AlertWatch(settings)
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match="not a database"):
            watch.run(time.time_ns() // 1_000)
        assert watch.receivers.settle(20)
    assert len(mail.messages()) == 1
    settings.alerts_path.unlink()
    watch.run(time.time_ns() // 1_000)
    assert watch.receivers.settle(20)
    assert states(settings) == {"NoScorer": "firing"}
    assert len(mail.messages()) == 1


def test_an_acknowledgement_covers_what_fired_by_a_clock_that_was_ahead(tmp_path: Path) -> None:
    settings, store = Settings(workspace=tmp_path), AlertStore(tmp_path / "alerts.db")
    later = time.time_ns() // 1_000 + 3_600_000_000
    alert = Held(
        name="NoScorer", subject="", state="firing", summary="", since_us=later, fired_at_us=later
    )
    store.keep({alert.key: alert})
    acknowledge(settings, "NoScorer", by="ann", why="on it", hours=2)
    assert store.acknowledged(later)["NoScorer"].covers(alert)


def test_a_disk_that_is_nearly_full_is_told_with_its_folder(scorer: Server) -> None:
    settings = watched(scorer, disk_full_share=0.000001)
    look_until(AlertWatch(settings), lambda: states(settings) == {"DiskNearlyFull": "firing"})
    (held,) = AlertStore(settings.alerts_path).held().values()
    assert held.subject == str(settings.workspace)


def test_labels_that_stop_are_told_and_labels_that_come_resolve_it(scorer: Server) -> None:
    settings = watched(scorer).model_copy(
        update={"labels": LabelSettings(max_silence_days=3 / 86_400)}
    )
    sent = 0

    def pay(label: bool = False) -> None:
        nonlocal sent
        sent += 1
        payment = {"transaction_id": f"p{sent}", "amount_minor": 100, "card_id": "K1"}
        httpx.post(f"{scorer.url}/predict", json=payment).raise_for_status()
        if label:
            httpx.post(f"{scorer.url}/labels", json=fraud_label(f"p{sent}")).raise_for_status()

    for _ in range(12):
        pay(label=True)
        time.sleep(0.01)
    context = MonitorContext(settings, threading.Event(), CollectorRegistry())
    labels, watch = watch_label_feed(context), alert_watch(context)
    watch.run(time.time_ns() // 1_000)  # nothing was seen of labels yet
    assert state_of_labels(settings) is None

    def paid_and_is(state: str, label: bool = False) -> bool:
        pay(label)
        labels.run(time.time_ns() // 1_000)
        return state_of_labels(settings) == state

    look_until(watch, lambda: paid_and_is("firing"))
    pay(label=True)
    unknown = LatestLabelFeed()
    AlertWatch(settings, unknown).run(time.time_ns() // 1_000)
    assert state_of_labels(settings) == "firing"  # while nobody knows, it stays as it is
    # A busy machine may take longer than the silence that is allowed, so labels go on coming.
    look_until(watch, lambda: paid_and_is("resolved", label=True))
    # What was read bit by bit is what a reader of the whole log finds.
    with ledger_reader(settings) as ledger:
        newest = int(read_arrivals(ledger.groups()).max())
    seen = context.label_feed.seen
    assert seen is not None
    assert seen.newest_us == newest


def test_a_trial_says_what_happened_and_doctor_who_would_be_told(
    scorer: Server, mail: Mail
) -> None:
    from sentinel.pipeline.raised_alerts import try_channels

    silent = Settings(workspace=scorer.settings.workspace)
    (tried,) = try_channels(silent)
    assert not tried.well
    assert "alerts.smtp_host is not set" in tried.said
    assert "nobody is told, since alerts.smtp_host is not set" in dict(checks(silent))["alerts"]()
    settings = watched(scorer, mail)
    (tried,) = try_channels(settings)
    assert tried.well
    assert "took it for ann@example.com" in tried.said
    assert "This is a trial." in mail.messages()[0]
    assert "told to ann@example.com by 127.0.0.1" in dict(checks(settings))["alerts"]()


def test_a_mail_server_that_hangs_holds_up_neither_the_webhook_nor_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentinel.alerts.mail.TIMEOUT_SECONDS", 4.0)
    posted: list[bytes] = []

    class Taking(Refusing):
        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

    with socket.create_server(("127.0.0.1", 0)) as silent, HTTPServer(
        ("127.0.0.1", 0), Taking
    ) as hook:  # fmt: skip
        thread = threading.Thread(target=hook.serve_forever, args=(0.02,))
        thread.start()
        settings = Settings.model_validate({
            "workspace": tmp_path,
            "api": {"port": free_port()},
            "alerts": {
                "page_after_seconds": 0, "group_seconds": 0, "interval_seconds": 0,
                "smtp_host": "127.0.0.1", "smtp_port": silent.getsockname()[1],
                "smtp_tls": "none", "mail_to": "ann@example.com",
                "webhook_url": f"http://127.0.0.1:{hook.server_port}/",
            },
        })  # fmt: skip
        watch = AlertWatch(settings)
        began = time.monotonic()
        for _ in range(5):
            watch.run(time.time_ns() // 1_000)
        looked = time.monotonic() - began
        while not posted:
            assert time.monotonic() - began < 3
            time.sleep(0.01)
        assert looked < 3
        assert not watch.receivers.settle(0)  # the mail is still being tried
        assert watch.receivers.settle(30)
        hook.shutdown()
        thread.join()
    assert len(posted) == 1
    problem = AlertStore(settings.alerts_path).deliveries()["mail"].problem
    assert "does not answer" in problem


def test_a_scorer_that_reads_a_long_log_at_its_start_wakes_nobody(
    tmp_path: Path, mail: Mail
) -> None:
    settings = alone(tmp_path, free_port(), mail)
    watch = AlertWatch(settings)
    with StartingFile(tmp_path) as starting:
        starting.progress(10, 1_000)
        now_us = time.time_ns() // 1_000
        watch.run(now_us)
        assert states(settings) == {}
        watch.run(now_us + round((FRESH_SECONDS + 1) * 1e6))  # it says nothing any more
        assert states(settings) == {"NoScorer": "firing"}
    assert starting_of(tmp_path) is None
    assert watch.receivers.settle(20)
    said = Starting(began_us=0, at_us=round(LONGEST_SECONDS * 1e6))
    assert not said.is_at_work(round(LONGEST_SECONDS * 1e6) + 1)  # it has taken too long


def test_a_scorer_says_that_it_starts_until_it_answers(scorer: Server) -> None:
    workspace = scorer.settings.workspace
    scorer.kill()
    thread = threading.Thread(target=scorer.start)
    thread.start()
    seen = False
    while thread.is_alive():
        seen |= starting_of(workspace) is not None
        time.sleep(0.002)
    thread.join()
    assert seen
    assert starting_of(workspace) is None
