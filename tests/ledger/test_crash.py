"""What was acknowledged is on disk: under SIGKILL, under failing syncs, and by the trace."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind

_WRITER = """
import os, sys
from pathlib import Path
from sentinel.domain import LedgerUnavailable
from sentinel.log.entries import GroupKind
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind

path, groups = Path(sys.argv[1]), int(sys.argv[2])
ledger = SqliteLedger.open_writer(path)
os.write(1, b"ready\\n")
for _ in range(groups):
    number = ledger.last_sequence() + 1
    payload = b"%09d" % number + b"x" * (number * 7919 % 9000)
    try:
        ledger.append(GroupKind.DECISIONS, 1, number, payload)
        os.write(1, b"ack %d\\n" % number)
    except LedgerUnavailable:
        os.write(1, b"failed %d\\n" % number)
        if len(sys.argv) > 3:
            break
os.kill(os.getpid(), 9)
"""

_needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None
    or subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode != 0,
    reason="strace is not installed, or may not trace here",
)


def _numbers(path: Path) -> list[int]:
    with SqliteLedger.open_reader(path) as reader:
        return [int(group.payload[:9]) for group in reader.groups()]


def test_killed_at_random_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    chance = random.Random(7)
    there = acknowledged = 0
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), "1000000"], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.15))
        writer.kill()
        lines = [line for line in writer.stdout if line.startswith(b"ack ")]
        writer.wait()
        writer.stdout.close()
        acknowledged += len(lines)
        numbers = _numbers(path)
        assert numbers == list(range(1, len(numbers) + 1))
        # At most the one group in flight is there without having been acknowledged.
        assert there + len(lines) <= len(numbers) <= there + len(lines) + 1
        there = len(numbers)
    assert acknowledged > 8


@_needs_strace
def test_no_group_is_acknowledged_before_it_is_synced(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "ledger.db"
    subprocess.run(
        [
            *("strace", "-f", "-y", "-o", str(trace)),
            *("-e", "trace=fdatasync,fsync,write,pwrite64"),
            *(sys.executable, "-c", _WRITER, str(path), "40"),
        ],
        stdout=subprocess.DEVNULL,
    )
    unsynced = acks = 0
    for line in trace.read_text().splitlines():
        if re.search(r"pwrite64\(\d+<[^>]*ledger\.db-wal>", line):
            unsynced += 1
        elif re.search(r"f(data)?sync\(\d+<[^>]*ledger\.db-wal>\)\s+= 0", line):
            unsynced = 0
        elif "write(1" in line and '"ack ' in line:
            acks += 1
            assert unsynced == 0, f"acknowledged before the sync: {line}"
    assert acks == 40


@_needs_strace
@pytest.mark.parametrize("after", ["go on", "crash"])
def test_a_group_whose_sync_failed_never_comes_back(tmp_path: Path, after: str) -> None:
    path = tmp_path / "ledger.db"
    SqliteLedger.open_writer(path).close()
    command = [sys.executable, "-c", _WRITER, str(path), "12"]
    if after == "crash":
        command.append("stop at the first failure")
    result = subprocess.run(
        [
            *("strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"),
            *("-e", "inject=fdatasync:error=EIO:when=6"),
            *command,
        ],
        capture_output=True,
    )
    lines = result.stdout.decode().splitlines()
    acknowledged = [int(line.split()[1]) for line in lines if line.startswith("ack ")]
    assert sum(line.startswith("failed") for line in lines) == 1
    assert _numbers(path) == acknowledged
    assert acknowledged
    # Without the crash the number is used again, by a group that was acknowledged.
    assert lines[-1].startswith("ack " if after == "go on" else "failed "), lines


@_needs_strace
@pytest.mark.parametrize("when", range(1, 10))
def test_a_start_whose_sync_failed_is_none(tmp_path: Path, when: int) -> None:
    path = tmp_path / "ledger.db"
    result = subprocess.run(
        [
            *("strace", "-f", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"),
            *("-e", f"inject=fdatasync:error=EIO:when={when}"),
            *(sys.executable, "-c", _WRITER, str(path), "1"),
        ],
        capture_output=True,
    )
    started = b"ready" in result.stdout
    assert started or b"the disk failed" in result.stderr
    assert path.exists() == started
    with SqliteLedger.open_writer(path) as ledger:
        assert ledger.last_sequence() == result.stdout.count(b"ack")
        ledger.append(GroupKind.DECISIONS, 1, 10, b"x")
