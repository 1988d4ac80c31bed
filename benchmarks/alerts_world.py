"""Deployments whose parts fail on demand, with whatever watches them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import msgspec
import numpy as np

from sentinel.alerts.store import AlertStore
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.calibration import Calibration
from sentinel.models.champion import Champion
from sentinel.models.thresholds import Thresholds
from sentinel.settings import Settings
from testkit.payments import payments
from testkit.ports import free_port
from testkit.scratch import Server, default_plan, fraud_label, make_workspace, synthetic_booster
from testkit.servers import Mail, Redis, wait_until
from testkit.signed_models import sign_folder
from testkit.watching import MONITORING, Alertmanager, Prometheus

LABEL_SILENCE_SECONDS: Final = 6.0
TMPFS_BYTES: Final = 8 << 20
_EVERY_LABELLED: Final = 5

Act = Callable[[], object]
Faults = Mapping[str, tuple[str, Act, Act]]
"""Name of a scenario -> its alert, what causes it, what ends it."""


@dataclass
class Watched:
    """A deployment that is watched, and who is told.

    Attributes:
        mail: Gets the mails.
        fires: Whether an alert fires, by its name.
    """

    mail: Mail
    fires: Callable[[str], bool]

    def subjects(self, alert: str) -> list[str]:
        """Subjects of the mails about an alert."""
        found = []
        for text in self.mail.messages():
            subject = re.search(r"^Subject: (.*(?:\n[ \t].*)*)", text, re.MULTILINE)
            if subject and alert in text:
                found.append(subject[1])
        return found


class Traffic:
    """Decides payments one after the other, and labels some of them.

    Args:
        url: Of the scorer.

    Attributes:
        labels: Whether labels come.
    """

    def __init__(self, url: str) -> None:
        self.labels = True
        self.decided = 0
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        start_us = time.time_ns() // 1_000
        bodies = payments(5, prefix=f"p{start_us}", start_us=start_us, customers=100, merchants=20)
        with httpx.Client(timeout=5) as client:
            for number, body in enumerate(bodies):
                if self._stop.wait(0.05):
                    return
                body.pop("event_time", None)
                with contextlib.suppress(httpx.HTTPError):
                    client.post(f"{self._url}/predict", json=body).raise_for_status()
                    self.decided += 1
                    if self.labels and number % _EVERY_LABELLED == 0:
                        label = fraud_label(str(body["transaction_id"]))
                        client.post(f"{self._url}/labels", json=label).raise_for_status()


@dataclass
class World:
    """A deployment with everything that may fail.

    Attributes:
        server: The scorer.
        redis: What the monitor takes for the place of shared state; the scorer has its own.
        traffic: Sends payments.
        disk: A small file system that is watched.
    """

    server: Server
    redis: Redis
    traffic: Traffic
    disk: Path

    def faults(self) -> Faults:
        """Name of the scenario -> its alert, what causes it, what ends it."""
        filling = self.disk / "filling"
        settings = self.server.settings
        return {
            "api_killed": ("NoScorer", self.server.kill, self.server.start),
            "redis_stopped": ("RedisDown", self.redis.stop, self.redis.start),
            "disk_nearly_full": (
                "DiskNearlyFull",
                lambda: filling.write_bytes(bytes(TMPFS_BYTES * 15 // 16)),
                filling.unlink,
            ),
            "label_feed_stopped": (
                "LabelsStopped",
                lambda: setattr(self.traffic, "labels", False),
                lambda: setattr(self.traffic, "labels", True),
            ),
            "alert_rate_jump": (
                "AlertShareJumped",
                lambda: _crown(settings, "2", review=0.0),
                lambda: _crown(settings, "1", review=0.4),
            ),
        }


def _crown(settings: Settings, version: str, *, review: float) -> None:
    """Put a champion in charge that sends payments to review from a probability on."""
    folder = f"alerts-{version}-{time.time_ns()}"
    plan = default_plan()
    save_artifact(
        settings.models_dir / folder,
        name="scratch",
        plan=plan,
        model=synthetic_booster(plan, trees=20, leaves=15),
        kind=None,
        calibration=Calibration(x=np.array([-6.0, 6.0]), y=np.array([0.002, 0.998])),
        thresholds=Thresholds(fraud=max(review, 0.5), review=review, decline=0.999),
        metrics={},
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=1, frauds=0),
        data_hash="scratch",
        created_at_us=1,
        version=version,
    )
    sign_folder(settings, settings.models_dir / folder)
    target = settings.models_dir / "champion.json"
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(Champion(version=version, folder=folder)))
    partial.replace(target)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 8 MB; needs root."""
    folder.mkdir()
    size = f"size={TMPFS_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def monitor(settings: Settings, port: int, environment: Mapping[str, str]) -> Iterator[None]:
    """The monitor's process beside a scorer."""
    with (settings.workspace / "monitor.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sentinel.pipeline.monitor"],
            env={
                **os.environ,
                "SENTINEL_WORKSPACE": str(settings.workspace),
                "SENTINEL_MONITOR__PORT": str(port),
                **environment,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@contextlib.contextmanager
def watched(
    folder: Path,
    server: Server,
    variables: Mapping[str, str],
    *,
    production: bool,
    faster: float,
) -> Iterator[Watched]:
    """A scorer that the monitor watches, with Prometheus and Alertmanager or without.

    Args:
        folder: Where all of it may write.
        server: The scorer.
        variables: Further settings of the monitor.
        production: Whether Prometheus and Alertmanager raise the alerts.
        faster: Divides times of rules and settings.
    """
    settings, monitor_port = server.settings, free_port()
    with contextlib.ExitStack() as stack:
        mail = stack.enter_context(Mail(folder / "mail"))
        variables = {
            "SENTINEL_API__PORT": str(server.port),
            "SENTINEL_ALERTS__EVERY_SECONDS": "1",
            **variables,
        }
        if production:
            manager = stack.enter_context(
                Alertmanager(folder / "alertmanager", _alertmanager_file(mail, faster))
            )
            variables["SENTINEL_SERVICES__ALERTMANAGER_URL"] = manager.url
            stack.enter_context(monitor(settings, monitor_port, variables))
            stack.enter_context(
                Prometheus(
                    folder / "prometheus",
                    scorers=[f"127.0.0.1:{server.port}"],
                    alertmanager=manager.address,
                    monitor=f"127.0.0.1:{monitor_port}",
                    faster=faster,
                )
            )

            def fires(alert: str) -> bool:
                answer = httpx.get(f"{manager.url}/api/v2/alerts", timeout=10)
                return any(one["labels"]["alertname"] == alert for one in answer.json())

        else:
            variables |= {
                "SENTINEL_ALERTS__WINDOW_SECONDS": str(300 / faster),
                "SENTINEL_ALERTS__PAGE_AFTER_SECONDS": str(60 / faster),
                "SENTINEL_ALERTS__TICKET_AFTER_SECONDS": str(600 / faster),
                "SENTINEL_ALERTS__GROUP_SECONDS": "1",
                "SENTINEL_ALERTS__INTERVAL_SECONDS": str(300 / faster),
                "SENTINEL_ALERTS__SMTP_HOST": "127.0.0.1",
                "SENTINEL_ALERTS__SMTP_PORT": str(mail.port),
                "SENTINEL_ALERTS__SMTP_TLS": "none",
                "SENTINEL_ALERTS__MAIL_TO": "night@example.com",
            }
            stack.enter_context(monitor(settings, monitor_port, variables))
            store = AlertStore(settings.alerts_path)

            def fires(alert: str) -> bool:
                held = store.held().values()
                return any(one.name == alert and one.state == "firing" for one in held)

        yield Watched(mail, fires)


@contextlib.contextmanager
def world(folder: Path, *, production: bool, faster: float) -> Iterator[tuple[Watched, Faults]]:
    """A deployment with everything that may fail, and how it fails."""
    settings = make_workspace(folder / "workspace")
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(Redis(folder / "redis"))
        disk = stack.enter_context(small_disk(folder / "disk"))
        server = Server(settings, port=free_port())
        server.start()
        stack.callback(server.kill)
        traffic = stack.enter_context(Traffic(server.url))
        variables = {
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": redis.url,
            "SENTINEL_LABELS__MAX_SILENCE_DAYS": str(LABEL_SILENCE_SECONDS / 86_400),
            "SENTINEL_ALERTS__DISK_PATH": str(disk),
        }
        here = stack.enter_context(
            watched(folder, server, variables, production=production, faster=faster)
        )
        # So many decisions tell the usual share of stopped payments.
        wait_until(lambda: traffic.decided > 600, 600, "payments")
        yield here, World(server, redis, traffic, disk).faults()


def _alertmanager_file(mail: Mail, faster: float) -> str:
    text = (MONITORING / "alertmanager" / "alertmanager.yml").read_text()
    changes = {
        r"smtp\.example\.com:587": f"127.0.0.1:{mail.port}",
        r"smtp_require_tls: true": "smtp_require_tls: false",
        r"  smtp_auth_\w+: .*\n": "",
        r"group_wait: 10s": "group_wait: 1s",
        r"group_interval: 5m": f"group_interval: {max(1, round(300 / faster))}s",
    }
    for pattern, replacement in changes.items():
        text, count = re.subn(pattern, replacement, text)
        assert count, pattern
    return text
