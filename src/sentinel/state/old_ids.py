"""Sorted hashes of ids in a file, with what little memory it takes to look one up.

Hashes are spread evenly, so a filter in memory (Bloom, 1970) answers nearly all questions about
ids that are not there, and every 512th hash in memory leads to the one page of the file that the
others need. A hash takes one to two bytes of memory and eight on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.jit import kernel

Hashes = npt.NDArray[np.int64]

_PAGE: Final = 512
_FILTER_BITS: Final = 8
_PROBES: Final = 5
_SLICES: Final = 64


@kernel
def _fill(bits: npt.NDArray[np.uint8], hashes: Hashes, probes: int) -> None:
    """Note hashes in a filter of a power of two bits."""
    mask = 8 * len(bits) - 1
    for i in range(len(hashes)):
        at, step = hashes[i] & mask, (hashes[i] >> 32) | 1
        for _ in range(probes):
            bits[at >> 3] |= np.uint8(1 << (at & 7))
            at = (at + step) & mask


@kernel
def _maybe(
    bits: npt.NDArray[np.uint8], hashes: Hashes, probes: int, found: npt.NDArray[np.bool_]
) -> int:
    """Mark hashes that a filter may hold; returns how many."""
    mask = 8 * len(bits) - 1
    count = 0
    for i in range(len(hashes)):
        at, step = hashes[i] & mask, (hashes[i] >> 32) | 1
        held = True
        for _ in range(probes):
            if not bits[at >> 3] & np.uint8(1 << (at & 7)):
                held = False
                break
            at = (at + step) & mask
        found[i] = held
        count += held
    return count


class OldIds:
    """An immutable set of hashes.

    Args:
        hashes: int64 (n,), rising, at least one; often a file that is mapped into memory.
    """

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes
        self._fences: Hashes = np.ascontiguousarray(hashes[::_PAGE])
        n_bits = 1 << max(9, int(_FILTER_BITS * len(hashes) - 1).bit_length())
        self._bits = np.zeros(n_bits // 8, dtype=np.uint8)
        for start in range(0, len(hashes), 1 << 20):
            _fill(self._bits, np.array(hashes[start : start + (1 << 20)]), _PROBES)

    @classmethod
    def on_disk(cls, pieces: Iterator[Hashes], folder: Path) -> OldIds:
        """A set in a file that nobody sees and that goes away with the process.

        Args:
            pieces: int64 arrays, rising within and one after the other.
            folder: On whose disk; made where it is missing.

        Raises:
            OSError: It cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix="known-ids-") as file:
            for piece in pieces:
                file.write(piece.data.cast("B"))
            file.flush()
            return cls(np.memmap(file, dtype=np.int64, mode="r"))

    def __len__(self) -> int:
        return len(self.hashes)

    @property
    def memory_bytes(self) -> int:
        """What it takes in memory, without pages of its file that the system may drop."""
        own = 0 if isinstance(self.hashes, np.memmap) else self.hashes.nbytes
        return own + self._fences.nbytes + self._bits.nbytes

    def known(self, hashes: Hashes) -> npt.NDArray[np.bool_] | None:
        """Which of some hashes it holds, bool (n,); None if it holds none of them."""
        found = np.empty(len(hashes), dtype=np.bool_)
        if not _maybe(self._bits, hashes, _PROBES, found):
            return None
        for place in np.flatnonzero(found).tolist():
            found[place] = self._holds(int(hashes[place]))
        return found

    def slice_of(self, least: int, below: int | None) -> Hashes:
        """The hashes from ``least`` on and below another one, rising."""
        start = int(np.searchsorted(self.hashes, least))
        stop = len(self.hashes) if below is None else int(np.searchsorted(self.hashes, below))
        return self.hashes[start:stop]

    def _holds(self, value: int) -> bool:
        page = int(np.searchsorted(self._fences, value, side="right")) - 1
        if page < 0:
            return False
        hashes = self.hashes[page * _PAGE : (page + 1) * _PAGE]
        at = int(np.searchsorted(hashes, value))
        return at < len(hashes) and int(hashes[at]) == value


def merged(sets: Sequence[OldIds]) -> Iterator[Hashes]:
    """All hashes of several sets that share none, rising, in pieces that fit in memory."""
    edges = np.linspace(-(2.0**63), 2.0**63, _SLICES + 1)[1:-1].astype(np.int64).tolist()
    least = -(1 << 63)
    for below in [*edges, None]:
        together = np.concatenate([ids.slice_of(least, below) for ids in sets])
        together.sort()
        yield together
        least = below if below is not None else least
