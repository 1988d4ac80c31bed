"""What can wait lets others go first: processes by priority, threads by pausing between pieces."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

Between = Callable[[], None]
"""Called between two pieces of long work, of about half a millisecond each, so that whoever runs
the work can let others go first. Beside payments it is `sentinel.scoring.pace.Pace.give_way`."""

NICENESS: Final = 10


def go_on() -> None:
    """A `Between` for work that nobody waits beside."""


def lower_priority() -> None:
    """Let this thread, and the threads and processes that it starts from now on, go last.

    Where the system has a policy for idle processors and there are several of them, that policy is
    taken: a payment that wakes up takes the processor at once. A process that is merely nice keeps
    it for up to 3 ms each time, and a payment wakes up five times. On a single processor, which may
    be busy for hours, the work has to go on, so there it is nice only. The way back is closed to
    ordinary users.
    """
    os.nice(NICENESS)
    if hasattr(os, "SCHED_IDLE") and len(os.sched_getaffinity(0)) > 1:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
