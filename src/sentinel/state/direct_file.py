"""A large file written around the page cache, so that nobody else's sync waits for it.

A file system that writes data before it commits its journal has every sync wait for what all other
files have in the page cache: while two gigabytes are written the ordinary way, an append to the
log can take half a second. Written directly, in pieces, they leave nothing behind to wait for
(decision 314). Freeing is as bad: where the file system tells the disk what is free, syncs wait a
fifth of a second for each gigabyte that is deleted. So files are written over, and what they have
too much is freed little by little (decision 371).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PIECE_BYTES: Final = 1 << 20
"""So much is written at once; a multiple of every disk's block."""

_BLOCK: Final = 4096
_FREED_AT_ONCE: Final = 2 << 20
_FREED_REST_SECONDS: Final = 0.01


class DirectFile:
    """Bytes from the beginning of a file on. One thread.

    Where the file system has no direct writing, each piece is synced by itself, so that no more
    than one is ever left to wait for.

    Args:
        descriptor: Of the file, open for writing; `write_directly` opens it.
        direct: Whether it was opened for direct writing.
        leisurely: Let the disk rest after each piece for as long as the piece took.
    """

    def __init__(self, descriptor: int, *, direct: bool, leisurely: bool = False) -> None:
        self._leisurely = leisurely
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
        self._free_rest()
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Release memory and file."""
        self._piece.close()
        os.close(self._descriptor)

    def _free_rest(self) -> None:
        """Let the file end where its bytes do."""
        size = os.fstat(self._descriptor).st_size
        while self._leisurely and size - self._size > _FREED_AT_ONCE:
            size -= _FREED_AT_ONCE
            os.ftruncate(self._descriptor, size)
            time.sleep(_FREED_REST_SECONDS)
        os.ftruncate(self._descriptor, self._size)

    def _put(self, size: int) -> None:
        began = time.perf_counter()
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
        if self._leisurely:
            time.sleep(time.perf_counter() - began)


@contextlib.contextmanager
def write_directly(path: Path, *, leisurely: bool = False) -> Iterator[DirectFile]:
    """A file to write; on disk when the block ends without an error.

    Args:
        path: Written over if it is there, so that its place on the disk is not given back first.
        leisurely: See `DirectFile`.

    Raises:
        OSError: It cannot be made or written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    direct = getattr(os, "O_DIRECT", 0)
    try:
        descriptor = os.open(path, flags | direct, 0o600)
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:
            raise
        direct = 0
        descriptor = os.open(path, flags, 0o600)
    file = DirectFile(descriptor, direct=bool(direct), leisurely=leisurely)
    try:
        yield file
        file.finish()
    finally:
        file.close()


def _without_direct(descriptor: int) -> None:
    import fcntl  # where there is direct writing, there is this module

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
