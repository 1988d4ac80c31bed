"""The fold: ``state, event -> features, state'``, compiled.

One function reads a record as it stands and then adds the event to it. Everything that computes
windows runs it: backfill, serving, recovery and queries. State is one int64 array, the arena;
an encoded event names the word at which each view's record of its entity begins.

Records are order-free functions of the set of events within their retention, so any engine that
applies an entity's entries in the same relative order serves the same bits.
"""

from __future__ import annotations

import numpy as np

from sentinel.features.jit import inner_kernel
from sentinel.features.kernel.distincts import (
    add_to_distincts,
    advance_distincts,
    distincts_cover,
    read_distincts,
)
from sentinel.features.kernel.finish import finish
from sentinel.features.kernel.lasts import add_to_lasts, advance_lasts, lasts_cover, read_lasts
from sentinel.features.kernel.rings import (
    add_to_rings,
    advance_rings,
    change_frauds,
    read_rings,
    rings_cover,
)
from sentinel.features.kernel.words import NO_TIME, VIEW_WIDTH, Vectors, Words
from sentinel.features.plan.program import (
    EVENT_AMOUNT,
    EVENT_FILTERS,
    EVENT_KIND,
    EVENT_TIME,
    EVENT_VIEWS,
    FLAG_EXPIRED,
    FLAG_LATE,
    FLAG_SHIFT,
    KIND_ADD,
    KIND_FRAUD,
    KIND_READ,
    RECORD_FORMAT,
    SECTION_VIEWS,
)


@inner_kernel
def read_view(
    arena: Words, code: Words, view: int, offset: int, time: int, out: Vectors, row: int
) -> None:
    """Write the features of one view's record, as of ``time``, into its places of ``out``.

    Args:
        arena: int64 state words.
        code: The compiled program.
        view: Index of the view.
        offset: First word of the record, or NO_RECORD.
        time: Event time or now, microseconds.
        out, row: float32 (n_rows, n_features), of which one row is written in place.
    """
    v = code[2 * SECTION_VIEWS] + view * VIEW_WIDTH
    if offset < 0:
        for i in range(code[v + 9], code[v + 10]):
            out[row, i] = np.nan
        return
    written = arena[offset] != 0
    newest = arena[offset + 2] if written else NO_TIME
    now = max(time, newest)
    read_rings(arena, code, v, offset, written, newest, now, out, row)
    read_rest(arena, code, v, offset, written, now, out, row)


@inner_kernel
def read_rest(
    arena: Words, code: Words, v: int, offset: int, written: bool, now: int, out: Vectors, row: int
) -> None:
    """Write the features of one view's record that no ring holds: last times, distinct counts."""
    read_lasts(arena, code, v, offset, written, now, out, row)
    read_distincts(arena, code, v, offset, written, now, out, row)


@inner_kernel
def advance(arena: Words, code: Words, v: int, offset: int, time: int) -> None:
    """Make ``time`` the newest event time: empty the tiles and entries that leave retention."""
    advance_rings(arena, code, v, offset, time)
    advance_rest(arena, code, v, offset, time)


@inner_kernel
def advance_rest(arena: Words, code: Words, v: int, offset: int, time: int) -> None:
    """The part of `advance` that no ring holds: last times, distinct values, the newest time."""
    advance_lasts(arena, code, v, offset, time)
    advance_distincts(arena, code, v, offset, time)
    arena[offset + 2] = time


@inner_kernel
def _covered(code: Words, v: int, time: int, newest: int) -> bool:
    """Whether any window of the view, filters aside, reaches back to ``time`` from ``newest``.

    Windows only move forward: a time that none of them covers now is never covered again.
    """
    return (
        rings_cover(code, v, time, newest)
        or lasts_cover(code, v, time, newest)
        or distincts_cover(code, v, time, newest)
    )


@inner_kernel
def add_rest(
    arena: Words, code: Words, v: int, offset: int, events: Words, i: int, hashes: int, flags: int
) -> int:
    """The part of `add_event` that no ring holds; returns FLAG_EXPIRED where it applies."""
    time = events[i, EVENT_TIME]
    filters = events[i, EVENT_FILTERS]
    newest = arena[offset + 2]
    add_to_lasts(arena, code, v, offset, time, filters, newest)
    add_to_distincts(arena, code, v, offset, events, i, hashes, time, newest)
    if flags and not _covered(code, v, time, newest):
        return FLAG_EXPIRED
    return 0


@inner_kernel
def add_event(
    arena: Words, code: Words, view: int, offset: int, events: Words, i: int, hashes: int
) -> int:
    """Add an event to one view's record; returns FLAG_LATE / FLAG_EXPIRED.

    Args:
        arena: int64 state words, changed in place.
        code: The compiled program.
        view: Index of the view.
        offset: First word of the record; negative: nothing is added.
        events, i: int64 (n_events, event_width), of which one encoded event is added.
        hashes: Column of ``events`` at which the distinct hashes begin.
    """
    if offset < 0:
        return 0
    v = code[2 * SECTION_VIEWS] + view * VIEW_WIDTH
    time = events[i, EVENT_TIME]
    amount = events[i, EVENT_AMOUNT]
    filters = events[i, EVENT_FILTERS]
    flags = 0
    if arena[offset] == 0:
        arena[offset] = RECORD_FORMAT
        arena[offset + 2] = time
    elif time > arena[offset + 2]:
        advance(arena, code, v, offset, time)
    elif time < arena[offset + 2]:
        flags = FLAG_LATE
    arena[offset + 1] += 1
    add_to_rings(arena, code, v, offset, time, amount, filters)
    return flags | add_rest(arena, code, v, offset, events, i, hashes, flags)


@inner_kernel
def add_label(
    arena: Words, code: Words, view: int, offset: int, time: int, filters: int, change: int
) -> None:
    """Count a fraud (+1) or take one back (-1) in the tile of the transaction it is about.

    ``time`` and ``filters`` are those of the transaction, which the record has seen before.
    """
    if offset < 0 or arena[offset] == 0:
        return
    v = code[2 * SECTION_VIEWS] + view * VIEW_WIDTH
    arena[offset + 1] += 1
    change_frauds(arena, code, v, offset, time, filters, change)


@inner_kernel
def fold(
    arena: Words, code: Words, events: Words, given: Vectors, out: Vectors, n_events: int
) -> None:
    """The whole fold of a micro-batch: every view, then request features and ratios.

    Args:
        arena: int64 state words, changed in place.
        code: The compiled program.
        events: int64 (capacity, event_width); positions and flags are written into it.
        given: float32 (capacity, n_given).
        out: float32 (capacity, n_features); row i is of event i.
        n_events: How many events there are.
    """
    n_views = code[2 * SECTION_VIEWS + 1]
    hashes = EVENT_VIEWS + 2 * n_views
    for i in range(n_events):
        kind = events[i, EVENT_KIND]
        for view in range(n_views):
            offset = events[i, EVENT_VIEWS + view]
            flags = 0
            if kind <= KIND_READ:
                read_view(arena, code, view, offset, events[i, EVENT_TIME], out, i)
                if kind == KIND_ADD:
                    flags = add_event(arena, code, view, offset, events, i, hashes)
            else:
                change = 1 if kind == KIND_FRAUD else -1
                add_label(
                    arena,
                    code,
                    view,
                    offset,
                    events[i, EVENT_TIME],
                    events[i, EVENT_FILTERS],
                    change,
                )
            if offset >= 0:
                events[i, EVENT_VIEWS + n_views + view] = arena[offset + 1] | (flags << FLAG_SHIFT)
        if kind <= KIND_READ:
            finish(code, events, i, given, out, i)
