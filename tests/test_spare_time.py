"""Processes that do what can wait, and what they leave out."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest


def output_of(code: str) -> str:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="needs Linux's scheduling policies")
def test_a_process_of_low_priority_gets_idle_processors_and_so_do_its_children() -> None:
    said = output_of(
        "import os, subprocess, sys\n"
        "from sentinel.spare_time import lower_priority\n"
        "lower_priority()\n"
        "child = 'import os; print(os.sched_getscheduler(0), os.nice(0))'\n"
        "print(len(os.sched_getaffinity(0)), flush=True)\n"
        "subprocess.run([sys.executable, '-c', child], check=True)\n"
    )
    processors, policy, niceness = map(int, said.split())
    assert policy == (os.SCHED_IDLE if processors > 1 else os.SCHED_OTHER)
    assert niceness >= 10


@pytest.mark.skipif(sys.platform != "linux", reason="needs a niceness for each thread")
def test_a_thread_of_low_priority_leaves_the_others_as_they_are() -> None:
    said = output_of(
        "import os, threading\n"
        "from sentinel.spare_time import lower_thread_priority\n"
        "def low():\n"
        "    lower_thread_priority()\n"
        "    print(os.getpriority(os.PRIO_PROCESS, 0))\n"
        "thread = threading.Thread(target=low)\n"
        "thread.start()\n"
        "thread.join()\n"
        "print(os.getpriority(os.PRIO_PROCESS, 0))\n"
    )
    low, own = map(int, said.split())
    assert low == min(own + 10, 19)


def shows_slices() -> bool:
    """Whether the kernel has a slice for each thread, and says how long it is."""
    shown = Path("/proc/self/sched")
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    recent = version is not None and (int(version[1]), int(version[2])) >= (6, 12)
    return recent and shown.exists() and "se.slice" in shown.read_text()


@pytest.mark.skipif(not shows_slices(), reason="needs Linux from 6.12 on, with /proc/self/sched")
def test_a_thread_that_wakes_quickly_has_a_short_slice_and_hands_on_none() -> None:
    said = output_of(
        "import re, threading\n"
        "from pathlib import Path\n"
        "from sentinel.spare_time import wake_quickly\n"
        "def tell():\n"
        "    shown = Path(f'/proc/self/task/{threading.get_native_id()}/sched').read_text()\n"
        "    print(re.search(r'se.slice *: *([0-9]+)', shown)[1])\n"
        "tell()\n"
        "wake_quickly()\n"
        "tell()\n"
        "thread = threading.Thread(target=tell)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    before, after, other = map(int, said.split())
    assert after < before
    assert other == before


def test_arrow_makes_arrays_without_importing_pandas() -> None:
    said = output_of(
        "import sys\n"
        "from sentinel.arrow_alone import keep_pandas_out\n"
        "keep_pandas_out()\n"
        "import pyarrow as pa\n"
        "batch = pa.record_batch([pa.array([1, None]), pa.array(['a', 'b'])], ['n', 't'])\n"
        "print(batch.to_pylist() == [{'n': 1, 't': 'a'}, {'n': None, 't': 'b'}])\n"
        "print(any(name.split('.')[0] == 'pandas' for name in sys.modules))\n"
    )
    assert said.splitlines() == ["True", "False"]
