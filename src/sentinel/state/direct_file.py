"""A large file written around the page cache, so that nobody else's sync waits for it.

A file system that writes data before it commits its journal has every sync wait for what all other
files have in the page cache: while two gigabytes are written the ordinary way, an append to the
log can take half a second. Written directly, in pieces, they leave nothing behind to wait for
(decision 314).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PIECE_BYTES: Final = 4 << 20
"""So much is written at once; a multiple of every disk's block."""

_BLOCK: Final = 4096


class DirectFile:
    """Bytes to the end of a new file. One thread.

    Where the file system has no direct writing, each piece is synced by itself, so that no more
    than one is ever left to wait for.

    Args:
        descriptor: Of the file, open for writing; `write_directly` opens it.
        direct: Whether it was opened for direct writing.
    """

    def __init__(self, descriptor: int, *, direct: bool) -> None:
        self._descriptor = descriptor
        self._direct = direct
        self._piece = mmap.mmap(-1, PIECE_BYTES)  # begins at a page, as direct writing wants
        self._held = 0
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes.

        Raises:
            OSError: They cannot be written.
        """
        view = memoryview(data).cast("B") if len(data) else memoryview(b"")
        while len(view):
            taken = min(len(view), PIECE_BYTES - self._held)
            self._piece[self._held : self._held + taken] = view[:taken]
            self._held += taken
            self._size += taken
            view = view[taken:]
            if self._held == PIECE_BYTES:
                self._put(PIECE_BYTES)

    def finish(self) -> None:
        """Write what is left, and have all of it on disk.

        Raises:
            OSError: It cannot be written.
        """
        if self._held:
            self._put(-(-self._held // _BLOCK) * _BLOCK if self._direct else self._held)
        os.ftruncate(self._descriptor, self._size)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Release memory and file."""
        self._piece.close()
        os.close(self._descriptor)

    def _put(self, size: int) -> None:
        with memoryview(self._piece) as whole:
            left = whole[:size]
            while len(left):
                try:
                    written = os.write(self._descriptor, left)
                except OSError as error:
                    if not self._direct or error.errno != errno.EINVAL:
                        raise
                    _without_direct(self._descriptor)
                    self._direct = False
                    continue
                left = left[written:]
            left.release()
        if not self._direct:
            os.fdatasync(self._descriptor)
        self._held = 0


@contextlib.contextmanager
def write_directly(path: Path) -> Iterator[DirectFile]:
    """A new file to write; on disk when the block ends without an error.

    Args:
        path: Overwritten if it is there.

    Raises:
        OSError: It cannot be made or written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    direct = getattr(os, "O_DIRECT", 0)
    try:
        descriptor = os.open(path, flags | direct, 0o600)
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:
            raise
        direct = 0
        descriptor = os.open(path, flags, 0o600)
    file = DirectFile(descriptor, direct=bool(direct))
    try:
        yield file
        file.finish()
    finally:
        file.close()


def _without_direct(descriptor: int) -> None:
    import fcntl  # where there is direct writing, there is this module

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
