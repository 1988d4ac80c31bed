"""A tenth of the million mutated heads and bodies of `python -m benchmarks fuzz`."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

CASES = int(os.environ.get("SENTINEL_FUZZ_CASES", "100000"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mutated_heads_and_bodies_find_no_way_in_and_leave_the_ledger_in_balance() -> None:
    command = [sys.executable, "-m", "benchmarks", "fuzz", "--cases", str(CASES), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["cases"], done.returncode) == (CASES, 0), found
    assert found["accepted"] == found["recorded"] > CASES // 20
