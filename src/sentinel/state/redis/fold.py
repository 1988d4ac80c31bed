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
    EVENT_ID,
    EVENT_NUMBER,
    EVENT_SESSION,
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
"""Events in the data; own events behind them are not in it."""
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
FULL: Final = 12
"""Set to 1 if the record's tail is to be compacted."""
NEW: Final = 13
"""Set to 1 if there was no record before."""
COLUMNS: Final = 14

# Columns of a table of calls; one row for each record.
CALL_VIEW: Final = 0
CALL_SLOT: Final = 1
CALL_ROWS_AT: Final = 2
"""Where the numbers of the call's rows begin in ``rows``."""
CALL_ROWS: Final = 3
CALL_OWN_AT: Final = 4
"""Position of the first own event; BEHIND: behind those of the reply; NOT_ADDED."""
CALL_MAKES: Final = 5
"""1 if a record that does not exist is made."""
CALL_COLUMNS: Final = 6

BEHIND: Final = -1
NOT_ADDED: Final = -2
NO_SUCH_RECORD: Final = -1
"""First position of a reply about a record that does not exist and was not to be made."""
REPLY_WORDS: Final = 3
"""Of a reply's head; see `functions.lua`."""

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
def write_arguments(
    calls: Words,
    rows: Words,
    events: Words,
    taken: Words,
    known: Words,
    ids: Words,
    session: int,
    number: int,
    first: int,
    written: Words,
    ends: Words,
) -> None:
    """Write what the server's function is called with, for one record after the other.

    Args:
        calls: int64 (n, CALL_COLUMNS).
        rows: int64, for each row of a call its row of ``events`` and ``ids``.
        events: int64 (capacity, event_width).
        taken: int64 (views, most + 1), the columns of ``events`` that an event of the view holds,
            -1 behind them.
        known: int64 (views, slots), the positions at which the caller has the records.
        ids: int64 (capacity,), hashes of the transactions' ids.
        session, number: Of all events. A number of 0 writes none.
        first: Position of a record that is new.
        written: int64, overwritten.
        ends: int64 (n,), gets the word of ``written`` at which each argument ends.
    """
    at = 0
    for r in range(len(calls)):
        view = calls[r, CALL_VIEW]
        fields = 0
        while taken[view, fields] >= 0:
            fields += 1
        written[at] = 8 * (FIELDS_AT + fields) | ((1 - calls[r, CALL_MAKES]) << 32)
        written[at + 1] = first
        written[at + 2] = known[view, calls[r, CALL_SLOT]]
        at += REPLY_WORDS
        if number != 0:
            begin = calls[r, CALL_ROWS_AT]
            for place in range(begin, begin + calls[r, CALL_ROWS]):
                row = rows[place]
                written[at + EVENT_ID] = ids[row]
                written[at + EVENT_SESSION] = session
                written[at + EVENT_NUMBER] = number
                for field in range(fields):
                    written[at + FIELDS_AT + field] = events[row, taken[view, field]]
                at += FIELDS_AT + fields
        ends[r] = at


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
) -> int:
    """Bring records up to date and read features at the events that are the caller's own.

    Args:
        arena: int64 state words, changed in place.
        code: The compiled program.
        columns: See `Layout.columns`.
        table: int64 (n, COLUMNS), one row for each record; STALE is set where it was 0.
        data: int64, bases and events.
        rows: int64, for each own event its row of ``events`` and ``out``.
        events: int64 (capacity, event_width); positions and flags are written into it.
        out: float32 (capacity, n_features).

    Returns:
        How many records are stale; nothing was read for their rows.
    """
    n_views = code[2 * SECTION_VIEWS + 1]
    hashes = EVENT_VIEWS + 2 * n_views
    event = np.zeros((1, events.shape[1]), dtype=np.int64)
    longest = 1
    for r in range(len(table)):
        longest = max(longest, table[r, EVENTS])
    skipped = np.zeros(longest, dtype=np.int64)
    stale = 0
    for r in range(len(table)):
        view, offset = table[r, VIEW], table[r, OFFSET]
        words = code[code[2 * SECTION_VIEWS] + view * _VIEW_WIDTH]
        width = EVENT_WORDS
        while columns[view, width - EVENT_WORDS] >= 0:
            width += 1
        n, first = table[r, EVENTS], table[r, FROM]
        whole = table[r, WHOLE] == 1
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
        total = max(n, own_from + own) if own_from >= 0 else n
        for j in range(total):
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
            arena[offset + 1] = first + total
        if own_from < 0:
            for j in range(own):
                row = rows[table[r, ROWS_AT] + j]
                read_view(arena, code, view, offset, events[row, EVENT_TIME], out, row)
    return stale


