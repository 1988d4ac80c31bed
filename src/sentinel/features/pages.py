"""int64 words in pages of their own, so that more of them don't mean a copy of those there are."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]

_WORD_BYTES: Final = 8
_HUGE_FROM: Final = 4 << 20
_FREED_AT_ONCE: Final = 16 << 20


class Pages:
    """Anonymous memory, zero until it is written, that only takes room where it is touched.

    Args:
        words: How many to start with, at least one.
    """

    def __init__(self, words: int) -> None:
        self._map = mmap.mmap(-1, words * _WORD_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._advise()

    def words(self) -> Words:
        """All of it, as an array that keeps it alive. While there is one it cannot grow."""
        return np.frombuffer(self._map, dtype=np.int64)

    def grow(self, words: int) -> bool:
        """Make room for more words, the new ones zero; contents stay.

        Returns:
            Whether it did. It does not while an array of `words` is held somewhere, or where the
            system cannot move pages.
        """
        try:
            self._map.resize(words * _WORD_BYTES)
        except (BufferError, OSError, SystemError, ValueError):
            return False
        self._advise()
        return True

    def close(self) -> None:
        """Give the memory back piece by piece.

        Python holds its lock while memory is freed: a tenth of a second for each gigabyte. An array
        of `words` that is still held somewhere is zero afterwards.
        """
        if hasattr(mmap, "MADV_DONTNEED"):
            size = len(self._map)
            for start in range(0, size, _FREED_AT_ONCE):
                self._map.madvise(mmap.MADV_DONTNEED, start, min(_FREED_AT_ONCE, size - start))
        with suppress(BufferError):
            self._map.close()

    def _advise(self) -> None:
        """Ask for huge pages: a fault for 2 MB and not for 4 KB, and fewer address lookups."""
        if len(self._map) >= _HUGE_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):
                self._map.madvise(mmap.MADV_HUGEPAGE)
