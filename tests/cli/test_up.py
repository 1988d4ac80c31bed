"""`sentinel up` from an empty folder: interrupted, finished, used, stopped, started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from sentinel.dashboard.api_types import Totals
from sentinel.dashboard.client import read_totals
from testkit.ports import free_port
from testkit.scratch import QUICK_TRAINING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HOUR_US = 3_600_000_000
SIZE = ("--customers", "1000", "--days", "120")


class Up:
    """One run of `sentinel up`."""

    def __init__(self, workspace: Path, ports: list[int], log: Path) -> None:
        self.log = log
        self.api = f"http://127.0.0.1:{ports[0]}"
        self.mlflow = f"http://127.0.0.1:{ports[1]}"
        self.dashboard = f"http://127.0.0.1:{ports[2]}"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sentinel", "up", "--workspace", str(workspace), *SIZE],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    **QUICK_TRAINING,
                    # Quick models are unsure: by the default, none of two thousand payments may be
                    # reviewed, and there would be nothing to see.
                    "SENTINEL_TRAINING__ALERT_BUDGET_PER_1000": "40",
                    "SENTINEL_API__PORT": str(ports[0]),
                    "SENTINEL_MLFLOW__PORT": str(ports[1]),
                    "SENTINEL_DASHBOARD__PORT": str(ports[2]),
                    "SENTINEL_MONITOR__PORT": str(ports[3]),
                },
            )

    def wait_for(self, text: str, seconds: float) -> None:
        self.until(lambda: text in self.log.read_text(errors="replace"), seconds)

    def until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def alerts(self) -> list[dict]:
        """Payments of the live traffic that are under review or were declined, newest first."""
        found = []
        for outcome in ("review", "decline"):
            page = httpx.get(
                f"{self.api}/decisions", params={"outcome": outcome}, timeout=60
            ).json()
            found += page["decisions"]
        return found

    def totals(self) -> Totals:
        return read_totals(httpx.get(f"{self.api}/metrics", timeout=60).text)

    def newest_us(self) -> int:
        """When the newest payment of the live traffic happened, microseconds UTC."""
        rows = httpx.get(f"{self.api}/decisions", timeout=60).json()["decisions"]
        return max(row["event_time_us"] for row in rows if row["transaction_id"] != "up-1")

    def kill(self) -> None:
        for process in self.descendants():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.kill()
        self.process.wait()

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(300)


def test_up_survives_an_interrupted_first_run_and_leaves_nothing_behind(tmp_path: Path) -> None:
    workspace, log = tmp_path / "w", tmp_path / "up.log"
    ports = [free_port() for _ in range(4)]

    # Killed in the middle of the first run.
    first = Up(workspace, ports, log)
    first.wait_for("Reading and checking rows", 120)
    first.kill()

    # Goes on, comes up, answers, plays traffic.
    second = Up(workspace, ports, log)
    try:
        second.wait_for("Ctrl-C stops everything", 600)
        body = {"transaction_id": "up-1", "amount_minor": 4999, "card_id": "K1"}
        answer = httpx.post(f"{second.api}/predict", json=body, timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (200, "Success")
        assert httpx.get(f"{second.dashboard}/_stcore/health", timeout=60).status_code == 200
        assert httpx.get(f"{second.mlflow}/health", timeout=60).status_code == 200
        second.until(
            lambda: len(httpx.get(f"{second.api}/decisions", timeout=60).json()["decisions"]) > 5,
            120,
        )
        page = httpx.get(f"{second.api}/decisions", timeout=60).json()["decisions"]
        assert len({row["transaction_id"] for row in page}) == len(page)

        # There is something to see: alerts with reasons, labels, and payments that reach up to now.
        second.until(lambda: any(row["top_reason"] for row in second.alerts()), 120)
        second.until(lambda: second.totals().labels > 0, 120)
        second.until(lambda: second.newest_us() > time.time_ns() // 1000 - 6 * HOUR_US, 240)

        # A second `up` of the same workspace says so.
        other = subprocess.run(
            [sys.executable, "-m", "sentinel", "up", "--workspace", str(workspace)],
            capture_output=True,
            text=True,
            timeout=850,
            check=False,
        )
        assert (other.returncode, "already runs" in other.stderr) == (1, True)

        children = second.descendants()
        assert len(children) >= 5
        assert second.interrupt() == 0
        assert not [
            child for child in children if child.is_running() and child.status() != "zombie"
        ]
    finally:
        if second.process.poll() is None:
            second.kill()

    # The second start does no stage again and knows what it answered.
    done = log.read_text().count("Backfilled")
    third = Up(workspace, ports, tmp_path / "again.log")
    try:
        third.wait_for("Ctrl-C stops everything", 180)
        assert httpx.post(f"{third.api}/predict", json=body, timeout=60).content == answer.content
        assert "Backfilled" not in third.log.read_text()
        assert done == 1
        assert third.interrupt() == 0
    finally:
        if third.process.poll() is None:
            third.kill()
