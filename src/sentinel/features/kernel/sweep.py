"""The fold over many events of one view, an entity at a time.

`fold.fold` takes events one by one, and reads every tile of every window for each. Over a batch of
the log the same is done faster: entities don't touch each other's state, so each entity's events
are taken together, and from one to the next a window only loses tiles and gains tiles. Windows are
integers until they become features, so what is added and taken away again leaves nothing behind:
vectors and records are those of `fold.fold`, bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import inner_kernel, kernel, prefetch
from sentinel.features.kernel.finish import finish
from sentinel.features.kernel.fold import (
    add_event,
    add_label,
    add_rest,
    advance_rest,
    read_rest,
    read_view,
)
from sentinel.features.kernel.windows import add, begin, end, make_table, move, write_windows
from sentinel.features.kernel.words import VIEW_WIDTH, Vectors, Words
from sentinel.features.plan.program import (
    EVENT_FILTERS,
    EVENT_KIND,
    EVENT_TIME,
    EVENT_VIEWS,
    FLAG_SHIFT,
    KIND_ADD,
    KIND_FRAUD,
    KIND_READ,
    RECORD_FORMAT,
    SECTION_VIEWS,
)

Order = npt.NDArray[np.int32]
"""Rows of a batch's events in the order in which a view takes them."""

_DIGIT_BITS = 11
_DIGITS = 1 << _DIGIT_BITS

# How many events ahead memory is asked for: what an event is, then where it leads.
_SOON = 24
_NEXT = 12

# A record is asked for line by line, up to so many words of it.
_LINE_WORDS = 8
_MOST_ASKED = 64 * _LINE_WORDS


@kernel
def order_of(events: Words, view: int, words: int, part: int, parts: int) -> Order:
    """Rows of ``events`` whose records are this part's, by record and then in log order."""
    mine = np.empty(events.shape[0], dtype=np.int32)
    numbers = np.empty(events.shape[0], dtype=np.int32)
    n = 0
    largest = 0
    for i in range(events.shape[0]):
        offset = events[i, EVENT_VIEWS + view]
        number = offset // words if offset >= 0 else 0
        if (number if offset >= 0 else i) % parts == part:
            mine[n] = i
            numbers[n] = number
            largest = max(largest, number)
            n += 1
    mine, numbers = mine[:n], numbers[:n]
    starts = np.empty(_DIGITS, dtype=np.int64)
    shift = 0
    while largest >> shift > 0:
        starts[:] = 0
        for i in range(n):
            starts[(numbers[i] >> shift) & (_DIGITS - 1)] += 1
        total = 0
        for digit in range(_DIGITS):
            total += starts[digit]
            starts[digit] = total - starts[digit]
        sorted_rows = np.empty(n, dtype=np.int32)
        sorted_numbers = np.empty(n, dtype=np.int32)
        for i in range(n):
            digit = (numbers[i] >> shift) & (_DIGITS - 1)
            sorted_rows[starts[digit]] = mine[i]
            sorted_numbers[starts[digit]] = numbers[i]
            starts[digit] += 1
        mine, numbers = sorted_rows, sorted_numbers
        shift += _DIGIT_BITS
    return mine


@kernel
def record_end(events: Words, view: int, order: Order, place: int) -> int:
    """First place of an order, from ``place`` on, at which another record's events begin."""
    while (
        0 < place < len(order)
        and events[order[place], EVENT_VIEWS + view] == events[order[place - 1], EVENT_VIEWS + view]
        and events[order[place], EVENT_VIEWS + view] >= 0
    ):
        place += 1
    return place


