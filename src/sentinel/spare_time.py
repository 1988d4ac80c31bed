"""What can wait lets others go first: processes and threads by priority, or by pausing in between.

Linux has a niceness and a time slice for each thread. Elsewhere a niceness is that of the process,
so threads are left as they are.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

Between = Callable[[], None]
"""Called between two pieces of long work, of about half a millisecond each, so that whoever runs
the work can let others go first. Beside payments it is `sentinel.scoring.pace.Pace.give_way`."""

NICENESS: Final = 10
_SLICE_NS: Final = 100_000
"""The shortest slice that the system gives."""
_SET_ATTRIBUTES: Final = {"x86_64": 314, "aarch64": 274}
"""Numbers of the system call `sched_setattr`, for which the standard library has no function. The
one that reads attributes is the next."""
_RESET_ON_FORK: Final = 1


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


def lower_thread_priority() -> None:
    """Let this thread go after those of ordinary priority that are ready to run, on Linux.

    It is for threads that hold the interpreter in pieces, so it must never be an idle policy: under
    full load such a thread would keep the interpreter, and get no processor to give it back.
    """
    if sys.platform == "linux":
        os.nice(NICENESS)


def wake_quickly() -> None:
    """Let this thread have a processor soon after it is woken, on Linux from 6.12 on.

    A thread that asks for short slices goes before those that ask for longer ones, and gets no more
    time than they. Threads and processes that it starts are ordinary ones. Needs no privilege.
    Where the system does not know it, nothing changes.
    """
    number = _SET_ATTRIBUTES.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    wanted = _SchedulerAttributes(size=ctypes.sizeof(_SchedulerAttributes))
    libc = ctypes.CDLL(None)
    if libc.syscall(number + 1, 0, ctypes.byref(wanted), wanted.size, 0) == 0:
        wanted.runtime = _SLICE_NS
        wanted.flags |= _RESET_ON_FORK
        libc.syscall(number, 0, ctypes.byref(wanted), 0)


class _SchedulerAttributes(ctypes.Structure):
    """`struct sched_attr` of Linux, as of its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )
