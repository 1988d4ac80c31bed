"""A benchmark that is told to end leaves no process behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

ORPHANS = """
import signal, subprocess, time
from benchmarks.endings import nothing_left_behind
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells turn it off for what waits behind
with nothing_left_behind():
    # One whose parent has ended, and one in a session of its own.
    subprocess.run(["setsid", "sh", "-c", "sleep 3001 & exit"])
    subprocess.Popen(["setsid", "sleep", "3002"])
    print("started", flush=True)
    time.sleep(300)
"""


def started(process: subprocess.Popen[bytes], part: str, count: int) -> list[psutil.Process]:
    """Wait until so many descendants of a process have a part in their command.

    A process that is becoming another program has no command line for a
    moment, so one look may miss it.
    """
    me, deadline = psutil.Process(process.pid), time.monotonic() + 120
    while True:
        found = [one for one in me.children(recursive=True) if part in " ".join(command_of(one))]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def command_of(process: psutil.Process) -> list[str]:
    """The command of a process; nothing of one that has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_a_benchmark_started_ends_with_it(number: signal.Signals) -> None:
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"started\n"
            left = started(process, "sleep 300", 2)
            process.send_signal(number)
            assert process.wait(60) != 0
        finally:
            process.kill()
    _, alive = psutil.wait_procs(left, 10)
    assert alive == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_a_benchmark_of_serving_that_is_told_to_end_leaves_no_server() -> None:
    command = [sys.executable, "-m", "benchmarks", "serving", "--quick", "--stacks", "empty_asgi"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            left = started(process, "benchmarks.peers", 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM
        finally:
            process.kill()
    _, alive = psutil.wait_procs(left, 10)
    assert alive == []
