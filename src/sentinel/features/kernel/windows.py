"""Windows that are carried from one event of an entity to its next.

Of each ring only the tiles that hold something are kept, oldest first, in a queue: few where an
entity is quiet. A window is a stretch of its ring's queue and the fields of that stretch taken
together. As time moves on, tiles enter the stretch at its end and leave it at its start. A record
is only read when an entity's turn begins, and written when it ends.

All of it lives in one int64 array, the table:

    rings    _RING_STATE words for each ring of the view
    windows  _WINDOW_STATE words for each window, ring by ring
    queues   _CELL words for each tile; room for twice as many tiles as a ring has
    loads    _LOAD words for each tile that a ring of the record held when it was read

Places in queues are word numbers of the table.
"""

from __future__ import annotations

import numpy as np

from sentinel.features.jit import inner_kernel, kernel
from sentinel.features.kernel.rings import add_to_tile, write_window
from sentinel.features.kernel.words import (
    COUNT_MASK,
    NO_TIME,
    RING_WIDTH,
    VIEW_WIDTH,
    WINDOW_WIDTH,
    Vectors,
    Words,
)
from sentinel.features.plan.functions import FIELD_RANGE, FIELD_SQUARES, FIELD_SUM
from sentinel.features.plan.program import (
    EVENT_AMOUNT,
    EVENT_FILTERS,
    SECTION_RINGS,
    SECTION_VIEWS,
    SECTION_WINDOWS,
)

_ALL_FIELDS = FIELD_SUM | FIELD_SQUARES | FIELD_RANGE

# A ring: its newest tile; the time up to which no window of it moves; the queue's first word, the
# word behind its last tile, and that behind its room; the first tile that the record does not hold
# as it is; the loads' first word and the word behind them; the word behind the ring's last window.
_NEWEST = 0
_STILL_UNTIL = 1
_QUEUE = 2
_END = 3
_ROOM = 4
_CHANGED = 5
_LOADS = 6
_LOADED = 7
_WINDOWS_END = 8
_RING_STATE = 9

# A window: the tiles it covers, its stretch of the queue, the fields of that taken together, and
# whether the window's ends lie a whole number of tiles from the newest one (then both, else -1).
_FIRST = 0
_LATEST = 1
_HEAD = 2
_TAIL = 3
_FIELDS = 4
_TO_LATEST = 10
_TO_FIRST = 11
_WINDOW_STATE = 12

# A tile in a queue: its number, and then, as the fields of a window: the packed counts, sum,
# squares in two limbs, minimum and maximum.
_PACKED = 0
_TOTAL = 1
_LOW = 2
_HIGH = 3
_SMALLEST = 4
_LARGEST = 5
_CELL = 8

# A load: the number of a tile that a ring of the record held, and its first word in the record.
_LOAD = 2


@kernel
def make_table(code: Words, view: int) -> Words:
    """The table of a view, of no entity yet."""
    v = code[2 * SECTION_VIEWS] + view * VIEW_WIDTH
    rings = code[2 * SECTION_RINGS]
    windows = code[2 * SECTION_WINDOWS]
    n_rings = code[v + 2] - code[v + 1]
    n_windows = code[v + 4] - code[v + 3]
    words = n_rings * _RING_STATE + n_windows * _WINDOW_STATE
    size = words
    for r in range(code[v + 1], code[v + 2]):
        tiles = code[rings + r * RING_WIDTH + 2]
        size += (2 * tiles + 2) * _CELL + _LOAD * (tiles + 1)
    table = np.zeros(size, dtype=np.int64)
    window = n_rings * _RING_STATE
    i = code[v + 3]
    for r in range(n_rings):
        ring, at = rings + (code[v + 1] + r) * RING_WIDTH, r * _RING_STATE
        hop, tiles = code[ring + 1], code[ring + 2]
        table[at + _QUEUE] = words
        words += (2 * tiles + 2) * _CELL
        table[at + _ROOM] = words
        table[at + _LOADS] = words
        words += _LOAD * (tiles + 1)
        # Windows are laid out ring by ring.
        while i < code[v + 4] and code[windows + i * WINDOW_WIDTH] == code[v + 1] + r:
            s = windows + i * WINDOW_WIDTH
            length, shift = code[s + 1], code[s + 2]
            whole = shift % hop == 0 and (shift + length) % hop == 0
            table[window + _TO_LATEST] = shift // hop if whole else -1
            table[window + _TO_FIRST] = (shift + length) // hop if whole else -1
            window += _WINDOW_STATE
            i += 1
        table[at + _WINDOWS_END] = window
    return table


