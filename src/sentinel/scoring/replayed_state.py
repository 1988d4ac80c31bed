"""What the shared records should hold, folded from the log in this process.

A record of shared state that is in doubt is rebuilt from here. It is made when it is
first needed, catches up with the log before each use, and is let go after a while without any.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sentinel.features.plan.program import Program
from sentinel.ledger.base import Ledger
from sentinel.scoring.recovery import FindTransaction, catch_up, recover
from sentinel.state.embedded import EmbeddedState
from sentinel.state.redis.layout import Record
from sentinel.state.redis.reloading import ReplayedRecord

IDLE_SECONDS: Final = 120.0


class ReplayedState:
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

    def records(self, records: Sequence[Record]) -> list[ReplayedRecord]:
        """Records as of the end of the log, all through the same entry.

        Raises:
            LedgerUnavailable: The log cannot be read right now.
        """
        with self._lock:
            state = self._current()
            return [
                ReplayedRecord(
                    state.arena.record(view, key).copy(), state.sequence, state.known.holds
                )
                for view, key in records
            ]

    def release(self) -> None:
        """Let the memory go if it has not been used for a while."""
        with self._lock:
            if self._state is not None and time.monotonic() - self._used > IDLE_SECONDS:
                self._state.freeze().write(self._snapshots)
                self._state = None

    def _current(self) -> EmbeddedState:
        state, self._state = self._state, None  # one that fails half way is not used again
        if state is None:
            state = recover(self._program, self._ledger, self._snapshots, self._find)
        else:
            catch_up(state, self._ledger, self._find)
        self._state = state
        self._used = time.monotonic()
        return state
