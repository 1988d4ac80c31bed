"""The fold over many events of one view, an entity at a time.

`kernel.fold` takes events one by one, and reads every tile of every window for each. Over a batch
of the log the same is done faster: entities don't touch each other's state, so each entity's
events are taken together, and from one to the next a window only loses tiles and gains tiles.
Windows are integers until they become features, so what is added and taken away again leaves
nothing behind: vectors and records are those of `kernel.fold`, bit for bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import inner_kernel, kernel
from sentinel.features.kernel import (
    Vectors,
    Words,
    add_label,
    add_rest,
    add_to_tile,
    advance,
    advance_rest,
    finish,
    read_rest,
    read_view,
    write_span,
)
from sentinel.features.program import (
    EVENT_AMOUNT,
    EVENT_FILTERS,
    EVENT_KIND,
    EVENT_TIME,
    EVENT_VIEWS,
    FIELD_RANGE,
    FIELD_SQUARES,
    FIELD_SUM,
    FLAG_LATE,
    FLAG_SHIFT,
    KIND_ADD,
    KIND_FRAUD,
    KIND_READ,
    RECORD_FORMAT,
    SECTION_RINGS,
    SECTION_SPANS,
    SECTION_VIEWS,
    WIDTHS,
)

_RING = WIDTHS[SECTION_RINGS]
_SPAN = WIDTHS[SECTION_SPANS]
_VIEW = WIDTHS[SECTION_VIEWS]
_COUNT_MASK = (1 << 32) - 1

# What is carried from event to event for each ring is its newest tile and that tile's place;
# for each span: the tiles it covers, their fields taken together, and whether the window's
# ends lie at a whole number of tiles from the newest one (then both numbers, else -1).
_FIRST = 0
_LATEST = 1
_PACKED = 2
_TOTAL = 3
_LOW = 4
_HIGH = 5
_SMALLEST = 6
_LARGEST = 7
_TO_LATEST = 8
_TO_FIRST = 9
_CARRIED = 10

_DIGIT_BITS = 11
_DIGITS = 1 << _DIGIT_BITS


@kernel
def _order(events: Words, view: int, words: int, part: int, parts: int) -> Words:
    """Rows of ``events`` whose records are this part's, by record and then in log order."""
    mine = np.empty(events.shape[0], dtype=np.int64)
    numbers = np.empty(events.shape[0], dtype=np.int64)
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
        sorted_rows = np.empty(n, dtype=np.int64)
        sorted_numbers = np.empty(n, dtype=np.int64)
        for i in range(n):
            digit = (numbers[i] >> shift) & (_DIGITS - 1)
            sorted_rows[starts[digit]] = mine[i]
            sorted_numbers[starts[digit]] = numbers[i]
            starts[digit] += 1
        mine, numbers = sorted_rows, sorted_numbers
        shift += _DIGIT_BITS
    return mine


@inner_kernel
def _take(
    arena: Words, word: int, ring_fields: int, fields: int, carried: Words, c: int, direction: int
) -> bool:
    """Add a tile to a window (+1) or take it away (-1).

    Returns:
        Whether the window's minimum and maximum must be found anew.
    """
    cell = arena[word]
    if cell & _COUNT_MASK == 0:
        return False
    was_empty = carried[c + _PACKED] & _COUNT_MASK == 0
    carried[c + _PACKED] += direction * cell
    if fields & FIELD_SUM:
        carried[c + _TOTAL] += direction * arena[word + 1]
    at = word + 1 + (ring_fields & FIELD_SUM)
    if fields & FIELD_SQUARES:
        carried[c + _LOW] += direction * arena[at]
        carried[c + _HIGH] += direction * arena[at + 1]
    if fields & FIELD_RANGE:
        if ring_fields & FIELD_SQUARES:
            at += 2
        smallest, largest = carried[c + _SMALLEST], carried[c + _LARGEST]
        if direction < 0:
            return bool(arena[at] <= smallest or arena[at + 1] >= largest)
        carried[c + _SMALLEST] = arena[at] if was_empty else min(smallest, arena[at])
        carried[c + _LARGEST] = arena[at + 1] if was_empty else max(largest, arena[at + 1])
    return False


@inner_kernel
def _place(tile: int, newest_tile: int, newest_place: int, tiles: int) -> int:
    """Place of a retained tile in its ring."""
    place = newest_place - (newest_tile - tile)
    return place if place >= 0 else place + tiles


@inner_kernel
def _gather(
    arena: Words,
    code: Words,
    ring: int,
    base: int,
    s: int,
    newest_tile: int,
    newest_place: int,
    carried: Words,
    c: int,
) -> None:
    """Read a window tile by tile, as its first and latest tile are."""
    for field in range(_PACKED, _LARGEST + 1):
        carried[c + field] = 0
    tiles, width = code[ring + 2], code[ring + 3]
    first = max(carried[c + _FIRST], newest_tile - tiles + 1)
    latest = min(carried[c + _LATEST], newest_tile)
    if first > latest:
        return
    place = _place(first, newest_tile, newest_place, tiles)
    for _ in range(first, latest + 1):
        _take(arena, base + place * width, code[ring + 5], code[s + 3], carried, c, 1)
        place += 1
        if place == tiles:
            place = 0


@inner_kernel
def _begin(arena: Words, code: Words, v: int, offset: int, ring_ats: Words, carried: Words) -> None:
    """Read all windows of a record as of its newest time."""
    rings = code[2 * SECTION_RINGS]
    spans = code[2 * SECTION_SPANS]
    newest = arena[offset + 2]
    i = 0
    n_spans = code[v + 4] - code[v + 3]
    for r in range(code[v + 2] - code[v + 1]):
        number = code[v + 1] + r
        ring = rings + number * _RING
        hop = code[ring + 1]
        tile = newest // hop
        place = tile % code[ring + 2]
        ring_ats[2 * r], ring_ats[2 * r + 1] = tile, place
        while i < n_spans and code[spans + (code[v + 3] + i) * _SPAN] == number:
            s = spans + (code[v + 3] + i) * _SPAN
            c = i * _CARRIED
            i += 1
            carried[c + _FIRST], carried[c + _LATEST] = _bounds(
                code, s, hop, newest, tile, carried, c
            )
            _gather(arena, code, ring, offset + code[ring], s, tile, place, carried, c)


@inner_kernel
def _bounds(
    code: Words, s: int, hop: int, time: int, tile: int, carried: Words, c: int
) -> tuple[int, int]:
    """First and latest tile of a window when the newest time is ``time``, in ``tile``."""
    if carried[c + _TO_FIRST] >= 0:
        return tile - carried[c + _TO_FIRST], tile - carried[c + _TO_LATEST]
    return (time - code[s + 2] - code[s + 1]) // hop, (time - code[s + 2]) // hop


@inner_kernel
def _move(
    arena: Words, code: Words, v: int, offset: int, time: int, ring_ats: Words, carried: Words
) -> None:
    """`kernel.advance`, and the windows with it."""
    rings = code[2 * SECTION_RINGS]
    spans = code[2 * SECTION_SPANS]
    i = 0
    n_spans = code[v + 4] - code[v + 3]
    for r in range(code[v + 2] - code[v + 1]):
        number = code[v + 1] + r
        ring = rings + number * _RING
        hop, tiles, width = code[ring + 1], code[ring + 2], code[ring + 3]
        base = offset + code[ring]
        old_tile, old_place = ring_ats[2 * r], ring_ats[2 * r + 1]
        tile = time // hop
        # Spans are laid out ring by ring. Tiles that leave a window are still there.
        while i < n_spans and code[spans + (code[v + 3] + i) * _SPAN] == number:
            s = spans + (code[v + 3] + i) * _SPAN
            c = i * _CARRIED
            i += 1
            first, latest = _bounds(code, s, hop, time, tile, carried, c)
            old_first, old_latest = carried[c + _FIRST], carried[c + _LATEST]
            if first == old_first and latest == old_latest:
                continue
            carried[c + _FIRST], carried[c + _LATEST] = first, latest
            anew = first > old_latest
            if not anew:
                for gone in range(old_first, first):
                    word = base + _place(gone, old_tile, old_place, tiles) * width
                    anew |= _take(arena, word, code[ring + 5], code[s + 3], carried, c, -1)
            if anew:
                _gather(arena, code, ring, base, s, old_tile, old_place, carried, c)
                continue
            for come in range(old_latest + 1, min(latest, old_tile) + 1):
                word = base + _place(come, old_tile, old_place, tiles) * width
                _take(arena, word, code[ring + 5], code[s + 3], carried, c, 1)
        steps = tile - old_tile
        if steps == 0:
            continue
        place = old_place
        for _ in range(min(steps, tiles)):
            place += 1
            if place == tiles:
                place = 0
            word = base + place * width
            for w in range(word, word + width):
                arena[w] = 0
        ring_ats[2 * r] = tile
        ring_ats[2 * r + 1] = place if steps <= tiles else tile % tiles
    advance_rest(arena, code, v, offset, time)


@inner_kernel
def _add(
    arena: Words,
    code: Words,
    v: int,
    offset: int,
    events: Words,
    row: int,
    ring_ats: Words,
    carried: Words,
) -> None:
    """Add an event to the rings of its record and to the windows that cover it."""
    rings = code[2 * SECTION_RINGS]
    spans = code[2 * SECTION_SPANS]
    time = events[row, EVENT_TIME]
    amount = events[row, EVENT_AMOUNT]
    filters = events[row, EVENT_FILTERS]
    late = time < arena[offset + 2]
    i = 0
    n_spans = code[v + 4] - code[v + 3]
    for r in range(code[v + 2] - code[v + 1]):
        number = code[v + 1] + r
        ring = rings + number * _RING
        begin = i
        while i < n_spans and code[spans + (code[v + 3] + i) * _SPAN] == number:
            i += 1
        tiles, fields, bit = code[ring + 2], code[ring + 5], code[ring + 4]
        if bit >= 0 and (filters >> bit) & 1 == 0:
            continue
        tile, place = ring_ats[2 * r], ring_ats[2 * r + 1]
        if late:
            newest_tile = tile
            tile = time // code[ring + 1]
            if tile <= newest_tile - tiles:
                continue
            place = _place(tile, newest_tile, place, tiles)
        word = offset + code[ring] + place * code[ring + 3]
        squares_at = word + 1 + (fields & FIELD_SUM)
        low_before = 0
        high_before = 0
        if fields & FIELD_SQUARES:
            low_before, high_before = arena[squares_at], arena[squares_at + 1]
        add_to_tile(arena, word, fields, amount)
        for c in range(begin * _CARRIED, i * _CARRIED, _CARRIED):
            if tile < carried[c + _FIRST] or tile > carried[c + _LATEST]:
                continue
            empty = carried[c + _PACKED] & _COUNT_MASK == 0
            carried[c + _PACKED] += 1
            carried[c + _TOTAL] += amount
            if fields & FIELD_SQUARES:
                carried[c + _LOW] += arena[squares_at] - low_before
                carried[c + _HIGH] += arena[squares_at + 1] - high_before
            if fields & FIELD_RANGE:
                smallest, largest = carried[c + _SMALLEST], carried[c + _LARGEST]
                carried[c + _SMALLEST] = amount if empty else min(smallest, amount)
                carried[c + _LARGEST] = amount if empty else max(largest, amount)