@kernel
def fold_replies(
    arena: Words,
    code: Words,
    columns: Words,
    slots: Words,
    known: Words,
    calls: Words,
    rows: Words,
    ends: Words,
    data: Words,
    events: Words,
    out: Vectors,
    table: Words,
    compact_from: int,
) -> tuple[int, int, int]:
    """`fold_records` for the replies of calls.

    Args:
        arena, code, columns, rows, events, out: See `fold_records`.
        slots: int64 (views, 2), the first word of the view's slots and the words of one.
        known: int64 (views, slots), the positions at which the records stand; brought up to date.
        calls: int64 (n, CALL_COLUMNS).
        ends: int64 (n,), the word of ``data`` at which each reply ends.
        data: int64, the replies, one after the other.
        table: int64 (n, COLUMNS), overwritten.
        compact_from: Events in a tail, for every so many of which the record is FULL.

    Returns:
        How many replies say that a record does not exist or that it holds some of the events: if
        any do, nothing was done. How many records are stale, and full.
    """
    odd = 0
    at = 0
    for r in range(len(calls)):
        if data[at] == NO_SUCH_RECORD or data[at + 2] >> 32 != 0:
            odd += 1
        at = ends[r]
    if odd > 0:
        return odd, 0, 0
    full = 0
    at = 0
    for r in range(len(calls)):
        view, slot, own = calls[r, CALL_VIEW], calls[r, CALL_SLOT], calls[r, CALL_ROWS]
        width = EVENT_WORDS
        while columns[view, width - EVENT_WORDS] >= 0:
            width += 1
        first, whole, words = data[at], data[at + 2], ends[r] - at - REPLY_WORDS
        base_words = (whole - 1) // 8 if whole > 0 else 0
        count = (words - base_words) // width
        at_hand, seen, stands = known[view, slot], 0, True
        if whole == 0 and at_hand != first:
            # A group that was sent before this one has brought the record further meanwhile.
            seen = at_hand - first
            stands = 0 < seen <= count
            if stands:
                first, count = at_hand, count - seen
            else:
                seen = 0
        own_at = calls[r, CALL_OWN_AT]
        if own_at == NOT_ADDED:
            own_from, total = -1, count
        elif own_at == BEHIND:
            own_from, total = count, count + own
        else:
            own_from = own_at - first - 1
            total = max(count, own_from + own)
        table[r, VIEW] = view
        table[r, OFFSET] = slots[view, 0] + slot * slots[view, 1]
        table[r, WHOLE] = 1 if whole > 0 else 0
        table[r, BASE_AT] = at + REPLY_WORDS
        table[r, BASE_WORDS] = base_words
        table[r, EVENTS_AT] = at + REPLY_WORDS + base_words + seen * width
        table[r, EVENTS] = count
        table[r, FROM] = first
        table[r, OWN_FROM] = own_from
        table[r, OWN] = own
        table[r, ROWS_AT] = calls[r, CALL_ROWS_AT]
        is_full = (first + count) // compact_from != (
            first + total
        ) // compact_from or count > 4 * compact_from
        table[r, FULL] = 1 if is_full else 0
        table[r, NEW] = 1 if whole > 0 and words == 0 else 0
        full += table[r, FULL]
        table[r, STALE] = 0 if stands else 1
        known[view, slot] = first + total
        at = ends[r]
    stale = fold_records(arena, code, columns, table, data, rows, events, out)
    return 0, stale, full


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
