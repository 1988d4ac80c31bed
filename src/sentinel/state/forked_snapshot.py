"""Writes a snapshot from a copy of this process, so that the state goes on changing meanwhile.

A copied process shares memory with the first one until either changes a page, so beginning costs
the copy of the page table: 4 to 20 ms for each gigabyte of state, instead of a copy of the
gigabyte. The copy has one thread, writes one file and ends; it never runs the event loop.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from sentinel.spare_time import lower_priority
from sentinel.state.base import SnapshotWritten

_REPORT: Final = 3
_MOST_FILES: Final = 1 << 20
_OK: Final = b"+"


def write_beside(write: Callable[[], Path]) -> SnapshotWritten:
    """Begin to write in a copy of this process.

    Args:
        write: Writes a file durably and returns it. It sees memory as it is now, and no open file.

    Raises:
        OSError: There is no memory or process left for a copy.
    """
    report, told = os.pipe()
    try:
        process = os.fork()
    except OSError:
        os.close(report)
        os.close(told)
        raise
    if process == 0:
        _write(write, told)
    os.close(told)

    def written() -> Path:
        with os.fdopen(report, "rb") as file:
            answer = file.read()
        os.waitpid(process, 0)
        if not answer.startswith(_OK):
            reason = answer.decode(errors="replace") or "the process that wrote it was ended"
            raise OSError(f"{reason}.")
        return Path(os.fsdecode(answer[len(_OK) :]))

    return written


def _write(write: Callable[[], Path], told: int) -> NoReturn:
    """The life of the copy."""
    try:
        gc.disable()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Connections and the ledger's files belong to the first process.
        os.dup2(told, _REPORT)
        os.closerange(_REPORT + 1, _MOST_FILES)
        lower_priority()
        answer = _OK + os.fsencode(write())
    except BaseException as error:  # noqa: BLE001 -- the first process is told
        answer = (str(error) or repr(error)).encode()
    try:
        os.write(_REPORT, answer)
    finally:
        os._exit(0)