@inner_kernel
def _run(
    arena: Words,
    code: Words,
    view: int,
    events: Words,
    order: Words,
    out: Vectors,
    rows: Words,
    ring_ats: Words,
    carried: Words,
) -> None:
    """`fold_view` for rows of events in an order that has each record's together."""
    n_views = code[2 * SECTION_VIEWS + 1]
    v = code[2 * SECTION_VIEWS] + view * _VIEW
    spans = code[2 * SECTION_SPANS]
    n_spans = code[v + 4] - code[v + 3]
    hashes = EVENT_VIEWS + 2 * n_views
    carries = -1  # the record whose windows are carried
    for k in range(len(order)):
        i = order[k]
        offset = events[i, EVENT_VIEWS + view]
        kind = events[i, EVENT_KIND]
        time = events[i, EVENT_TIME]
        row = rows[i]
        if offset < 0 or kind != KIND_ADD:
            if kind <= KIND_READ:
                if row >= 0:
                    read_view(arena, code, view, offset, time, out, row)
            else:
                change = 1 if kind == KIND_FRAUD else -1
                add_label(arena, code, view, offset, time, events[i, EVENT_FILTERS], change)
                carries = -1
            if offset >= 0:
                events[i, EVENT_VIEWS + n_views + view] = arena[offset + 1]
            continue
        if arena[offset] == 0:
            arena[offset] = RECORD_FORMAT
            arena[offset + 2] = time
        if carries != offset:
            if time > arena[offset + 2]:
                advance(arena, code, v, offset, time)
            _begin(arena, code, v, offset, ring_ats, carried)
            carries = offset
        elif time > arena[offset + 2]:
            _move(arena, code, v, offset, time, ring_ats, carried)
        # The windows are those at the newest time, which is what a late event sees, too.
        if row >= 0:
            for j in range(n_spans):
                s, c = spans + (code[v + 3] + j) * _SPAN, j * _CARRIED
                write_span(
                    code, s, carried[c + _PACKED], carried[c + _TOTAL], carried[c + _LOW],
                    carried[c + _HIGH], carried[c + _SMALLEST], carried[c + _LARGEST], out, row,
                )  # fmt: skip
            read_rest(arena, code, v, offset, True, arena[offset + 2], out, row)
        flags = FLAG_LATE if time < arena[offset + 2] else 0
        arena[offset + 1] += 1
        _add(arena, code, v, offset, events, i, ring_ats, carried)
        flags |= add_rest(arena, code, v, offset, events, i, hashes, flags)
        events[i, EVENT_VIEWS + n_views + view] = arena[offset + 1] | (flags << FLAG_SHIFT)


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
    """Run one view over events in log order: read, then add, as if one event at a time.

    Args:
        arena: int64 state words, changed in place.
        code: The compiled program.
        view: Index of the view.
        part, parts: Only records whose number modulo ``parts`` is ``part``, so that parts may
            run side by side; entities don't touch each other's state.
        events: int64 (n_events, event_width); positions and flags are written into it.
        out: float32 (n_rows, n_features).
        rows: int64 (n_events,), the row of ``out`` an event writes, -1 for none.
    """
    v = code[2 * SECTION_VIEWS] + view * _VIEW
    spans = code[2 * SECTION_SPANS]
    rings = code[2 * SECTION_RINGS]
    n_spans = code[v + 4] - code[v + 3]
    ring_ats = np.zeros(2 * (code[v + 2] - code[v + 1]), dtype=np.int64)
    carried = np.zeros(n_spans * _CARRIED, dtype=np.int64)
    for j in range(n_spans):
        s = spans + (code[v + 3] + j) * _SPAN
        hop, window, shift = code[rings + code[s] * _RING + 1], code[s + 1], code[s + 2]
        whole = shift % hop == 0 and (shift + window) % hop == 0
        carried[j * _CARRIED + _TO_LATEST] = shift // hop if whole else -1
        carried[j * _CARRIED + _TO_FIRST] = (shift + window) // hop if whole else -1
    order = _order(events, view, code[v], part, parts)
    _run(arena, code, view, events, order, out, rows, ring_ats, carried)


@inner_kernel
def finish_rows(
    code: Words, events: Words, given: Vectors, out: Vectors, rows: npt.NDArray[np.int64]
) -> None:
    """`finish` for every event that has a row. Shapes as in `fold_view`; given by event."""
    for i in range(events.shape[0]):
        if rows[i] >= 0:
            finish(code, events, i, given, out, rows[i])
