"""What a newcomer waits for: a fresh clone, `make up`, the first answer; then the second start.

The repository's last commit is cloned into an empty folder. Installing is timed by itself, since
most of it is downloads. Memory is the largest sum of resident pages of everything that `make up`
started, sampled twice a second; pages that processes share count in each.

The first start is watched for a minute from the table of addresses on: what somebody who opens the
dashboard then gets to see (``scene``), and what the README's payments are answered (``readme``).
Both depend on the hour of the start. ``--worlds N`` tries N hours instead, without a clone; see
`benchmarks.firstrun_worlds`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.firstrun_worlds import SCENE_SECONDS, is_as_promised, run_worlds
from sentinel.dashboard.client import read_totals
from testkit.ports import free_port
from testkit.readme import readme_promises
from testkit.scratch import REPOSITORY

_PAYMENT = {
    "transaction_id": "first-run-1",
    "amount_minor": 4999,
    "customer_id": "C1",
    "card_id": "K1",
    "merchant_id": "M1",
    "attributes": {"channel": "online"},
}


@dataclass
class Memory:
    """Samples the memory of a process and all below it."""

    pid: int
    peak_bytes: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Sample until stopped."""
        while not self._done.wait(0.5):
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(self.pid)
                total = 0
                for process in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        total += process.memory_info().rss
                self.peak_bytes = max(self.peak_bytes, total)

    def stop(self) -> None:
        """End the sampling."""
        self._done.set()


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks firstrun", description=__doc__)
    parser.add_argument("--args", default="", help="arguments for `sentinel up`")
    parser.add_argument("--keep", action="store_true", help="keep the clone")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--worlds", type=int, help="try so many starts, one every 50 days")
    options = parser.parse_args(argv)
    if options.worlds:
        return _worlds(options.worlds, as_json=options.json)
    result = run(options.args, keep=options.keep)
    table = Table(title="First run of a fresh clone", title_justify="left", show_header=False)
    for key, value in result.items():
        table.add_row(key, str(value))
    Console().print(table)
    if options.json:
        print(json.dumps(result))
    slow = result["first_answer_seconds"] > 600 or result["second_start_seconds"] > 20
    scene = result["scene"]
    dull = not (scene["review"] and scene["decline"] and scene["labels"])
    other = result["readme"] != [promise.decision for promise in readme_promises()]
    return 1 if slow or dull or other or result["processes_left"] else 0


def _worlds(count: int, *, as_json: bool) -> int:
    worlds = run_worlds(time.time_ns() // 1000, count, lambda line: print(line, flush=True))
    kept = sum(map(is_as_promised, worlds))
    print(f"{kept} of {count} starts show what the README promises.")
    if as_json:
        print(json.dumps({"worlds": worlds, "as_promised": kept}))
    return 0 if kept == count else 1


def run(arguments: str = "", *, keep: bool = False) -> dict[str, Any]:
    """Clone, install, start twice."""
    folder = Path(tempfile.mkdtemp(prefix="sentinel-firstrun-"))
    clone = folder / "sentinel"
    try:
        _call(["git", "clone", "-q", str(REPOSITORY), str(clone)], folder)
        began = time.monotonic()
        _call(["make", "-s", ".venv/.sentinel/base"], clone)
        installed = time.monotonic() - began
        ports = [free_port() for _ in range(4)]
        first, memory, answer, seen = _start(clone, ports, arguments, seconds=1500, watch=True)
        left = _left(clone)
        disk = _disk_usage(clone / ".sentinel")
        venv = _disk_usage(clone / ".venv")
        second, second_memory, again, _ = _start(clone, ports, arguments, seconds=120)
        return {
            "install_seconds": round(installed, 1),
            "first_answer_seconds": round(first, 1),
            "second_start_seconds": round(second, 1),
            "peak_memory_mb": round(memory / 1e6),
            "second_peak_memory_mb": round(second_memory / 1e6),
            "workspace_mb": round(disk / 1e6),
            "environment_mb": round(venv / 1e6),
            "answer": answer["decision"],
            **seen,
            "same_answer_after_restart": answer == again,
            "processes_left": left + _left(clone),
        }
    finally:
        if keep:
            print(f"kept in {clone}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _start(
    clone: Path, ports: list[int], arguments: str, seconds: float, *, watch: bool = False
) -> tuple[float, int, dict[str, Any], dict[str, Any]]:
    """Start until the first answer: seconds, peak bytes, the answer, what was seen; then Ctrl-C."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("SENTINEL_", "VIRTUAL_ENV"))},
        "SENTINEL_API__PORT": str(ports[0]),
        "SENTINEL_MLFLOW__PORT": str(ports[1]),
        "SENTINEL_DASHBOARD__PORT": str(ports[2]),
        "SENTINEL_MONITOR__PORT": str(ports[3]),
    }
    log = clone.parent / "up.log"
    began = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["make", "up", f"ARGS={arguments}"],
            cwd=clone,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    memory = Memory(process.pid)
    sampler = threading.Thread(target=memory.run, daemon=True)
    sampler.start()
    try:
        answer = _first_answer(ports[0], process, log, began + seconds)
        elapsed = time.monotonic() - began
        _wait_up(log, process, began + seconds)
        seen = _watch(f"http://127.0.0.1:{ports[0]}") if watch else {}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        memory.stop()
        sampler.join()
    return elapsed, memory.peak_bytes, answer, seen


def _watch(url: str) -> dict[str, Any]:
    """The README's payments, and what the live traffic shows in a minute."""
    began = time.monotonic()
    with httpx.Client(base_url=url, timeout=30) as client:
        answers = [
            [client.post("/predict", json=payment).json() for payment in promise.payments]
            for promise in readme_promises()
        ]
        labels_before = _labels(client)
        first: dict[str, float] = {}
        while (elapsed := time.monotonic() - began) < SCENE_SECONDS:
            for outcome in ("review", "decline"):
                query = {"outcome": outcome, "limit": 10}
                rows = client.get("/decisions", params=query).json()["decisions"]
                if any(str(row["transaction_id"]).isdigit() and row["top_reason"] for row in rows):
                    first.setdefault(outcome, round(elapsed, 1))
            if _labels(client) > labels_before:
                first.setdefault("label", round(elapsed, 1))
            time.sleep(0.5)
        counts = {
            outcome: len(
                client.get("/decisions", params={"outcome": outcome, "limit": 100}).json()[
                    "decisions"
                ]
            )
            for outcome in ("review", "decline")
        }
        scene = {**counts, "labels": _labels(client) - labels_before, "first_seconds": first}
    return {"scene": scene, "readme": [some[-1]["decision"] for some in answers]}


def _labels(client: httpx.Client) -> int:
    return read_totals(client.get("/metrics").text).labels


def _first_answer(
    port: int, process: subprocess.Popen[bytes], log: Path, deadline: float
) -> dict[str, Any]:
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(f"http://127.0.0.1:{port}/predict", json=_PAYMENT, timeout=5)
            if answer.status_code == 200:
                decision: dict[str, Any] = answer.json()
                if decision["status"] != "Success" or not 0 < decision["fraud_probability"] < 1:
                    raise RuntimeError(f"not a decision: {decision}")
                return decision
        if process.poll() is not None:
            raise RuntimeError(f"`make up` ended:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
    raise RuntimeError(f"no answer in time:\n{log.read_text()[-3000:]}")


def _wait_up(log: Path, process: subprocess.Popen[bytes], deadline: float) -> None:
    """Until the table of addresses is printed, so that a stop finds everything started."""
    seen = log.read_text(errors="replace").count("Ctrl-C stops everything")
    while time.monotonic() < deadline and process.poll() is None:
        text = log.read_text(errors="replace")
        if text.rstrip().endswith("takes seconds.") or text.count("Ctrl-C stops") > seen:
            return
        time.sleep(0.2)


def _left(clone: Path) -> int:
    """Processes that still run from the clone's environment."""
    return sum(1 for command in _commands() if str(clone) in command)


def _commands() -> Iterator[str]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            yield " ".join(process.cmdline())


def _disk_usage(folder: Path) -> int:
    return sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file())


def _call(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
