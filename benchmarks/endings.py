"""A benchmark that is told to end leaves no process behind.

Benchmarks start scorers, databases and load in other processes, many in sessions of their own, so
that neither Ctrl-C in a terminal nor a signal to the benchmark reaches them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from typing import Final

import psutil

END_SECONDS: Final = 20.0
"""How long what is left at the end has to end by itself before it is killed."""
_SUBREAPER: Final = 36
"""PR_SET_CHILD_SUBREAPER: whose parent has ended becomes a child of this process, not of init."""


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Turn SIGTERM into an end as by `sys.exit`, and end whatever still runs after the block.

    What the block cleans up by itself (`finally`, `with`) is cleaned up first. SIGKILL to this
    process leaves everything running.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    own = os.getpid()

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL if os.getpid() != own else signal.SIG_IGN)
        if os.getpid() != own:  # a fork that has not become another program yet
            os.kill(os.getpid(), number)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        _end_children()
        signal.signal(signal.SIGTERM, before)


def _end_children() -> None:
    """Ask all descendants to end, and kill those that do not."""
    with contextlib.suppress(psutil.Error):
        left = _children()
        for child in left:
            with contextlib.suppress(psutil.Error):
                child.terminate()
        _, left = psutil.wait_procs(left, END_SECONDS)
        # What a process that has ended began meanwhile is a child of this one now.
        for child in {*left, *_children()}:
            with contextlib.suppress(psutil.Error):
                child.kill()


def _children() -> list[psutil.Process]:
    """All descendants, but for what Python has beside pools: that ends with this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if not any("resource_tracker" in part for part in child.cmdline()):
                found.append(child)
    return found
