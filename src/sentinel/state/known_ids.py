"""Which transaction ids the log holds: a compact set of their 64-bit hashes.

A miss is certain. A hit may be another id with the same hash (about one in 10^12 look-ups at ten
million ids), so a hit is confirmed in the ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from sentinel.features.jit import kernel
from sentinel.state.old_ids import Hashes, OldIds, merged

log = logging.getLogger(__name__)

RECENT_IDS: Final = 1 << 22
"""Ids in memory, where older ones may go to disk: a table of 64 MB."""

_LEAST_CAPACITY: Final = 1 << 16
_MOST_SETS: Final = 8
_STAY: Final = "Ids of the log stay in memory: %s cannot be written (%s)."


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


@kernel
def _find(table: Hashes, hashes: Hashes, found: npt.NDArray[np.bool_]) -> None:
    """Mark hashes that are in a table, beside those that are marked already."""
    for i in range(len(hashes)):
        if not found[i]:
            found[i] = _contains(table, hashes[i])


class KnownIds:
    """A growing set of id hashes: recent ones in a table in memory, older ones on disk.

    The table is half full at most, so an id takes 16 to 32 bytes in it. Once it holds ``recent``
    ids, a thread sorts them into a file, and a new table begins; from then on an id takes 1 to 2
    bytes in memory and 8 on disk. Any thread may add and ask: where many score, the ids that others
    recorded come in beside the event loop.

    Args:
        folder: Where the files of older ids go; nobody sees them, and they go away with the
            process. None keeps all ids in memory.
        recent: Most ids of the table, as far as there is a folder.

    >>> known = KnownIds()
    >>> known.add(["a", "b"]), known.add(["c", "a"])
    ([], [1])
    >>> known.holds(id_hash("a")), known.holds(id_hash("d")), len(known)
    (True, False, 3)
    """

    def __init__(self, folder: Path | None = None, *, recent: int = RECENT_IDS) -> None:
        self._folder = folder
        self._adding = threading.Lock()
        self._recent = recent
        self._table: Hashes = np.zeros(_LEAST_CAPACITY, dtype=np.int64)
        self._size = 0
        self._old: tuple[OldIds, ...] = ()
        self._leaving: Hashes | None = None
        self._leaving_size = 0
        self._mover: threading.Thread | None = None

    def __len__(self) -> int:
        self.wait()
        return self._size + self._leaving_size + sum(map(len, self._old))

    @property
    def memory_bytes(self) -> int:
        """What the ids take in memory."""
        leaving = self._leaving
        tables = self._table.nbytes + (0 if leaving is None else leaving.nbytes)
        return tables + sum(old.memory_bytes for old in self._old)

    def load(self, hashes: Hashes) -> None:
        """Take in the hashes of ids of which none is known, int64 (n,): of a snapshot."""
        if self._folder is None or len(hashes) <= self._recent:
            self.add_hashes(hashes)
            return
        rising = np.sort(hashes)
        try:
            old = OldIds.on_disk(iter([rising]), self._folder)
        except OSError as error:
            log.warning(_STAY, self._folder, error)
            old = OldIds(rising)
        self._old = (*self._old, old)

    def add(self, identifiers: Iterable[str]) -> list[int]:
        """Add ids; the places of those (their hashes) that were known before."""
        return self.add_hashes(np.array([id_hash(i) for i in identifiers], dtype=np.int64))

    def add_hashes(self, hashes: Hashes) -> list[int]:
        """Add the hashes of ids, int64 (n,); the places of those that were known before."""
        with self._adding:
            return self._added(hashes)

    def _added(self, hashes: Hashes) -> list[int]:
        if self._folder is not None and self._size + len(hashes) > self._recent and self._size:
            self._make_room(self._folder)
        older = self._known_of_old(hashes)
        places = None if older is None else np.flatnonzero(~older)
        fresh = hashes if places is None else hashes[places]
        self._grow(len(fresh))
        known = np.empty(len(fresh), dtype=np.bool_)
        new = _insert(self._table, fresh, known)
        self._size += new
        if older is not None:
            older[places] = known
            return np.flatnonzero(older).tolist()
        return [] if new == len(fresh) else np.flatnonzero(known).tolist()

    def holds(self, value: int) -> bool:
        """Whether an id with this hash was added."""
        if _contains(self._table, value):
            return True
        older = self._known_of_old(np.array([value], dtype=np.int64))
        return older is not None and bool(older[0])

    def holds_id(self, identifier: str) -> bool:
        """Whether an id was added (or another one with its hash)."""
        return self.holds(id_hash(identifier))

    def which(self, identifiers: Iterable[str]) -> npt.NDArray[np.bool_]:
        """`holds_id` of many, bool (n,)."""
        hashes = np.array([id_hash(i) for i in identifiers], dtype=np.int64)
        found = np.zeros(len(hashes), dtype=np.bool_)
        # The table comes first: what leaves it is among the old ids by then.
        _find(self._table, hashes, found)
        older = self._known_of_old(hashes)
        return found if older is None else found | older

    def hashes(self) -> list[Hashes]:
        """All hashes in a few int64 arrays, in no particular order; older ones are on disk."""
        self.wait()
        # In a copy of the process nobody moves what was on its way.
        tables = [self._table, *([] if self._leaving is None else [self._leaving])]
        used: list[Hashes] = [table[table != 0] for table in tables]
        return [*used, *(old.hashes for old in self._old)]

    def wait(self) -> None:
        """Until no ids are on their way to disk."""
        mover = self._mover
        if mover is not None:
            mover.join()

    def _grow(self, more: int) -> None:
        needed = 2 * (self._size + more)
        if needed > len(self._table):
            old: Hashes = self._table[self._table != 0]
            capacity = len(self._table)
            while capacity < needed:
                capacity *= 2
            table: Hashes = np.zeros(capacity, dtype=np.int64)
            _insert(table, old, np.empty(len(old), dtype=np.bool_))
            self._table = table

    def _known_of_old(self, hashes: Hashes) -> npt.NDArray[np.bool_] | None:
        """Which hashes are no longer in the table, bool (n,); None if none of them is."""
        # In this order: what leaves is in the sets of old ids before it has left.
        leaving, old = self._leaving, self._old
        if leaving is None and not old:
            return None
        found = np.zeros(len(hashes), dtype=np.bool_)
        if leaving is not None:
            _find(leaving, hashes, found)
        for ids in old:
            there = ids.known(hashes)
            if there is not None:
                found |= there
        return found if found.any() else None

    def _make_room(self, folder: Path) -> None:
        """Begin a new table, and move the ids of the full one to disk.

        If the ones before could not be moved, they are tried again, and the table grows meanwhile.
        """
        self.wait()  # the one before takes a second; it was filled in much more, as a rule
        if self._leaving is None:
            self._leaving, self._leaving_size = self._table, self._size
            self._table = np.zeros(_LEAST_CAPACITY, dtype=np.int64)
            self._size = 0
        self._mover = threading.Thread(
            target=self._move, args=(folder,), name="known-ids", daemon=True
        )
        self._mover.start()

    def _move(self, folder: Path) -> None:
        try:
            self._move_leaving(folder)
        except Exception:
            log.exception("Ids of the log could not be moved; they stay in memory for now.")

    def _move_leaving(self, folder: Path) -> None:
        assert self._leaving is not None
        hashes: Hashes = self._leaving[self._leaving != 0]
        hashes.sort()
        old = (*self._old, OldIds(hashes))
        try:
            if len(old) > _MOST_SETS:
                old = (OldIds.on_disk(merged(old), folder),)
            else:
                old = (*old[:-1], OldIds.on_disk(iter([hashes]), folder))
        except OSError as error:
            log.warning(_STAY, folder, error)
        self._old = old
        self._leaving, self._leaving_size = None, 0
