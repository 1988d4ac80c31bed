"""Records that a scorer has folded already, so that Redis only sends what came since."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.pages import Pages
from sentinel.features.plan.program import Program

UNKNOWN: Final = -1


class RecordCache:
    """A bounded table of folded records; the one that came in first makes room for the next.

    Attributes:
        words: int64, the records of all views.
        slots: Records that there is room for in each view.
        places: int64 (views, 2), the first word of each view's slots and the words of one.
        calls: How many calls have begun.
        kept_from: What calls from this one on ask for stays.
        known: int64 (views, slots), positions at which the records stand; UNKNOWN where a slot
            holds nothing that may be used.

    Args:
        program: The compiled plan.
        most_bytes: Of all records together. Memory is taken as it is used.
        least_slots: Kept free for the records of one call, whatever ``most_bytes`` says.
    """

    def __init__(self, program: Program, most_bytes: int, least_slots: int) -> None:
        sizes = program.record_words
        self.slots = max(2 * least_slots, most_bytes // (8 * max(sum(sizes), 1)))
        words = np.array(sizes, dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(words * self.slots)])
        self.places: npt.NDArray[np.int64] = np.stack([starts[:-1], words], axis=1)
        self.words: npt.NDArray[np.int64] = Pages(max(int(starts[-1]), 1)).words()
        self.known = np.full((max(len(sizes), 1), self.slots), UNKNOWN, dtype=np.int64)
        self._slot_of: list[dict[str, int]] = [{} for _ in sizes]
        self._owner: list[list[str | None]] = [[None] * self.slots for _ in sizes]
        self._next = [0] * len(sizes)
        self._used_in = [[-1] * self.slots for _ in sizes]
        self.calls = 0
        self.kept_from = 0

    @property
    def entities(self) -> int:
        """Records in the cache."""
        return sum(self.entities_by_view)

    @property
    def entities_by_view(self) -> list[int]:
        """Records in the cache, of each view in the plan's order."""
        return [len(slots) for slots in self._slot_of]

    def begin(self) -> None:
        """Begin a call."""
        self.calls += 1

    def slot(self, view: int, key: str) -> int:
        """The slot of a record, taken from the oldest one if it has none."""
        used_in = self._used_in[view]
        slot = self._slot_of[view].get(key)
        if slot is None:
            slot = self._next[view]
            while used_in[slot] >= self.kept_from:
                slot = (slot + 1) % self.slots
            self._next[view] = (slot + 1) % self.slots
            owner = self._owner[view][slot]
            if owner is not None:
                del self._slot_of[view][owner]
            self._owner[view][slot] = key
            self._slot_of[view][key] = slot
            self.known[view, slot] = UNKNOWN
        used_in[slot] = self.calls
        return slot

    def forget(self) -> None:
        """Use nothing of what is held."""
        self.known[:] = UNKNOWN
