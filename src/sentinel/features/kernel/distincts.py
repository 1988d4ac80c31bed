"""Distinct values: the hashes seen last, with the time of each, newest first.

A record has one set for each column that its view counts distinct: pairs of (time, hash) up to the
largest capacity of its features. A hash of 0 is no value.
"""

from __future__ import annotations

from sentinel.features.jit import inner_kernel
from sentinel.features.kernel.words import DISTINCT_OUTPUT_WIDTH, DISTINCT_WIDTH, Vectors, Words
from sentinel.features.plan.program import SECTION_DISTINCT_OUTPUTS, SECTION_DISTINCTS


@inner_kernel
def read_distincts(
    arena: Words, code: Words, v: int, offset: int, written: bool, now: int, out: Vectors, row: int
) -> None:
    """Write how many different values each window holds, up to its capacity."""
    distincts = code[2 * SECTION_DISTINCTS]
    places = code[2 * SECTION_DISTINCT_OUTPUTS]
    for d in range(
        distincts + code[v + 7] * DISTINCT_WIDTH,
        distincts + code[v + 8] * DISTINCT_WIDTH,
        DISTINCT_WIDTH,
    ):
        base = offset + code[d]
        capacity = code[d + 1]
        for o in range(
            places + code[d + 3] * DISTINCT_OUTPUT_WIDTH,
            places + code[d + 4] * DISTINCT_OUTPUT_WIDTH,
            DISTINCT_OUTPUT_WIDTH,
        ):
            found = 0
            if written:
                hop = code[o + 1]
                first = (now - code[o]) // hop
                for i in range(capacity):
                    if arena[base + 2 * i + 1] == 0 or arena[base + 2 * i] // hop < first:
                        break
                    found += 1
            out[row, code[o + 2]] = min(found, code[o + 3])


@inner_kernel
def advance_distincts(arena: Words, code: Words, v: int, offset: int, time: int) -> None:
    """Forget the values that leave retention when ``time`` becomes the newest event time."""
    distincts = code[2 * SECTION_DISTINCTS]
    for d in range(
        distincts + code[v + 7] * DISTINCT_WIDTH,
        distincts + code[v + 8] * DISTINCT_WIDTH,
        DISTINCT_WIDTH,
    ):
        horizon = _horizon(code, d, time)
        base = offset + code[d]
        for i in range(code[d + 1] - 1, -1, -1):
            if arena[base + 2 * i + 1] == 0:
                continue
            if arena[base + 2 * i] >= horizon:
                break
            arena[base + 2 * i] = 0
            arena[base + 2 * i + 1] = 0


@inner_kernel
def add_to_distincts(
    arena: Words,
    code: Words,
    v: int,
    offset: int,
    events: Words,
    i: int,
    hashes: int,
    time: int,
    newest: int,
) -> None:
    """Remember the values of an event; ``hashes`` is the column at which they begin."""
    distincts = code[2 * SECTION_DISTINCTS]
    for d in range(
        distincts + code[v + 7] * DISTINCT_WIDTH,
        distincts + code[v + 8] * DISTINCT_WIDTH,
        DISTINCT_WIDTH,
    ):
        value = events[i, hashes + code[d + 2]]
        if value != 0 and time >= _horizon(code, d, newest):
            _remember(arena, offset + code[d], code[d + 1], value, time)


@inner_kernel
def distincts_cover(code: Words, v: int, time: int, newest: int) -> bool:
    """Whether any window of distinct values reaches back to ``time`` from ``newest``."""
    distincts = code[2 * SECTION_DISTINCTS]
    for d in range(
        distincts + code[v + 7] * DISTINCT_WIDTH,
        distincts + code[v + 8] * DISTINCT_WIDTH,
        DISTINCT_WIDTH,
    ):
        if time >= _horizon(code, d, newest):
            return True
    return False


@inner_kernel
def _horizon(code: Words, d: int, newest: int) -> int:
    """Earliest event time that any window over this distinct set still covers."""
    places = code[2 * SECTION_DISTINCT_OUTPUTS]
    horizon = newest
    for o in range(
        places + code[d + 3] * DISTINCT_OUTPUT_WIDTH,
        places + code[d + 4] * DISTINCT_OUTPUT_WIDTH,
        DISTINCT_OUTPUT_WIDTH,
    ):
        hop = code[o + 1]
        horizon = min(horizon, (newest - code[o]) // hop * hop)
    return horizon


@inner_kernel
def _remember(arena: Words, base: int, capacity: int, value: int, time: int) -> None:
    """Put (time, value) into a set ordered by (time, value), newest first, one entry a value."""
    at = capacity
    for i in range(capacity):
        entry = arena[base + 2 * i + 1]
        if entry == value:
            if arena[base + 2 * i] >= time:
                return
            at = i
            break
        if entry == 0:
            at = i
            break
    if at == capacity:
        at = capacity - 1
        oldest = arena[base + 2 * at]
        if oldest > time or (oldest == time and arena[base + 2 * at + 1] > value):
            return
    while at > 0:
        above = base + 2 * (at - 1)
        if arena[above] > time or (arena[above] == time and arena[above + 1] > value):
            break
        arena[base + 2 * at] = arena[above]
        arena[base + 2 * at + 1] = arena[above + 1]
        at -= 1
    arena[base + 2 * at] = time
    arena[base + 2 * at + 1] = value
