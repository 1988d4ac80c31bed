"""Feature state in memory: one growing array of records and where each entity's record begins."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.features.keys import KeyTable
from sentinel.features.pages import Pages
from sentinel.features.plan.program import Program

_KEYS_AT_ONCE: Final = 4096
"""Python's dictionaries hold the interpreter: so many keys at a time."""
KEY_SEPARATOR: Final = "\x1f"
"""Joins the parts of a composite entity key."""


class Arena:
    """Packed records of all views and the offset of every entity key.

    The first words stay zero for ever: they are the record of every entity without history, so
    that a read needs no special case and allocates nothing.

    Args:
        program: Gives the record sizes.
        capacity_words: int64 words to start with.
        pages: Records that are in memory already, to start with instead; the caller sets ``used``.
    """

    def __init__(
        self, program: Program, capacity_words: int = 1 << 16, pages: Pages | None = None
    ) -> None:
        self.program = program
        self.empty = 0
        self.used = max(program.record_words, default=0)
        self._pages = pages or Pages(max(capacity_words, self.used, 1))
        self._paged = self._pages.words()
        self.words: npt.NDArray[np.int64] = self._paged
        self.keys: tuple[dict[str, int], ...] = tuple({} for _ in program.record_words)
        self._tables = tuple(KeyTable() for _ in program.record_words)

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

    def locate_column(self, view: int, keys: pa.Array) -> npt.NDArray[np.int64]:
        """`locate` for a column of strings without nulls: int64 (len(keys),)."""
        size = self.program.record_words[view]
        known = self.keys[view]
        before = len(known)
        offsets = self._tables[view].locate(known, keys, self.used, size)
        end = self.used + size * (len(known) - before)
        self._reserve(end)
        self.used = end
        return offsets

    def release_tables(self) -> None:
        """Give back what `locate_column` has built to be fast; it is built again when asked."""
        self._tables = tuple(KeyTable() for _ in self.program.record_words)

    def record(self, view: int, key: str) -> npt.NDArray[np.int64]:
        """The words of an entity's record, a view into the arena (zeros without history)."""
        offset = self.find(view, key)
        return self.words[offset : offset + self.program.record_words[view]]

    def close(self) -> None:
        """Give the memory back piece by piece; all entities are without history afterwards."""
        for keys in self.keys:
            while keys:
                for _ in range(min(len(keys), _KEYS_AT_ONCE)):
                    keys.popitem()
        self.used = max(self.program.record_words, default=0)
        self.words = self._paged = np.zeros(max(self.used, 1), dtype=np.int64)
        self._pages.close()

    @property
    def entities(self) -> int:
        """Number of records over all views."""
        return sum(len(keys) for keys in self.keys)

    @property
    def entities_by_view(self) -> dict[str, int]:
        """Number of records, by name of the view."""
        views = self.program.plan.views
        return {view.name: len(keys) for view, keys in zip(views, self.keys, strict=True)}

    @property
    def used_bytes(self) -> int:
        return self.used * 8

    def _allocate(self, size: int) -> int:
        offset = self.used
        self._reserve(offset + size)
        self.used = offset + size
        return offset

    def _reserve(self, words: int) -> None:
        if words <= len(self.words):
            return
        size = max(words, 2 * len(self.words))
        old = self.words
        if old is self._paged:
            # Pages only grow while nobody holds them, so let go of them for a moment.
            old = self.words = self._paged = np.empty(0, dtype=np.int64)
            grown = self._pages.grow(size)
            old = self.words = self._paged = self._pages.words()
            if grown:
                return
        pages = Pages(size)
        moved = pages.words()
        moved[: self.used] = old[: self.used]
        self._pages = pages
        self.words = self._paged = moved
