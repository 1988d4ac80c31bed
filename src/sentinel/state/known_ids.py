"""Which transaction ids the log holds: a compact set of their 64-bit hashes.

A miss is certain. A hit may be another id with the same hash (about one in 10^12 look-ups at ten
million ids), so a hit is confirmed in the ledger.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xxhash

from sentinel.features.jit import kernel

Hashes = npt.NDArray[np.int64]


def id_hash(identifier: str) -> int:
    """Signed, non-zero 64-bit hash of an id (XXH3, seed 0)."""
    value = xxhash.xxh3_64_intdigest(identifier.encode())
    return (value - (1 << 64) if value >= 1 << 63 else value) or 1


@kernel
def _insert(table: Hashes, hashes: Hashes, known: npt.NDArray[np.bool_]) -> int:
    """Put hashes into an open-addressing table; returns how many were new, marks the others."""
    mask = len(table) - 1
    new = 0
    for i in range(len(hashes)):
        value = hashes[i]
        place = value & mask
        while table[place] != 0 and table[place] != value:
            place = (place + 1) & mask
        known[i] = table[place] == value
        if table[place] == 0:
            table[place] = value
            new += 1
    return new


@kernel
def _contains(table: Hashes, value: int) -> bool:
    mask = len(table) - 1
    place = value & mask
    while table[place] != 0:
        if table[place] == value:
            return True
        place = (place + 1) & mask
    return False


class KnownIds:
    """A growing set of id hashes, half full at most. For any thread.

    >>> known = KnownIds()
    >>> known.add(["a", "b"]), known.add(["c", "a"])
    ([], [1])
    >>> known.holds(id_hash("a")), known.holds(id_hash("d")), len(known)
    (True, False, 3)
    """

    def __init__(self, capacity: int = 1 << 16) -> None:
        self._table: Hashes = np.zeros(capacity, dtype=np.int64)
        self._size = 0
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return self._size

    def add(self, identifiers: Iterable[str]) -> list[int]:
        """Add ids; the places of those (their hashes) that were known before."""
        return self.add_hashes(np.array([id_hash(i) for i in identifiers], dtype=np.int64))

    def add_hashes(self, hashes: Hashes) -> list[int]:
        """Add the hashes of ids, int64 (n,); the places of those that were known before."""
        with self._changing:
            return self._add(hashes)

    def _add(self, hashes: Hashes) -> list[int]:
        needed = 2 * (self._size + len(hashes))
        if needed > len(self._table):
            old = self.hashes()
            capacity = len(self._table)
            while capacity < needed:
                capacity *= 2
            self._table = np.zeros(capacity, dtype=np.int64)
            _insert(self._table, old, np.empty(len(old), dtype=np.bool_))
        known = np.empty(len(hashes), dtype=np.bool_)
        new = _insert(self._table, hashes, known)
        self._size += new
        return [] if new == len(hashes) else np.flatnonzero(known).tolist()

    def holds(self, value: int) -> bool:
        """Whether an id with this hash was added."""
        return _contains(self._table, value)

    def holds_id(self, identifier: str) -> bool:
        """Whether an id was added (or another one with its hash)."""
        return self.holds(id_hash(identifier))

    def hashes(self) -> Hashes:
        """All hashes, int64 (len(self),), in no particular order."""
        used: Hashes = self._table[self._table != 0]
        return used
