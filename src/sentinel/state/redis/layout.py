"""What a key of shared state holds: a packed record, and behind it a tail of events.

`functions.lua` has the byte layout. Positions count the events of a record. Their upper bits are an
epoch, another for every time that a record was put in place anew, so that a position never names
two events.
"""

from __future__ import annotations

import hashlib
import struct
from importlib.resources import files
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.program import (
    EVENT_AMOUNT,
    EVENT_FILTERS,
    EVENT_TIME,
    EVENT_VIEWS,
    SECTION_DISTINCTS,
    SECTION_VIEWS,
    WIDTHS,
    Program,
)

Words = npt.NDArray[np.int64]
Record = tuple[int, str]
"""Number of a view, and an entity's key in it."""

VALUE_FORMAT: Final = 2
"""Of what a key holds; part of the key. Format 1 is `redis_records`."""

EPOCH_SHIFT: Final = 36
"""Positions stay below 2^52, so that Lua counts them exactly: 2^16 epochs of 2^36 events."""

EPOCHS_OF_A_LOAD: Final = 64
"""A load of the whole state begins at a multiple; a record put in place anew takes the next."""

HEADER: Final = struct.Struct("<IIqq")
"""Bytes of the base, zero, the base's position, the step of the log followed through."""

# Words of an event in a tail; the hashes of the view's distinct columns follow.
EVENT_ID: Final = 0
EVENT_SESSION: Final = 1
EVENT_NUMBER: Final = 2
FIELDS_AT: Final = 3
EVENT_WORDS: Final = 6

KIND_VOID: Final = 7
"""An event that takes another back; the fourth word is the other's position."""

KIND_BITS: Final = 8


def epoch_start(epoch: int) -> int:
    """The position of an empty record of an epoch.

    >>> epoch_start(1) == 1 << 36
    True
    """
    return epoch << EPOCH_SHIFT


def state_name(plan_hash: str) -> str:
    """What the ledger calls this state of a plan: records of another format are another state.

    >>> state_name("abc")
    '2:abc'
    """
    return f"{VALUE_FORMAT}:{plan_hash}"


def same_load(positions: Words, epoch: int) -> npt.NDArray[np.bool_]:
    """Which positions are of the load that began with an epoch, bool (n,).

    >>> same_load(np.array([5, epoch_start(64) + 5, epoch_start(65), epoch_start(128)]), 64)
    array([False,  True,  True, False])
    """
    found: npt.NDArray[np.bool_] = (
        positions >> EPOCH_SHIFT
    ) // EPOCHS_OF_A_LOAD == epoch // EPOCHS_OF_A_LOAD
    return found


class Layout:
    """The events and keys of a plan.

    Attributes:
        program: The compiled plan.
        base: Begins every key of the plan's state.
        widths: Bytes of an event, by view.
        columns: int64 (views, most distinct columns + 1), the columns of `Program` whose hashes an
            event of the view carries, -1 behind them.
        taken: int64 (views, most + 1), the columns of an encoded event that an event of the view
            carries, -1 behind them.
        prefixes: Begins the keys of each view's records.

    Args:
        program: The compiled plan.
        prefix: Begins every key of a deployment.
    """

    def __init__(self, program: Program, prefix: str) -> None:
        self.program = program
        self.base = f"{prefix}:{VALUE_FORMAT}:{program.plan.hash}"
        self.n_views = len(program.plan.views)
        found = [_distinct_columns(program, view) for view in range(self.n_views)]
        self.columns = np.full((max(self.n_views, 1), max(map(len, found), default=0) + 1), -1)
        for view, columns in enumerate(found):
            self.columns[view, : len(columns)] = columns
        self.widths = tuple(8 * (EVENT_WORDS + len(columns)) for columns in found)
        hashes = EVENT_VIEWS + 2 * self.n_views
        fields = [EVENT_TIME, EVENT_AMOUNT, EVENT_FILTERS]
        self._taken = tuple(fields + [hashes + column for column in columns] for columns in found)
        self.taken = np.full((max(self.n_views, 1), max(map(len, self._taken), default=0) + 1), -1)
        for view, columns in enumerate(self._taken):
            self.taken[view, : len(columns)] = columns
        self.prefixes = tuple(f"{self.base}:{view.name}:".encode() for view in program.plan.views)

    def key(self, view: int, key: str) -> bytes:
        """Where a record is kept."""
        return self.prefixes[view] + key.encode()

    def beside(self, name: str) -> bytes:
        """The key of something beside the records; the braces keep all in one slot of a cluster."""
        return f"{{{self.base}}}:{name}".encode()

    def record_of(self, key: bytes) -> Record | None:
        """View and entity key of a key in Redis; None if it is not a record's."""
        for view, prefix in enumerate(self.prefixes):
            if key.startswith(prefix):
                return view, key[len(prefix) :].decode()
        return None

    def events(self, encoded: Words, view: int, ids: Words, session: int, number: Words) -> bytes:
        """Events of a view's records, one after the other.

        Args:
            encoded: int64 (n, event_width), as the kernel reads them.
            view: The view.
            ids: int64 (n,), hashes of the transactions' ids.
            session: Of the scorer that appends; 0: a follower of the log.
            number: int64 (n,), the event's number with its kind in the low byte.
        """
        taken = self._taken[view]
        words = np.empty((len(encoded), FIELDS_AT + len(taken)), dtype="<i8")
        words[:, EVENT_ID] = ids
        words[:, EVENT_SESSION] = session
        words[:, EVENT_NUMBER] = number
        words[:, FIELDS_AT:] = encoded[:, taken]
        return words.tobytes()


def _distinct_columns(program: Program, view: int) -> list[int]:
    code = program.code
    at = int(code[2 * SECTION_VIEWS]) + view * WIDTHS[SECTION_VIEWS]
    first, end = int(code[at + 7]), int(code[at + 8])
    start, width = int(code[2 * SECTION_DISTINCTS]), WIDTHS[SECTION_DISTINCTS]
    return [int(code[start + row * width + 2]) for row in range(first, end)]


class Library:
    """The functions that Redis runs, named by a digest of their text.

    Attributes:
        name: Of the library, and the beginning of its functions' names.
        text: What FUNCTION LOAD takes.
    """

    def __init__(self) -> None:
        body = files("sentinel.state.redis").joinpath("functions.lua").read_text()
        self.name = f"sentinel_{hashlib.sha256(body.encode()).hexdigest()[:16]}"
        self.text = f"#!lua name={self.name}\nlocal NAME = '{self.name}'\n{body}"

    def function(self, name: str) -> bytes:
        """The full name of a function."""
        return f"{self.name}_{name}".encode()
