"""Children of `sentinel up`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from sentinel.cli.first_run import Progress
from sentinel.cli.processes import Child, Stack


@pytest.mark.parametrize(("status", "said"), [(0, "all is well"), (1, "job failed: all is well")])
def test_a_job_that_ends_is_told_of_once_and_not_started_again(
    tmp_path: Path, status: int, said: str
) -> None:
    command = [sys.executable, "-c", f"print('all is well'); raise SystemExit({status})"]
    stack = Stack()
    child = stack.start(Child("job", command, tmp_path / "job.log", ends=True))
    assert child.process is not None
    child.process.wait(30)
    time.sleep(0.01)
    (line,) = stack.revive()
    assert line.startswith(said)
    assert child.done is (status == 0)
    assert stack.revive() == []
    assert (tmp_path / "job.log").read_text() == "all is well\n"


def test_the_first_run_says_what_took_how_long() -> None:
    progress = Progress(stages=["imported", "applied"], seconds={"imported": 30.0, "applied": 10.0})
    assert progress.shares == (
        "From data to a champion in 40 s: imported 30 s (75%), applied 10 s (25%)."
    )
