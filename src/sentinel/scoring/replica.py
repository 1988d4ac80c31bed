"""What the shared records should hold, folded from the log in this process.

A record of shared state that is in doubt is rebuilt from here. The replica is made when it is
first needed, catches up with the log before each use, and is let go after a while without any.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.program import Program
from sentinel.ledger.base import Ledger
from sentinel.scoring.recovery import FindTransaction, catch_up, recover
from sentinel.state.embedded import EmbeddedState

IDLE_SECONDS: Final = 120.0

_LABEL_TAG: Final = 1 << 62
_TAG_SHIFT: Final = 44


def label_change_id(label_sequence: int) -> int:
    """What a label's change of a record is known by: told apart from a transaction's by its tag.

    >>> labelled_by(label_change_id(17)), labelled_by(-5), labelled_by(12345)
    (17, None, None)
    """
    return _LABEL_TAG | label_sequence


def labelled_by(change_id: int) -> int | None:
    """The log entry of the label that made a change; None: a transaction made it."""
    if change_id >> _TAG_SHIFT == _LABEL_TAG >> _TAG_SHIFT:
        return change_id & ((1 << _TAG_SHIFT) - 1)
    return None


class Replica:
    """The state of one plan as the log has it. For any thread.

    Args:
        program: The compiled plan.
        ledger: The log.
        snapshots: Folder of state snapshots, to start from.
        find: Looks up transactions that labels are about.
    """

    def __init__(
        self, program: Program, ledger: Ledger, snapshots: Path, find: FindTransaction
    ) -> None:
        self._program = program
        self._ledger = ledger
        self._snapshots = snapshots
        self._find = find
        self._state: EmbeddedState | None = None
        self._used = 0.0
        self._lock = threading.Lock()

    def records(
        self, wanted: Sequence[tuple[int, str]]
    ) -> tuple[int, list[npt.NDArray[np.int64]], Callable[[int], bool]]:
        """Records as of the end of the log.

        Args:
            wanted: (view, key) of each.

        Returns:
            The log entry through which they are folded, their words, and whether a change with a
            certain id is in them.

        Raises:
            LedgerUnavailable: The log cannot be read right now.
        """
        with self._lock:
            state = self._current()
            words = [state.arena.record(view, key).copy() for view, key in wanted]
            through, known = state.sequence, state.known

        def holds(change_id: int) -> bool:
            label = labelled_by(change_id)
            return known.holds(change_id) if label is None else label <= through

        return through, words, holds

    def release(self) -> None:
        """Let the memory go if it has not been used for a while."""
        with self._lock:
            if self._state is not None and time.monotonic() - self._used > IDLE_SECONDS:
                self._state.freeze().write(self._snapshots)
                self._state = None

    def _current(self) -> EmbeddedState:
        if self._state is None:
            self._state = recover(self._program, self._ledger, self._snapshots, self._find)
        else:
            catch_up(self._state, self._ledger, self._find)
        self._used = time.monotonic()
        return self._state
