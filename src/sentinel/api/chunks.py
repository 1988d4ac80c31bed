"""Bodies that come in chunks, read strictly: no extensions, no trailers, bounded in every way."""

from __future__ import annotations

import re
from typing import Final

from sentinel.api.heads import bad_request
from sentinel.api.problems import ProblemError, body_too_large

SMALL_CHUNK_BYTES: Final = 128
"""A chunk below this size is small."""
MOST_SMALL_CHUNKS: Final = 1_024
"""Small chunks of a body: each costs as much time as a large one."""

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_BEGINNING: Final = re.compile(rb"[0-9A-Fa-f]{0,8}|[0-9A-Fa-f]{1,8}\r")


class ChunkedBody:
    """A body that is coming in chunks.

    Args:
        most_bytes: A larger body is refused.

    Attributes:
        content: What has come of the body.
        rest: What came after it, once it is complete.
    """

    def __init__(self, most_bytes: int) -> None:
        self.content = bytearray()
        self.rest = b""
        self._most_bytes = most_bytes
        self._missing = 0
        self._in_chunk = False
        self._small = 0

    def take(self, data: bytes) -> bool:
        """Take what has come in; whether the body is complete.

        Raises:
            ProblemError: 400 if it is malformed, 413 if it is too large.
        """
        if self.rest:
            data = self.rest + data
        at = 0
        while True:
            if self._missing:
                piece = data[at : at + self._missing]
                self.content += piece
                self._missing -= len(piece)
                at += len(piece)
                if self._missing:
                    self.rest = b""
                    return False
            if self._in_chunk:
                end = data[at : at + 2]
                if end != b"\r\n":
                    if not b"\r\n".startswith(end):
                        raise _malformed()
                    self.rest = end
                    return False
                at += 2
                self._in_chunk = False
            line = _SIZE.match(data, at)
            if line is None:
                self.rest = data[at:]
                if _BEGINNING.fullmatch(self.rest) is None:
                    raise _malformed()
                return False
            size = int(line[1], 16)
            if size == 0:
                end = data[line.end() : line.end() + 2]
                if end != b"\r\n":
                    if not b"\r\n".startswith(end):
                        raise bad_request("A chunked body ends without trailers.")
                    self.rest = data[at:]
                    return False
                self.rest = data[line.end() + 2 :]
                return True
            self._open(size)
            at = line.end()

    def _open(self, size: int) -> None:
        """A chunk of so many bytes begins."""
        if len(self.content) + size > self._most_bytes:
            raise body_too_large(self._most_bytes)
        if size < SMALL_CHUNK_BYTES:
            self._small += 1
            if self._small > MOST_SMALL_CHUNKS:
                raise ProblemError(
                    413,
                    "too_many_chunks",
                    "Too many small chunks",
                    f"A body has at most {MOST_SMALL_CHUNKS:,} chunks of fewer than "
                    f"{SMALL_CHUNK_BYTES} bytes. Send larger ones, or a Content-Length.",
                )
        self._missing = size
        self._in_chunk = True


def _malformed() -> ProblemError:
    return bad_request(
        "A chunk is its size in hexadecimal digits, CR LF, so many bytes and CR LF, without "
        "extensions."
    )