@inner_kernel
def begin(arena: Words, code: Words, v: int, offset: int, fresh: bool, table: Words) -> None:
    """Read a record's tiles; `move` must follow before windows are looked at.

    Args:
        arena: int64 state words.
        code: The compiled program.
        v: Where the view's row of the program begins.
        offset: First word of the record.
        fresh: Whether the record was never written.
        table: The view's table.
    """
    n_rings = code[v + 2] - code[v + 1]
    ring = code[2 * SECTION_RINGS] + code[v + 1] * RING_WIDTH
    window = n_rings * _RING_STATE
    for at in range(0, n_rings * _RING_STATE, _RING_STATE):
        tiles, width, fields = code[ring + 2], code[ring + 3], code[ring + 5]
        queue = table[at + _QUEUE]
        cell = queue
        load = table[at + _LOADS]
        if fresh:
            table[at + _NEWEST] = NO_TIME
        else:
            newest = arena[offset + 2] // code[ring + 1]
            table[at + _NEWEST] = newest
            load = _occupied(arena, offset, code[ring], newest, tiles, width, table, load)
            for noted in range(table[at + _LOADS], load, _LOAD):
                table[cell] = table[noted]
                _copy_in(arena, offset + table[noted + 1], fields, table, cell + 1)
                cell += _CELL
        table[at + _END] = cell
        table[at + _CHANGED] = max(queue, cell - _CELL)
        table[at + _LOADED] = load
        table[at + _STILL_UNTIL] = NO_TIME
        while window < table[at + _WINDOWS_END]:
            table[window + _FIRST] = NO_TIME
            table[window + _LATEST] = NO_TIME
            table[window + _HEAD] = queue
            table[window + _TAIL] = queue
            for field in range(window + _FIELDS, window + _FIELDS + _LARGEST + 1):
                table[field] = 0
            window += _WINDOW_STATE
        ring += RING_WIDTH


@inner_kernel
def _occupied(
    arena: Words,
    offset: int,
    ring: int,
    newest: int,
    tiles: int,
    width: int,
    table: Words,
    load: int,
) -> int:
    """Note the tiles of a record's ring that hold something, oldest first.

    Most don't, and which do is anyone's guess: every tile is noted, and the next one noted over it
    if it was empty.

    Returns:
        The word of the table behind the last load.
    """
    tile = newest - tiles
    split = ring + (newest + 1) % tiles * width
    # The ring's words in order of time: from its oldest tile to its end, then the rest.
    for word in range(split, ring + tiles * width, width):
        tile += 1
        table[load] = tile
        table[load + 1] = word
        load += _LOAD if arena[offset + word] & COUNT_MASK else 0
    for word in range(ring, split, width):
        tile += 1
        table[load] = tile
        table[load + 1] = word
        load += _LOAD if arena[offset + word] & COUNT_MASK else 0
    return load


@inner_kernel
def _copy_in(arena: Words, word: int, fields: int, table: Words, cell: int) -> None:
    """A tile of a record into a queue, its absent fields as zeros."""
    for field in range(cell + _TOTAL, cell + _LARGEST + 1):
        table[field] = 0
    table[cell + _PACKED] = arena[word]
    word += 1
    if fields & FIELD_SUM:
        table[cell + _TOTAL] = arena[word]
        word += 1
    if fields & FIELD_SQUARES:
        table[cell + _LOW] = arena[word]
        table[cell + _HIGH] = arena[word + 1]
        word += 2
    if fields & FIELD_RANGE:
        table[cell + _SMALLEST] = arena[word]
        table[cell + _LARGEST] = arena[word + 1]


@inner_kernel
def end(arena: Words, code: Words, v: int, offset: int, table: Words) -> None:
    """Write what changed of a record's rings. The entity's turn is over: `begin` comes next."""
    ring = code[2 * SECTION_RINGS] + code[v + 1] * RING_WIDTH
    n_rings = code[v + 2] - code[v + 1]
    for at in range(0, n_rings * _RING_STATE, _RING_STATE):
        tiles, width, fields = code[ring + 2], code[ring + 3], code[ring + 5]
        base = offset + code[ring]
        newest = table[at + _NEWEST]
        oldest = newest - tiles + 1
        for load in range(table[at + _LOADS], table[at + _LOADED], _LOAD):
            if table[load] >= oldest:
                break
            word = offset + table[load + 1]
            for w in range(word, word + width):
                arena[w] = 0
        turn = newest - newest % tiles  # the tile that lies first in the ring
        cell = table[at + _CHANGED]
        while cell < table[at + _END] and table[cell] < oldest:
            cell += _CELL
        while cell < table[at + _END]:
            place = table[cell] - turn
            word = base + (place if place >= 0 else place + tiles) * width
            arena[word] = table[cell + 1 + _PACKED]
            word += 1
            if fields & FIELD_SUM:
                arena[word] = table[cell + 1 + _TOTAL]
                word += 1
            if fields & FIELD_SQUARES:
                arena[word] = table[cell + 1 + _LOW]
                arena[word + 1] = table[cell + 1 + _HIGH]
                word += 2
            if fields & FIELD_RANGE:
                arena[word] = table[cell + 1 + _SMALLEST]
                arena[word + 1] = table[cell + 1 + _LARGEST]
            cell += _CELL
        ring += RING_WIDTH


