"""The fold: ``state, event -> features, state'``, compiled.

One function reads a record as it stands and then adds the event to it. Everything that computes
windows runs it: backfill, serving, recovery and queries. State is one int64 array, the arena;
an encoded event names the word at which each view's record of its entity begins.

Records are order-free functions of the set of events within their retention, so any engine that
applies an entity's entries in the same relative order serves the same bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import inner_kernel
from sentinel.features.plan.program import (
    EVENT_AMOUNT,
    EVENT_FILTERS,
    EVENT_KIND,
    EVENT_TIME,
    EVENT_VIEWS,
    FIELD_RANGE,
    FIELD_SQUARES,
    FIELD_SUM,
    FLAG_EXPIRED,
    FLAG_LATE,
    FLAG_SHIFT,
    KIND_ADD,
    KIND_FRAUD,
    KIND_READ,
    OUT_COUNT,
    OUT_FRAUD_COUNT,
    OUT_FRAUD_RATE,
    OUT_MAX,
    OUT_MEAN,
    OUT_MIN,
    OUT_STD,
    OUT_SUM,
    RECORD_FORMAT,
    REQUEST_AMOUNT,
    REQUEST_HOUR,
    REQUEST_WEEKDAY,
    SECTION_DISTINCT_OUTPUTS,
    SECTION_DISTINCTS,
    SECTION_LASTS,
    SECTION_OUTPUTS,
    SECTION_RATIOS,
    SECTION_REQUEST,
    SECTION_RINGS,
    SECTION_SPANS,
    SECTION_VIEWS,
    WIDTHS,
)

Words = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

NO_RECORD = -1
"""Offset of a view whose entity key the event does not carry: all its features are null."""

_RING = WIDTHS[SECTION_RINGS]
_SPAN = WIDTHS[SECTION_SPANS]
_OUTPUT = WIDTHS[SECTION_OUTPUTS]
_LAST = WIDTHS[SECTION_LASTS]
_DISTINCT = WIDTHS[SECTION_DISTINCTS]
_DISTINCT_OUTPUT = WIDTHS[SECTION_DISTINCT_OUTPUTS]
_VIEW = WIDTHS[SECTION_VIEWS]
_REQUEST = WIDTHS[SECTION_REQUEST]
_RATIO = WIDTHS[SECTION_RATIOS]

_LIMB_BITS = 40
_LIMB_MASK = (1 << _LIMB_BITS) - 1
_COUNT_MASK = (1 << 32) - 1
_ONE_FRAUD = 1 << 32
_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000
_NO_TIME = -(1 << 62)


@inner_kernel
def _product(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """128 bits of ``a * b`` as (high, low), by halves of 32 bits."""
    u32 = np.uint64(32)
    mask32 = np.uint64(0xFFFFFFFF)
    a0, a1 = a & mask32, a >> u32
    b0, b1 = b & mask32, b >> u32
    p00, p01, p10, p11 = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    middle = (p00 >> u32) + (p01 & mask32) + (p10 & mask32)
    low = (p00 & mask32) | (middle << u32)
    return p11 + (p01 >> u32) + (p10 >> u32) + (middle >> u32), low


@inner_kernel
def _standard_deviation(count: int, total: int, high: int, low: int) -> float:
    """Sample standard deviation, ``sqrt(V / (n * (n - 1)))`` with ``V = n * squares - total^2``.

    V is an exact, non-negative integer below 2^128, rounded once to the nearest double; the
    squares come in two limbs, ``high * 2^40 + low``.
    """
    n = np.uint64(count)
    size = np.uint64(abs(total))
    high_u = np.uint64(high)
    squares_low = (high_u << np.uint64(40)) + np.uint64(low)
    squares_high = high_u >> np.uint64(24)
    if squares_low < np.uint64(low):
        squares_high += np.uint64(1)
    v_high, v_low = _product(squares_low, n)
    v_high += squares_high * n
    total_high, total_low = _product(size, size)
    if v_low < total_low:
        v_high -= np.uint64(1)
    v_low -= total_low
    v_high -= total_high
    # To the nearest double: 64 leading bits with a sticky last bit, then one rounding.
    shift = 0
    while v_high != np.uint64(0):
        sticky = v_low & np.uint64(1)
        v_low = (v_low >> np.uint64(1)) | (v_high << np.uint64(63)) | sticky
        v_high = v_high >> np.uint64(1)
        shift += 1
    deviations = np.float64(v_low) * 2.0**shift
    return float(np.sqrt(deviations / (np.float64(count) * np.float64(count - 1))))


@inner_kernel
def write_span(
    code: Words,
    s: int,
    packed: int,
    total: int,
    low: int,
    high: int,
    smallest: int,
    largest: int,
    out: Vectors,
    row: int,
) -> None:
    """Write the features of one window.

    Args:
        code: The compiled program.
        s: Where the window's row of the program begins.
        packed, total, low, high, smallest, largest: Fields of its tiles taken together.
        out, row: float32 (n_rows, n_features), of which one row is written in place.
    """
    outputs = code[2 * SECTION_OUTPUTS]
    count = packed & _COUNT_MASK
    frauds = packed >> 32
    for o in range(outputs + code[s + 4] * _OUTPUT, outputs + code[s + 5] * _OUTPUT, _OUTPUT):
        kind = code[o]
        at = code[o + 1]
        if kind == OUT_COUNT:
            out[row, at] = count
        elif kind == OUT_SUM:
            out[row, at] = np.float64(total)
        elif kind == OUT_FRAUD_COUNT:
            out[row, at] = frauds
        elif count == 0:
            out[row, at] = np.nan
        elif kind == OUT_MEAN:
            out[row, at] = np.float64(total) / np.float64(count)
        elif kind == OUT_MIN:
            out[row, at] = smallest
        elif kind == OUT_MAX:
            out[row, at] = largest
        elif kind == OUT_FRAUD_RATE:
            out[row, at] = np.float64(frauds) / np.float64(count)
        elif kind == OUT_STD:
            if count < 2:
                out[row, at] = np.nan
            else:
                out[row, at] = _standard_deviation(
                    count, total, high + (low >> _LIMB_BITS), low & _LIMB_MASK
                )


@inner_kernel
def read_rest(
    arena: Words, code: Words, v: int, offset: int, written: bool, now: int, out: Vectors, row: int
) -> None:
    """Write the features of one view's record that no ring holds: last times, distinct counts."""
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * _LAST, lasts + code[v + 6] * _LAST, _LAST):
        last_time = arena[offset + code[r]] if written else 0
        # Stored times are shifted by one so that an untouched word (0) means "never".
        if last_time == 0 or (last_time - 1) // code[r + 3] < (now - code[r + 2]) // code[r + 3]:
            out[row, code[r + 4]] = np.nan
        else:
            out[row, code[r + 4]] = np.float64(now - (last_time - 1)) / 1e6
    distincts = code[2 * SECTION_DISTINCTS]
    places = code[2 * SECTION_DISTINCT_OUTPUTS]
    for d in range(
        distincts + code[v + 7] * _DISTINCT, distincts + code[v + 8] * _DISTINCT, _DISTINCT
    ):
        base = offset + code[d]
        capacity = code[d + 1]
        for o in range(
            places + code[d + 3] * _DISTINCT_OUTPUT,
            places + code[d + 4] * _DISTINCT_OUTPUT,
            _DISTINCT_OUTPUT,
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
    v = code[2 * SECTION_VIEWS] + view * _VIEW
    if offset < 0:
        for i in range(code[v + 9], code[v + 10]):
            out[row, i] = np.nan
        return
    rings = code[2 * SECTION_RINGS]
    spans = code[2 * SECTION_SPANS]
    written = arena[offset] != 0
    newest = arena[offset + 2] if written else _NO_TIME
    now = max(time, newest)
    for s in range(spans + code[v + 3] * _SPAN, spans + code[v + 4] * _SPAN, _SPAN):
        ring = rings + code[s] * _RING
        base = offset + code[ring]
        hop = code[ring + 1]
        tiles = code[ring + 2]
        width = code[ring + 3]
        fields = code[s + 3]
        last = (now - code[s + 2]) // hop
        first = (now - code[s + 2] - code[s + 1]) // hop
        packed = 0
        total = 0
        low = 0
        high = 0
        smallest = 0
        largest = 0
        if written:
            newest_tile = newest // hop
            last = min(last, newest_tile)
            first = max(first, newest_tile - tiles + 1)
            place = first % tiles
            if fields & (FIELD_SQUARES | FIELD_RANGE) == 0:
                # Counts and sums: the common case, kept free of branches. The word after the
                # count is only added where the span asks for sums.
                word = base + place * width
                end = base + tiles * width
                if fields & FIELD_SUM:
                    for _ in range(first, last + 1):
                        packed += arena[word]
                        total += arena[word + 1]
                        word += width
                        if word == end:
                            word = base
                else:
                    for _ in range(first, last + 1):
                        packed += arena[word]
                        word += width
                        if word == end:
                            word = base
            else:
                ring_fields = code[ring + 5]
                squares_at = 1 + (ring_fields & FIELD_SUM)
                range_at = squares_at + (2 if ring_fields & FIELD_SQUARES else 0)
                for _ in range(first, last + 1):
                    word = base + place * width
                    cell = arena[word]
                    if cell & _COUNT_MASK:
                        if fields & FIELD_SUM:
                            total += arena[word + 1]
                        if fields & FIELD_SQUARES:
                            low += arena[word + squares_at]
                            high += arena[word + squares_at + 1]
                        if fields & FIELD_RANGE:
                            if packed & _COUNT_MASK == 0:
                                smallest = arena[word + range_at]
                                largest = arena[word + range_at + 1]
                            else:
                                smallest = min(smallest, arena[word + range_at])
                                largest = max(largest, arena[word + range_at + 1])
                        packed += cell
                    place += 1
                    if place == tiles:
                        place = 0
        write_span(code, s, packed, total, low, high, smallest, largest, out, row)
    read_rest(arena, code, v, offset, written, now, out, row)


@inner_kernel
def advance(arena: Words, code: Words, v: int, offset: int, time: int) -> None:
    """Make ``time`` the newest event time: empty the tiles and entries that leave retention."""
    rings = code[2 * SECTION_RINGS]
    newest = arena[offset + 2]
    for ring in range(rings + code[v + 1] * _RING, rings + code[v + 2] * _RING, _RING):
        hop = code[ring + 1]
        tiles = code[ring + 2]
        width = code[ring + 3]
        base = offset + code[ring]
        old = newest // hop
        steps = min(time // hop - old, tiles)
        for i in range(steps):
            word = base + ((old + 1 + i) % tiles) * width
            for w in range(word, word + width):
                arena[w] = 0
    advance_rest(arena, code, v, offset, time)


@inner_kernel
def advance_rest(arena: Words, code: Words, v: int, offset: int, time: int) -> None:
    """The part of `advance` that no ring holds: last times, distinct values, the newest time."""
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * _LAST, lasts + code[v + 6] * _LAST, _LAST):
        word = offset + code[r]
        hop = code[r + 3]
        if arena[word] != 0 and (arena[word] - 1) // hop < (time - code[r + 2]) // hop:
            arena[word] = 0
    distincts = code[2 * SECTION_DISTINCTS]
    for d in range(
        distincts + code[v + 7] * _DISTINCT, distincts + code[v + 8] * _DISTINCT, _DISTINCT
    ):
        horizon = _distinct_horizon(code, d, time)
        base = offset + code[d]
        for i in range(code[d + 1] - 1, -1, -1):
            if arena[base + 2 * i + 1] == 0:
                continue
            if arena[base + 2 * i] >= horizon:
                break
            arena[base + 2 * i] = 0
            arena[base + 2 * i + 1] = 0
    arena[offset + 2] = time


@inner_kernel
def _distinct_horizon(code: Words, d: int, newest: int) -> int:
    """Earliest event time that any window over this distinct set still covers."""
    places = code[2 * SECTION_DISTINCT_OUTPUTS]
    horizon = newest
    for o in range(
        places + code[d + 3] * _DISTINCT_OUTPUT,
        places + code[d + 4] * _DISTINCT_OUTPUT,
        _DISTINCT_OUTPUT,
    ):
        hop = code[o + 1]
        horizon = min(horizon, (newest - code[o]) // hop * hop)
    return horizon


@inner_kernel
def _remember_distinct(arena: Words, base: int, capacity: int, value: int, time: int) -> None:
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


@inner_kernel
def _covered(code: Words, v: int, time: int, newest: int) -> bool:
    """Whether any window of the view, filters aside, reaches back to ``time`` from ``newest``.

    Windows only move forward: a time that none of them covers now is never covered again.
    """
    rings = code[2 * SECTION_RINGS]
    spans = code[2 * SECTION_SPANS]
    for s in range(spans + code[v + 3] * _SPAN, spans + code[v + 4] * _SPAN, _SPAN):
        hop = code[rings + code[s] * _RING + 1]
        if time // hop >= (newest - code[s + 2] - code[s + 1]) // hop:
            return True
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * _LAST, lasts + code[v + 6] * _LAST, _LAST):
        if time // code[r + 3] >= (newest - code[r + 2]) // code[r + 3]:
            return True
    distincts = code[2 * SECTION_DISTINCTS]
    for d in range(
        distincts + code[v + 7] * _DISTINCT, distincts + code[v + 8] * _DISTINCT, _DISTINCT
    ):
        if time >= _distinct_horizon(code, d, newest):
            return True
    return False


@inner_kernel
def add_to_tile(arena: Words, word: int, fields: int, amount: int) -> None:
    """Add a transaction to the tile that begins at a word."""
    first = arena[word] & _COUNT_MASK == 0
    arena[word] += 1
    word += 1
    if fields & FIELD_SUM:
        arena[word] += amount
        word += 1
    if fields & FIELD_SQUARES:
        size = abs(amount)
        upper = size >> 20
        lower = size & 0xFFFFF
        # size^2 in limbs of 40 bits, from halves of 20
        cross = 2 * upper * lower
        low = arena[word] + lower * lower + ((cross & 0xFFFFF) << 20)
        arena[word] = low & _LIMB_MASK
        arena[word + 1] += upper * upper + (cross >> 20) + (low >> _LIMB_BITS)
        word += 2
    if fields & FIELD_RANGE:
        if first:
            arena[word] = amount
            arena[word + 1] = amount
        else:
            arena[word] = min(arena[word], amount)
            arena[word + 1] = max(arena[word + 1], amount)


@inner_kernel
def add_rest(
    arena: Words, code: Words, v: int, offset: int, events: Words, i: int, hashes: int, flags: int
) -> int:
    """The part of `add_event` that no ring holds; returns FLAG_EXPIRED where it applies."""
    time = events[i, EVENT_TIME]
    filters = events[i, EVENT_FILTERS]
    newest = arena[offset + 2]
    lasts = code[2 * SECTION_LASTS]
    for r in range(lasts + code[v + 5] * _LAST, lasts + code[v + 6] * _LAST, _LAST):
        bit = code[r + 1]
        if bit >= 0 and (filters >> bit) & 1 == 0:
            continue
        hop = code[r + 3]
        if time // hop >= (newest - code[r + 2]) // hop:
            arena[offset + code[r]] = max(arena[offset + code[r]], time + 1)
    distincts = code[2 * SECTION_DISTINCTS]
    for d in range(
        distincts + code[v + 7] * _DISTINCT, distincts + code[v + 8] * _DISTINCT, _DISTINCT
    ):
        value = events[i, hashes + code[d + 2]]
        if value != 0 and time >= _distinct_horizon(code, d, newest):
            _remember_distinct(arena, offset + code[d], code[d + 1], value, time)
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
    v = code[2 * SECTION_VIEWS] + view * _VIEW
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
    newest = arena[offset + 2]
    rings = code[2 * SECTION_RINGS]
    for ring in range(rings + code[v + 1] * _RING, rings + code[v + 2] * _RING, _RING):
        hop = code[ring + 1]
        tiles = code[ring + 2]
        tile = time // hop
        if tile <= newest // hop - tiles:
            continue
        bit = code[ring + 4]
        if bit >= 0 and (filters >> bit) & 1 == 0:
            continue
        word = offset + code[ring] + (tile % tiles) * code[ring + 3]
        add_to_tile(arena, word, code[ring + 5], amount)
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
    v = code[2 * SECTION_VIEWS] + view * _VIEW
    arena[offset + 1] += 1
    newest = arena[offset + 2]
    rings = code[2 * SECTION_RINGS]
    for ring in range(rings + code[v + 1] * _RING, rings + code[v + 2] * _RING, _RING):
        hop = code[ring + 1]
        tiles = code[ring + 2]
        tile = time // hop
        bit = code[ring + 4]
        if tile <= newest // hop - tiles or (bit >= 0 and (filters >> bit) & 1 == 0):
            continue
        arena[offset + code[ring] + (tile % tiles) * code[ring + 3]] += change * _ONE_FRAUD


@inner_kernel
def finish(code: Words, events: Words, i: int, given: Vectors, out: Vectors, row: int) -> None:
    """Write request features and ratios, the part of a vector that needs no state.

    Args:
        code: The compiled program.
        events, i: int64 (n_events, event_width), of which one is finished.
        given: float32 (n_events, n_given), category codes and numbers of the request.
        out, row: float32 (n_rows, n_features), of which one row has its aggregates already.
    """
    queried = events[i, EVENT_KIND] == KIND_READ
    time = events[i, EVENT_TIME]
    start = code[2 * SECTION_REQUEST]
    for r in range(start, start + code[2 * SECTION_REQUEST + 1] * _REQUEST, _REQUEST):
        kind = code[r]
        at = code[r + 1]
        if queried:
            out[row, at] = np.nan
        elif kind == REQUEST_AMOUNT:
            out[row, at] = events[i, EVENT_AMOUNT]
        elif kind == REQUEST_HOUR:
            out[row, at] = np.float64(time % _DAY_US) / np.float64(_HOUR_US)
        elif kind == REQUEST_WEEKDAY:
            # 1970-01-01 was a Thursday, day 3 of a week that starts on Monday.
            out[row, at] = (time // _DAY_US + 3) % 7
        else:
            out[row, at] = given[i, code[r + 2]]
    start = code[2 * SECTION_RATIOS]
    for r in range(start, start + code[2 * SECTION_RATIOS + 1] * _RATIO, _RATIO):
        below = np.float64(out[row, code[r + 1]])
        above = np.float64(np.nan)
        if code[r] >= 0:
            above = np.float64(out[row, code[r]])
        elif not queried:
            above = np.float64(events[i, EVENT_AMOUNT])
        if below == 0.0 or np.isnan(below) or np.isnan(above):
            out[row, code[r + 2]] = np.nan
        else:
            out[row, code[r + 2]] = above / below


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
