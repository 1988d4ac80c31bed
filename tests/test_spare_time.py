"""Processes that do what can wait, and what they leave out."""

from __future__ import annotations

import os
import subprocess
import sys

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