@inner_kernel
def move(code: Words, v: int, time: int, table: Words) -> None:
    """Bring all windows to a newest time, which never goes back."""
    ring = code[2 * SECTION_RINGS] + code[v + 1] * RING_WIDTH
    s = code[2 * SECTION_WINDOWS] + code[v + 3] * WINDOW_WIDTH
    n_rings = code[v + 2] - code[v + 1]
    window = n_rings * _RING_STATE
    for at in range(0, n_rings * _RING_STATE, _RING_STATE):
        windows_end = table[at + _WINDOWS_END]
        if time < table[at + _STILL_UNTIL]:
            s += (windows_end - window) // _WINDOW_STATE * WINDOW_WIDTH
            window = windows_end
            ring += RING_WIDTH
            continue
        hop = code[ring + 1]
        tile = time // hop
        table[at + _NEWEST] = tile
        still = tile * hop + hop
        queue_end = table[at + _END]
        while window < windows_end:
            if table[window + _TO_FIRST] >= 0:
                first = tile - table[window + _TO_FIRST]
                latest = tile - table[window + _TO_LATEST]
            else:
                latest = (time - code[s + 2]) // hop
                first = (time - code[s + 2] - code[s + 1]) // hop
                still = NO_TIME
            if first != table[window + _FIRST] or latest != table[window + _LATEST]:
                table[window + _FIRST] = first
                table[window + _LATEST] = latest
                _slide(table, window, first, latest, queue_end, code[s + 3])
            s += WINDOW_WIDTH
            window += _WINDOW_STATE
        table[at + _STILL_UNTIL] = still
        ring += RING_WIDTH


@inner_kernel
def _slide(table: Words, window: int, first: int, latest: int, queue_end: int, fields: int) -> None:
    """Let tiles before ``first`` leave a window, and those up to ``latest`` enter it."""
    into = window + _FIELDS
    head, tail = table[window + _HEAD], table[window + _TAIL]
    anew = False
    while head < tail and table[head] < first:
        cell = head + 1
        table[into + _PACKED] -= table[cell + _PACKED]
        table[into + _TOTAL] -= table[cell + _TOTAL]
        if fields & FIELD_SQUARES:
            table[into + _LOW] -= table[cell + _LOW]
            table[into + _HIGH] -= table[cell + _HIGH]
        if fields & FIELD_RANGE:
            anew |= table[cell + _SMALLEST] <= table[into + _SMALLEST]
            anew |= table[cell + _LARGEST] >= table[into + _LARGEST]
        head += _CELL
    while tail < queue_end and table[tail] < first:
        tail += _CELL
        head = tail
    if anew:
        _range_of(table, into, head, tail)
    while tail < queue_end and table[tail] <= latest:
        cell = tail + 1
        if fields & FIELD_RANGE:
            _widen(table, into, table[cell + _SMALLEST], table[cell + _LARGEST])
        table[into + _PACKED] += table[cell + _PACKED]
        table[into + _TOTAL] += table[cell + _TOTAL]
        if fields & FIELD_SQUARES:
            table[into + _LOW] += table[cell + _LOW]
            table[into + _HIGH] += table[cell + _HIGH]
        tail += _CELL
    table[window + _HEAD] = head
    table[window + _TAIL] = tail


@inner_kernel
def _range_of(table: Words, into: int, head: int, tail: int) -> None:
    """Minimum and maximum of a stretch."""
    if head == tail:
        return
    smallest, largest = table[head + 1 + _SMALLEST], table[head + 1 + _LARGEST]
    for cell in range(head + 1 + _CELL, tail, _CELL):
        smallest = min(smallest, table[cell + _SMALLEST])
        largest = max(largest, table[cell + _LARGEST])
    table[into + _SMALLEST] = smallest
    table[into + _LARGEST] = largest


