"""Records out of base and tail: the kernel's own fold over what Redis returned.

A base is packed: a bit for each word of the record, then the words that are not zero. Most of a
record's words are zero.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import kernel
from sentinel.features.kernel.finish import finish
from sentinel.features.kernel.fold import add_event, add_label, read_view
from sentinel.features.plan.program import (
    EVENT_AMOUNT,
    EVENT_FILTERS,
    EVENT_TIME,
    EVENT_VIEWS,
    FLAG_SHIFT,
    KIND_ADD,
    KIND_FRAUD,
    SECTION_VIEWS,
    WIDTHS,
)
from sentinel.state.redis.layout import (
    EVENT_NUMBER,
    EVENT_WORDS,
    FIELDS_AT,
    KIND_BITS,
    KIND_VOID,
)

Words = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

# Columns of a table of records to fold; one row for each record.
VIEW: Final = 0
OFFSET: Final = 1
"""Word of the arena where the record is."""
WHOLE: Final = 2
"""1: the data begins with the base; 0: the arena holds the record at FROM."""
BASE_AT: Final = 3
BASE_WORDS: Final = 4
EVENTS_AT: Final = 5
EVENTS: Final = 6
FROM: Final = 7
"""Position before the first event of the data."""
OWN_FROM: Final = 8
"""Index of the first event that is read for; -1: all rows are read behind the last event."""
OWN: Final = 9
"""How many rows are read."""
ROWS_AT: Final = 10
"""Where their numbers begin in ``rows``."""
STALE: Final = 11
"""Set to 1 if the arena's record holds an event that was voided: it has to be fetched whole."""
COLUMNS: Final = 12

_KIND_MASK = (1 << KIND_BITS) - 1
_VIEW_WIDTH = WIDTHS[SECTION_VIEWS]


@kernel
def pack_record(record: Words, packed: Words) -> int:
    """Pack a record's words; returns how many words of ``packed`` are used.

    Args:
        record: int64 (n,).
        packed: int64 (n + n // 64 + 1,), overwritten.
    """
    n = len(record)
    bits = (n + 63) // 64
    for i in range(bits):
        packed[i] = 0
    at = bits
    for i in range(n):
        if record[i] != 0:
            packed[i >> 6] |= np.int64(1) << (i & 63)
            packed[at] = record[i]
            at += 1
    return at


@kernel
def unpack_record(data: Words, at: int, used: int, arena: Words, offset: int, n: int) -> None:
    """Write the record of ``n`` words that is packed in ``data[at : at + used]`` into an arena."""
    for i in range(offset, offset + n):
        arena[i] = 0
    if used == 0:
        return
    word = at + (n + 63) // 64
    for i in range(n):
        if (data[at + (i >> 6)] >> (i & 63)) & 1:
            arena[offset + i] = data[word]
            word += 1


@kernel
def fold_records(
    arena: Words,
    code: Words,
    columns: Words,
    table: Words,
    data: Words,
    rows: Words,
    events: Words,
    out: Vectors,
    skipped: Words,
) -> int:
    """Bring records up to date and read features at the events that are the caller's own.

    Args:
        arena: int64 state words, changed in place.
        code: The compiled program.
        columns: See `Layout.columns`.
        table: int64 (n, COLUMNS), one row for each record; STALE is written.
        data: int64, bases and events.
        rows: int64, for each own event its row of ``events`` and ``out``.
        events: int64 (capacity, event_width); positions and flags are written into it.
        out: float32 (capacity, n_features).
        skipped: int64, at least as long as the longest list of events; overwritten.

    Returns:
        How many records are stale; nothing was read for their rows.
    """
    n_views = code[2 * SECTION_VIEWS + 1]
    hashes = EVENT_VIEWS + 2 * n_views
    event = np.zeros((1, events.shape[1]), dtype=np.int64)
    stale = 0
    for r in range(len(table)):
        view, offset = table[r, VIEW], table[r, OFFSET]
        words = code[code[2 * SECTION_VIEWS] + view * _VIEW_WIDTH]
        width = EVENT_WORDS
        while columns[view, width - EVENT_WORDS] >= 0:
            width += 1
        n, first = table[r, EVENTS], table[r, FROM]
        whole = table[r, WHOLE] == 1
        table[r, STALE] = 0
        for j in range(n):
            skipped[j] = 0
        for j in range(n):
            at = table[r, EVENTS_AT] + j * width
            if data[at + EVENT_NUMBER] & _KIND_MASK == KIND_VOID:
                skipped[j] = 1
                voided = data[at + FIELDS_AT] - first - 1
                if voided >= 0:
                    skipped[voided] = 1
                elif not whole:
                    table[r, STALE] = 1
        if table[r, STALE] == 1:
            stale += 1
            continue
        if whole:
            unpack_record(data, table[r, BASE_AT], table[r, BASE_WORDS], arena, offset, words)
        own_from, own = table[r, OWN_FROM], table[r, OWN]
        for j in range(n):
            at = table[r, EVENTS_AT] + j * width
            position = first + 1 + j
            if own_from >= 0 and own_from <= j < own_from + own:
                row = rows[table[r, ROWS_AT] + j - own_from]
                read_view(arena, code, view, offset, events[row, EVENT_TIME], out, row)
                flags = add_event(arena, code, view, offset, events, row, hashes)
                events[row, EVENT_VIEWS + n_views + view] = position | (flags << FLAG_SHIFT)
            elif skipped[j] == 0:
                kind = data[at + EVENT_NUMBER] & _KIND_MASK
                event[0, EVENT_TIME] = data[at + FIELDS_AT]
                event[0, EVENT_AMOUNT] = data[at + FIELDS_AT + 1]
                event[0, EVENT_FILTERS] = data[at + FIELDS_AT + 2]
                if kind == KIND_ADD:
                    for c in range(width - EVENT_WORDS):
                        event[0, hashes + columns[view, c]] = data[at + EVENT_WORDS + c]
                    add_event(arena, code, view, offset, event, 0, hashes)
                else:
                    change = 1 if kind == KIND_FRAUD else -1
                    add_label(
                        arena,
                        code,
                        view,
                        offset,
                        event[0, EVENT_TIME],
                        event[0, EVENT_FILTERS],
                        change,
                    )
        if arena[offset] != 0:
            arena[offset + 1] = first + n
        if own_from < 0:
            for j in range(own):
                row = rows[table[r, ROWS_AT] + j]
                read_view(arena, code, view, offset, events[row, EVENT_TIME], out, row)
    return stale


@kernel
def finish_vectors(code: Words, events: Words, given: Vectors, out: Vectors, n: int) -> None:
    """Write what needs no record, and null for the views whose key an event lacks."""
    n_views = code[2 * SECTION_VIEWS + 1]
    nowhere = np.zeros(1, dtype=np.int64)
    for i in range(n):
        for view in range(n_views):
            if events[i, EVENT_VIEWS + view] < 0:
                read_view(nowhere, code, view, -1, events[i, EVENT_TIME], out, i)
        finish(code, events, i, given, out, i)
