"""Feature state in memory: one growing array of records and where each entity's record begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.program import Program

KEY_SEPARATOR: Final = "\x1f"
"""Joins the parts of a composite entity key."""


class Arena:
    """Packed records of all views and the offset of every entity key.

    The first words stay zero for ever: they are the record of every entity without history, so
    that a read needs no special case and allocates nothing.

    Args:
        program: Gives the record sizes.
        capacity_words: int64 words to start with.
    """

    def __init__(self, program: Program, capacity_words: int = 1 << 16) -> None:
        self.program = program
        self.empty = 0
        self.used = max(program.record_words, default=0)
        self.words: npt.NDArray[np.int64] = np.zeros(max(capacity_words, self.used), dtype=np.int64)
        self.keys: tuple[dict[str, int], ...] = tuple({} for _ in program.record_words)

    def locate(self, view: int, key: str) -> int:
        """Offset of an entity's record, made if there was none. May replace ``words``."""
        offset = self.keys[view].get(key)
        if offset is None:
            offset = self._allocate(self.program.record_words[view])
            self.keys[view][key] = offset
        return offset

    def find(self, view: int, key: str) -> int:
        """Offset of an entity's record, or of the empty record if it has none."""
        return self.keys[view].get(key, self.empty)

    def locate_many(self, view: int, keys: Sequence[str]) -> npt.NDArray[np.int64]:
        """`locate` for many keys: int64 (len(keys),)."""
        known = self.keys[view]
        size = self.program.record_words[view]
        found = list(map(known.get, keys))
        end = self.used
        for i, offset in enumerate(found):
            if offset is None:
                # Twice among the keys is once in the dictionary.
                found[i] = offset = known.setdefault(keys[i], end)
                end += size if offset == end else 0
        offsets: npt.NDArray[np.int64] = np.array(found, dtype=np.int64)
        self._reserve(end)
        self.used = end
        return offsets

    def record(self, view: int, key: str) -> npt.NDArray[np.int64]:
        """The words of an entity's record, a view into the arena (zeros without history)."""
        offset = self.find(view, key)
        return self.words[offset : offset + self.program.record_words[view]]

    @property
    def entities(self) -> int:
        """Number of records over all views."""
        return sum(len(keys) for keys in self.keys)

    @property
    def used_bytes(self) -> int:
        return self.used * 8

    def _allocate(self, size: int) -> int:
        offset = self.used
        self._reserve(offset + size)
        self.used = offset + size
        return offset

    def _reserve(self, words: int) -> None:
        if words > len(self.words):
            grown = np.zeros(max(words, len(self.words) * 2), dtype=np.int64)
            grown[: self.used] = self.words[: self.used]
            self.words = grown