@inner_kernel
def _widen(table: Words, into: int, smallest: int, largest: int) -> None:
    """Let the range of fields hold another one; it is that one where nothing was counted."""
    if table[into + _PACKED] & COUNT_MASK == 0:
        table[into + _SMALLEST] = smallest
        table[into + _LARGEST] = largest
    else:
        table[into + _SMALLEST] = min(table[into + _SMALLEST], smallest)
        table[into + _LARGEST] = max(table[into + _LARGEST], largest)


@inner_kernel
def add(code: Words, v: int, events: Words, i: int, table: Words) -> None:
    """Add an event that is not late to its tiles, and to the windows that cover it."""
    ring = code[2 * SECTION_RINGS] + code[v + 1] * RING_WIDTH
    n_rings = code[v + 2] - code[v + 1]
    window = n_rings * _RING_STATE
    amount = events[i, EVENT_AMOUNT]
    filters = events[i, EVENT_FILTERS]
    for at in range(0, n_rings * _RING_STATE, _RING_STATE):
        windows_end = table[at + _WINDOWS_END]
        bit, fields = code[ring + 4], code[ring + 5]
        ring += RING_WIDTH
        if bit >= 0 and (filters >> bit) & 1 == 0:
            window = windows_end
            continue
        tile = table[at + _NEWEST]
        cell = table[at + _END] - _CELL
        if cell < table[at + _QUEUE] or table[cell] != tile:
            if cell + 2 * _CELL > table[at + _ROOM]:
                _make_room(table, at, window, tile - code[ring - RING_WIDTH + 2] + 1)
                cell = table[at + _END] - _CELL
            cell += _CELL
            table[at + _END] = cell + _CELL
            table[cell] = tile
            for field in range(cell + 1, cell + 2 + _LARGEST):
                table[field] = 0
        low, high = table[cell + 1 + _LOW], table[cell + 1 + _HIGH]
        _add_to_cell(table, cell + 1, fields, amount)
        low, high = table[cell + 1 + _LOW] - low, table[cell + 1 + _HIGH] - high
        while window < windows_end:
            if tile <= table[window + _LATEST]:
                into = window + _FIELDS
                if fields & FIELD_RANGE:
                    _widen(table, into, amount, amount)
                table[into + _PACKED] += 1
                table[into + _TOTAL] += amount
                table[into + _LOW] += low
                table[into + _HIGH] += high
                table[window + _TAIL] = cell + _CELL
            window += _WINDOW_STATE


@inner_kernel
def _add_to_cell(table: Words, cell: int, fields: int, amount: int) -> None:
    """`add_to_tile` for the fields of a queue's tile, which are all there."""
    if fields & FIELD_SQUARES:
        add_to_tile(table, cell, _ALL_FIELDS, amount)
        return
    if fields & FIELD_RANGE:
        _widen(table, cell, amount, amount)
    table[cell + _PACKED] += 1
    table[cell + _TOTAL] += amount


@inner_kernel
def _make_room(table: Words, at: int, window: int, oldest: int) -> None:
    """Drop the tiles before ``oldest``, which no window reaches, from the queue of a ring."""
    queue, queue_end = table[at + _QUEUE], table[at + _END]
    kept = queue
    while kept < queue_end and table[kept] < oldest:
        kept += _CELL
    gone = kept - queue
    for word in range(kept, queue_end):
        table[word - gone] = table[word]
    table[at + _END] = queue_end - gone
    table[at + _CHANGED] = max(queue, table[at + _CHANGED] - gone)
    while window < table[at + _WINDOWS_END]:
        table[window + _HEAD] = max(queue, table[window + _HEAD] - gone)
        table[window + _TAIL] = max(queue, table[window + _TAIL] - gone)
        window += _WINDOW_STATE


@inner_kernel
def write_windows(code: Words, v: int, table: Words, out: Vectors, row: int) -> None:
    """Write the features of all windows of a view; `write_window` for each."""
    s = code[2 * SECTION_WINDOWS] + code[v + 3] * WINDOW_WIDTH
    first = (code[v + 2] - code[v + 1]) * _RING_STATE + _FIELDS
    n_windows = code[v + 4] - code[v + 3]
    for into in range(first, first + n_windows * _WINDOW_STATE, _WINDOW_STATE):
        write_window(
            code, s, table[into + _PACKED], table[into + _TOTAL], table[into + _LOW],
            table[into + _HIGH], table[into + _SMALLEST], table[into + _LARGEST], out, row,
        )  # fmt: skip
        s += WINDOW_WIDTH
