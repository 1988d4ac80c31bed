"""Entity keys of an Arrow column to the records they have, without a Python object for each row.

A table of its own per view, beside the arena's dictionary: open addressing by a 64-bit hash, then
the key's bytes decide. It holds what the dictionary holds, and is brought up to date before it is
asked, so whoever adds keys elsewhere needs to know nothing of it.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.features.jit import inner_kernel, kernel, load64, prefetch
from sentinel.features.kernel.words import Words

Bytes = npt.NDArray[np.uint8]
Ends = npt.NDArray[np.int32]

_UNKNOWN: Final = -2

# A slot: the key's hash (0: free), what it is mapped to, where its bytes begin, and how many.
_HASH = 0
_PLACE = 1
_BEGIN = 2
_LENGTH = 3
_SLOT: Final = 4
_FIRST_SLOTS: Final = 1 << 10
_AT_ONCE: Final = 1 << 18

# How many rows ahead memory is asked for: the slot of a key, then the bytes it says.
_SOON = 16
_NEXT = 8


@inner_kernel
def _hash_of(data: Bytes, begin: int, end: int, seed: np.uint64) -> int:
    """A hash of bytes that is never 0."""
    h = seed ^ np.uint64(end - begin)
    at = begin
    while at + 8 <= end:
        h = (h ^ np.uint64(load64(data, at))) * np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(32)
        at += 8
    word = np.uint64(0)
    while at < end:
        word = (word << np.uint64(8)) | np.uint64(data[at])
        at += 1
    h = (h ^ word) * np.uint64(0xFF51AFD7ED558CCD)
    h ^= h >> np.uint64(33)
    h *= np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(29)
    return np.int64(h | np.uint64(1))  # type: ignore[return-value]


@inner_kernel
def _same(one: Bytes, at: int, other: Bytes, begin: int, length: int) -> bool:
    i = 0
    while i + 8 <= length:
        if load64(one, at + i) != load64(other, begin + i):
            return False
        i += 8
    while i < length:
        if one[at + i] != other[begin + i]:
            return False
        i += 1
    return True


@inner_kernel
def _slot_of(slots: Words, stored: Bytes, h: int, data: Bytes, begin: int, length: int) -> int:
    """The slot that holds a key, or the free one where it would go."""
    mask = len(slots) - 1
    slot = (h >> 1) & mask
    while slots[slot, _HASH] != 0:
        if (
            slots[slot, _HASH] == h
            and slots[slot, _LENGTH] == length
            and _same(stored, slots[slot, _BEGIN], data, begin, length)
        ):
            break
        slot = (slot + 1) & mask
    return slot


@kernel
def _find(
    slots: Words, stored: Bytes, seed: np.uint64, ends: Ends, data: Bytes, found: Words
) -> int:
    """What keys are mapped to, _UNKNOWN where they are not; how many are not.

    Args:
        slots: int64 (a power of two, _SLOT).
        stored: The bytes of the table's keys.
        seed: Of the hash.
        ends: int32 (n + 1,), key i is ``data[ends[i] : ends[i + 1]]``.
        data: The keys' bytes.
        found: int64 (n,), written.
    """
    n = len(found)
    mask = len(slots) - 1
    unknown = 0
    for i in range(n):
        found[i] = _hash_of(data, ends[i], ends[i + 1], seed)
    for i in range(n):
        if i + _SOON < n:
            prefetch(slots, (found[i + _SOON] >> 1) & mask, 0)
        if i + _NEXT < n:
            ahead = (found[i + _NEXT] >> 1) & mask
            if slots[ahead, _HASH] == found[i + _NEXT]:
                prefetch(stored, slots[ahead, _BEGIN], 0)
        slot = _slot_of(slots, stored, found[i], data, ends[i], ends[i + 1] - ends[i])
        if slots[slot, _HASH] == 0:
            found[i] = _UNKNOWN
            unknown += 1
        else:
            found[i] = slots[slot, _PLACE]
    return unknown


@kernel
def _add(
    slots: Words,
    stored: Bytes,
    used: Words,
    seed: np.uint64,
    ends: Ends,
    data: Bytes,
    found: Words,
    i: int,
    places: Words,
    fresh: Words,
) -> int:
    """Map the keys that are _UNKNOWN in ``found``, from row ``i`` on, to places.

    Args:
        slots, stored, seed, ends, data, found: As in `_find`.
        used: int64 (3,), keys in the table, bytes of them, and places that were taken; changed.
        i: Row to begin with.
        places: What the first, second, ... key that is not in the table is mapped to.
        fresh: int64, as long as ``places``; the row that took each is written.

    Returns:
        The row for which there is no room, or the number of rows.
    """
    while i < len(found):
        if found[i] == _UNKNOWN:
            begin = ends[i]
            length = ends[i + 1] - begin
            if 2 * (used[0] + 1) > len(slots) or used[1] + length > len(stored):
                break
            h = _hash_of(data, begin, ends[i + 1], seed)
            slot = _slot_of(slots, stored, h, data, begin, length)
            if slots[slot, _HASH] == 0:
                slots[slot, _HASH] = h
                slots[slot, _PLACE] = places[used[2]]
                slots[slot, _BEGIN] = used[1]
                slots[slot, _LENGTH] = length
                for k in range(length):
                    stored[used[1] + k] = data[begin + k]
                fresh[used[2]] = i
                used[0] += 1
                used[1] += length
                used[2] += 1
            found[i] = slots[slot, _PLACE]
        i += 1
    return i


@kernel
def _spread(slots: Words, wider: Words) -> None:
    """Put a table's slots into one with more of them."""
    mask = len(wider) - 1
    for i in range(len(slots)):
        if slots[i, _HASH] != 0:
            slot = (slots[i, _HASH] >> 1) & mask
            while wider[slot, _HASH] != 0:
                slot = (slot + 1) & mask
            wider[slot] = slots[i]


