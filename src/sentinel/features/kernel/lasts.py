"""Last times: when a transaction that satisfies a filter was seen last.

A record has one word for each `time_since_last` of its view. It holds the time plus one, so that an
untouched word (0) means never.
"""

from __future__ import annotations

import numpy as np

from sentinel.features.jit import inner_kernel
from sentinel.features.kernel.words import LAST_WIDTH, Vectors, Words
from sentinel.features.plan.program import SECTION_LASTS


@inner_kernel
def read_lasts(
    arena: Words, code: Words, v: int, offset: int, written: bool, now: int, out: Vectors, row: int
) -> None:
    """Write the seconds since the last transaction of each window that holds one."""
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * LAST_WIDTH, lasts + code[v + 6] * LAST_WIDTH, LAST_WIDTH):
        last_time = arena[offset + code[r]] if written else 0
        if last_time == 0 or (last_time - 1) // code[r + 3] < (now - code[r + 2]) // code[r + 3]:
            out[row, code[r + 4]] = np.nan
        else:
            out[row, code[r + 4]] = np.float64(now - (last_time - 1)) / 1e6


@inner_kernel
def advance_lasts(arena: Words, code: Words, v: int, offset: int, time: int) -> None:
    """Forget the last times that leave retention when ``time`` becomes the newest event time."""
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * LAST_WIDTH, lasts + code[v + 6] * LAST_WIDTH, LAST_WIDTH):
        word = offset + code[r]
        hop = code[r + 3]
        if arena[word] != 0 and (arena[word] - 1) // hop < (time - code[r + 2]) // hop:
            arena[word] = 0


@inner_kernel
def add_to_lasts(
    arena: Words, code: Words, v: int, offset: int, time: int, filters: int, newest: int
) -> None:
    """Raise the last time of every filter that a transaction satisfies."""
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * LAST_WIDTH, lasts + code[v + 6] * LAST_WIDTH, LAST_WIDTH):
        bit = code[r + 1]
        if bit >= 0 and (filters >> bit) & 1 == 0:
            continue
        hop = code[r + 3]
        if time // hop >= (newest - code[r + 2]) // hop:
            arena[offset + code[r]] = max(arena[offset + code[r]], time + 1)


@inner_kernel
def lasts_cover(code: Words, v: int, time: int, newest: int) -> bool:
    """Whether any last time's window, filters aside, reaches back to ``time`` from ``newest``."""
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * LAST_WIDTH, lasts + code[v + 6] * LAST_WIDTH, LAST_WIDTH):
        if time // code[r + 3] >= (newest - code[r + 2]) // code[r + 3]:
            return True
    return False
