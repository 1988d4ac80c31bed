"""Ring buffers of tiles: counts, frauds, sums, spread and range of the payments in a window.

A record has one ring for each hop and filter of its view. The tile of a time is at its number
modulo the tiles of the ring; `sentinel.features.plan.program` says what a tile holds.
"""

from __future__ import annotations

import numpy as np

from sentinel.features.jit import inner_kernel
from sentinel.features.kernel.deviation import standard_deviation
from sentinel.features.kernel.words import (
    COUNT_MASK,
    LIMB_BITS,
    LIMB_MASK,
    ONE_FRAUD,
    OUTPUT_WIDTH,
    RING_WIDTH,
    WINDOW_WIDTH,
    Vectors,
    Words,
)
from sentinel.features.plan.functions import (
    FIELD_RANGE,
    FIELD_SQUARES,
    FIELD_SUM,
    OUT_COUNT,
    OUT_FRAUD_COUNT,
    OUT_FRAUD_RATE,
    OUT_MAX,
    OUT_MEAN,
    OUT_MIN,
    OUT_STD,
    OUT_SUM,
)
from sentinel.features.plan.program import SECTION_OUTPUTS, SECTION_RINGS, SECTION_WINDOWS


@inner_kernel
def read_rings(
    arena: Words,
    code: Words,
    v: int,
    offset: int,
    written: bool,
    newest: int,
    now: int,
    out: Vectors,
    row: int,
) -> None:
    """Write the features of one view's windows, tile by tile.

    Args:
        arena: int64 state words.
        code: The compiled program.
        v: Where the view's row of the program begins.
        offset: First word of the record.
        written: Whether the record holds anything.
        newest: Its newest event time.
        now: The time the windows end at, not before ``newest``.
        out, row: float32 (n_rows, n_features), of which one row is written in place.
    """
    rings = code[2 * SECTION_RINGS]
    windows = code[2 * SECTION_WINDOWS]
    for s in range(
        windows + code[v + 3] * WINDOW_WIDTH, windows + code[v + 4] * WINDOW_WIDTH, WINDOW_WIDTH
    ):
        ring = rings + code[s] * RING_WIDTH
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
                # count is only added where the window asks for sums.
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
                    if cell & COUNT_MASK:
                        if fields & FIELD_SUM:
                            total += arena[word + 1]
                        if fields & FIELD_SQUARES:
                            low += arena[word + squares_at]
                            high += arena[word + squares_at + 1]
                        if fields & FIELD_RANGE:
                            if packed & COUNT_MASK == 0:
                                smallest = arena[word + range_at]
                                largest = arena[word + range_at + 1]
                            else:
                                smallest = min(smallest, arena[word + range_at])
                                largest = max(largest, arena[word + range_at + 1])
                        packed += cell
                    place += 1
                    if place == tiles:
                        place = 0
        write_window(code, s, packed, total, low, high, smallest, largest, out, row)


@inner_kernel
def write_window(
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
    count = packed & COUNT_MASK
    frauds = packed >> 32
    for o in range(
        outputs + code[s + 4] * OUTPUT_WIDTH, outputs + code[s + 5] * OUTPUT_WIDTH, OUTPUT_WIDTH
    ):
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
                out[row, at] = standard_deviation(
                    count, total, high + (low >> LIMB_BITS), low & LIMB_MASK
                )


@inner_kernel
def advance_rings(arena: Words, code: Words, v: int, offset: int, time: int) -> None:
    """Empty the tiles that leave retention when ``time`` becomes the newest event time."""
    rings = code[2 * SECTION_RINGS]
    newest = arena[offset + 2]
    for ring in range(
        rings + code[v + 1] * RING_WIDTH, rings + code[v + 2] * RING_WIDTH, RING_WIDTH
    ):
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


@inner_kernel
def add_to_rings(
    arena: Words, code: Words, v: int, offset: int, time: int, amount: int, filters: int
) -> None:
    """Add a transaction to the tile of its time in every ring whose filter it satisfies."""
    newest = arena[offset + 2]
    rings = code[2 * SECTION_RINGS]
    for ring in range(
        rings + code[v + 1] * RING_WIDTH, rings + code[v + 2] * RING_WIDTH, RING_WIDTH
    ):
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


@inner_kernel
def add_to_tile(arena: Words, word: int, fields: int, amount: int) -> None:
    """Add a transaction to the tile that begins at a word."""
    first = arena[word] & COUNT_MASK == 0
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
        arena[word] = low & LIMB_MASK
        arena[word + 1] += upper * upper + (cross >> 20) + (low >> LIMB_BITS)
        word += 2
    if fields & FIELD_RANGE:
        if first:
            arena[word] = amount
            arena[word + 1] = amount
        else:
            arena[word] = min(arena[word], amount)
            arena[word + 1] = max(arena[word + 1], amount)


@inner_kernel
def change_frauds(
    arena: Words, code: Words, v: int, offset: int, time: int, filters: int, change: int
) -> None:
    """Add to the frauds of the tiles that hold a transaction, as far as they are retained."""
    newest = arena[offset + 2]
    rings = code[2 * SECTION_RINGS]
    for ring in range(
        rings + code[v + 1] * RING_WIDTH, rings + code[v + 2] * RING_WIDTH, RING_WIDTH
    ):
        hop = code[ring + 1]
        tiles = code[ring + 2]
        tile = time // hop
        bit = code[ring + 4]
        if tile <= newest // hop - tiles or (bit >= 0 and (filters >> bit) & 1 == 0):
            continue
        arena[offset + code[ring] + (tile % tiles) * code[ring + 3]] += change * ONE_FRAUD


@inner_kernel
def rings_cover(code: Words, v: int, time: int, newest: int) -> bool:
    """Whether any ring's window, filters aside, reaches back to ``time`` from ``newest``."""
    rings = code[2 * SECTION_RINGS]
    windows = code[2 * SECTION_WINDOWS]
    for s in range(
        windows + code[v + 3] * WINDOW_WIDTH, windows + code[v + 4] * WINDOW_WIDTH, WINDOW_WIDTH
    ):
        hop = code[rings + code[s] * RING_WIDTH + 1]
        if time // hop >= (newest - code[s + 2] - code[s + 1]) // hop:
            return True
    return False