class KeyTable:
    """Where each key's record begins, for columns of keys."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._slots: Words = np.zeros((_FIRST_SLOTS, _SLOT), dtype=np.int64)
        self._stored: Bytes = np.zeros(16 * _FIRST_SLOTS, dtype=np.uint8)
        self._used: Words = np.zeros(3, dtype=np.int64)
        self._seed = np.uint64(int.from_bytes(os.urandom(8), "little"))

    def locate(self, known: dict[str, int], column: pa.Array, start: int, size: int) -> Words:
        """What keys are mapped to. New ones go to ``start`` and every ``size`` behind it.

        Args:
            known: All keys and what they are mapped to, in the order in which they came; new ones
                are added.
            column: Strings, none of them null.
            start, size: Where the first new key goes, and the distance to the next one.

        Returns:
            int64 (n,).
        """
        if len(known) - int(self._used[0]) > len(column):
            # Not worth all that would have to be taken over; the dictionary has it.
            return _by_name(known, column, start, size)
        self._catch_up(known)
        ends, data = _parts(column)
        found = np.empty(len(column), dtype=np.int64)
        unknown = _find(self._slots, self._stored, self._seed, ends, data, found)
        if unknown:
            places = start + size * np.arange(unknown, dtype=np.int64)
            fresh = self._add(ends, data, found, places)
            brought = column.take(pa.array(fresh)).to_numpy(zero_copy_only=False)
            known.update(zip(brought.tolist(), places[: len(fresh)].tolist(), strict=True))
        return found

    def _catch_up(self, known: dict[str, int]) -> None:
        """Take over what was added to the dictionary since, a piece at a time."""
        if self._used[0] > len(known):  # it was interrupted between the table and the dictionary
            self._clear()
        while (held := int(self._used[0])) < len(known):
            names = list(islice(known, held, held + _AT_ONCE))
            places = np.fromiter(
                islice(known.values(), held, held + _AT_ONCE), dtype=np.int64, count=len(names)
            )
            rows = np.full(len(names), _UNKNOWN, dtype=np.int64)
            self._add(*_parts(pa.array(names, pa.string())), rows, places)

    def _add(self, ends: Ends, data: Bytes, found: Words, places: Words) -> Words:
        """`_add` with as much room as it takes; the rows that brought new keys."""
        fresh = np.empty(len(places), dtype=np.int64)
        self._used[2] = 0
        row = 0
        while True:
            row = _add(
                self._slots, self._stored, self._used, self._seed,
                ends, data, found, row, places, fresh,
            )  # fmt: skip
            if row == len(found):
                return fresh[: self._used[2]]
            self._make_room(int(ends[row + 1] - ends[row]))

    def _make_room(self, length: int) -> None:
        """Room for one more key of so many bytes, and then some."""
        if 2 * (self._used[0] + 1) > len(self._slots):
            wider = np.zeros((2 * len(self._slots), _SLOT), dtype=np.int64)
            _spread(self._slots, wider)
            self._slots = wider
        if self._used[1] + length > len(self._stored):
            longer = np.zeros(2 * len(self._stored) + length, dtype=np.uint8)
            longer[: self._used[1]] = self._stored[: self._used[1]]
            self._stored = longer


def _by_name(known: dict[str, int], column: pa.Array, start: int, size: int) -> Words:
    """What `KeyTable.locate` gives, by Python strings."""
    names = column.to_pylist()
    found = np.empty(len(names), dtype=np.int64)
    for row, name in enumerate(names):
        place = known.setdefault(name, start)
        start += size if place == start else 0
        found[row] = place
    return found


def _parts(column: pa.Array) -> tuple[Ends, Bytes]:
    """Where the strings of a column begin and end, and their bytes."""
    column = column.cast(pa.string())
    _, ends, data = column.buffers()
    first, count = column.offset, len(column) + 1
    if len(column) == 0 or ends is None:
        limits = np.zeros(count, dtype=np.int32)
    else:
        limits = np.frombuffer(ends, dtype=np.int32)[first : first + count]
    held = np.frombuffer(data if data is not None else b"", dtype=np.uint8)
    for part in (limits, held):  # whoever made them: kernels are compiled for one kind
        part.flags.writeable = False
    return limits, held