@inner_kernel
def _run(
    arena: Words,
    code: Words,
    view: int,
    events: Words,
    order: Order,
    out: Vectors,
    rows: Words,
    table: Words,
) -> None:
    """`fold_in_order` with a table to work in."""
    n_views = code[2 * SECTION_VIEWS + 1]
    v = code[2 * SECTION_VIEWS] + view * VIEW_WIDTH
    hashes = EVENT_VIEWS + 2 * n_views
    n = len(order)
    asked = min(code[v], _MOST_ASKED)
    carried = -1  # the record whose windows the table holds, and whether it is behind them
    behind = False
    for k in range(n):
        if k + _SOON < n:
            prefetch(events, order[k + _SOON], 0)
            prefetch(rows, order[k + _SOON], 0)
        if k + _NEXT < n:
            ahead = order[k + _NEXT]
            if rows[ahead] >= 0:
                prefetch(out, rows[ahead], code[v + 9])
            coming = events[ahead, EVENT_VIEWS + view]
            if coming >= 0 and coming != events[order[k + _NEXT - 1], EVENT_VIEWS + view]:
                for word in range(coming, coming + asked, _LINE_WORDS):
                    prefetch(arena, word, 0)
        i = order[k]
        offset = events[i, EVENT_VIEWS + view]
        kind = events[i, EVENT_KIND]
        time = events[i, EVENT_TIME]
        row = rows[i]
        if offset != carried and behind:
            end(arena, code, v, carried, table)
            behind = False
        if offset < 0 or kind != KIND_ADD:
            if behind:
                end(arena, code, v, carried, table)
                behind = False
            carried = -1
            if kind <= KIND_READ:
                if row >= 0:
                    read_view(arena, code, view, offset, time, out, row)
            else:
                change = 1 if kind == KIND_FRAUD else -1
                add_label(arena, code, view, offset, time, events[i, EVENT_FILTERS], change)
            if offset >= 0:
                events[i, EVENT_VIEWS + n_views + view] = arena[offset + 1]
            continue
        if offset != carried:
            fresh = arena[offset] == 0
            begin(arena, code, v, offset, fresh, table)
            carried = offset
            if fresh:
                arena[offset] = RECORD_FORMAT
                arena[offset + 2] = time
            move(code, v, max(time, arena[offset + 2]), table)
        elif time > arena[offset + 2]:
            move(code, v, time, table)
        if time > arena[offset + 2]:
            advance_rest(arena, code, v, offset, time)
            behind = True
        # The windows are those at the newest time, which is what a late event sees, too.
        if row >= 0:
            write_windows(code, v, table, out, row)
            read_rest(arena, code, v, offset, True, arena[offset + 2], out, row)
        if time < arena[offset + 2]:
            if behind:
                end(arena, code, v, offset, table)
                behind = False
            flags = add_event(arena, code, view, offset, events, i, hashes)
            carried = -1
        else:
            arena[offset + 1] += 1
            add(code, v, events, i, table)
            behind = True
            flags = add_rest(arena, code, v, offset, events, i, hashes, 0)
        events[i, EVENT_VIEWS + n_views + view] = arena[offset + 1] | (flags << FLAG_SHIFT)
    if behind:
        end(arena, code, v, carried, table)


@kernel
def fold_view(
    arena: Words,
    code: Words,
    view: int,
    part: int,
    parts: int,
    events: Words,
    out: Vectors,
    rows: Words,
) -> None:
    """`fold_in_order` for all records, or those whose number modulo ``parts`` is ``part``."""
    v = code[2 * SECTION_VIEWS] + view * VIEW_WIDTH
    order = order_of(events, view, code[v], part, parts)
    _run(arena, code, view, events, order, out, rows, make_table(code, view))


@kernel
def fold_in_order(
    arena: Words,
    code: Words,
    view: int,
    events: Words,
    order: Order,
    out: Vectors,
    rows: Words,
) -> None:
    """Run one view over events in log order: read, then add, as if one event at a time.

    Args:
        arena: int64 state words, changed in place.
        code: The compiled program.
        view: Index of the view.
        events: int64 (n_events, event_width); positions and flags are written into it.
        order: Which events, those of a record together and in log order, see `order_of`. Calls
            whose events are of different records may run side by side.
        out: float32 (n_rows, n_features).
        rows: int64 (n_events,), the row of ``out`` an event writes, -1 for none.
    """
    _run(arena, code, view, events, order, out, rows, make_table(code, view))


@inner_kernel
def finish_rows(
    code: Words, events: Words, given: Vectors, out: Vectors, rows: npt.NDArray[np.int64]
) -> None:
    """`finish` for every event that has a row. Shapes as in `fold_in_order`; given by event."""
    for i in range(events.shape[0]):
        if rows[i] >= 0:
            finish(code, events, i, given, out, rows[i])
