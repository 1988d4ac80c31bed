"""Processes that a scorer begins beside its payments, and callers that give up."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sentinel.domain import Unavailable
from sentinel.scoring.jobs import run_job
from sentinel.settings import Settings
from testkit.servers import wait_until

SLEEPS = """
import os, pathlib, sys, time
folder = pathlib.Path(os.environ["SENTINEL_WORKSPACE"])
(folder / "pid").write_text(str(os.getpid()))
time.sleep(float(sys.stdin.read()))
print(os.environ["SENTINEL_WORKSPACE"], os.environ.get("FURTHER"), end="")
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A deployment beside which the module `sleeps` can be run."""
    (tmp_path / "sleeps.py").write_text(SLEEPS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Settings(workspace=tmp_path)


def is_gone(settings: Settings) -> bool:
    written = settings.workspace / "pid"
    if not written.exists() or not written.read_text():
        return True  # it was ended before it could say who it is
    try:
        os.kill(int(written.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_job_gets_its_request_and_variables_and_is_waited_for(settings: Settings) -> None:
    said = asyncio.run(run_job("sleeps", b"0", settings, 60.0, {"FURTHER": "yes"}))
    assert said.decode() == f"{settings.workspace} yes"


def test_a_job_that_fails_or_takes_too_long_is_told_from_one_that_is_done(
    settings: Settings,
) -> None:
    with pytest.raises(Unavailable, match="ended with status 1"):
        asyncio.run(run_job("sleeps", b"no number", settings, 60.0))
    with pytest.raises(TimeoutError):
        asyncio.run(run_job("sleeps", b"600", settings, 1.5))
    assert is_gone(settings)


@pytest.mark.parametrize("after_seconds", [0.0, 0.001, 0.01, 1.0])
def test_an_event_loop_that_ends_while_a_job_begins_or_works_ends_the_job(
    settings: Settings, after_seconds: float
) -> None:
    async def leave() -> None:
        task = asyncio.create_task(run_job("sleeps", b"600", settings, 600.0))
        await asyncio.sleep(after_seconds)
        assert not task.done()

    began = time.monotonic()
    asyncio.run(leave())
    assert time.monotonic() - began < 60
    wait_until(lambda: is_gone(settings), 10, "the process to be gone")


def test_a_caller_that_gives_up_has_ended_the_job(settings: Settings) -> None:
    pid: Callable[[], bool] = (settings.workspace / "pid").exists

    async def give_up() -> None:
        task = asyncio.create_task(run_job("sleeps", b"600", settings, 600.0))
        await asyncio.to_thread(wait_until, pid, 30, "the job to begin")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert is_gone(settings)

    asyncio.run(give_up())
