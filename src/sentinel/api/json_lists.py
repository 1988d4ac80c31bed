"""A long JSON list in pieces, so that no call of a decoder holds the interpreter for long.

A decoder holds the interpreter until it is done, 20 ms for five megabytes. So the text of the list
is cut where an object seems to end and another to begin, and each piece is decoded as a list of its
own. Where all pieces are lists, their elements are those of the whole list, since JSON can be read
in one way only. Where a cut went through a string or a list inside of an object, its pieces are no
JSON, and the caller reads the body whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

PIECE_BYTES: Final = 16_384
"""A piece has at least so many bytes, if there is as much: about 40 payments."""
_SPACE: Final = rb"[ \t\n\r]"
_NEXT_OBJECT: Final = re.compile(rb"\}%b*,(?=%b*\{)" % (_SPACE, _SPACE))


def list_pieces(body: bytes, name: str, least: int = PIECE_BYTES) -> Iterator[bytes] | None:
    """The pieces of a body that is an object with one list: `{"name": [{...}, {...}]}`.

    Args:
        body: JSON, or anything else.
        name: Of the list.
        least: Bytes of a piece; the last one may have fewer.

    Returns:
        Pieces, each in brackets of its own; None if the body begins or ends otherwise. A piece may
        be no JSON: then the body has to be read whole.
    """
    head = re.compile(rb'%b*\{%b*"%b"%b*:%b*\[' % (_SPACE, _SPACE, name.encode(), _SPACE, _SPACE))
    begun = head.match(body)
    end = _end_of_list(body)
    if begun is None or end is None or begun.end() > end:
        return None
    return _pieces(body, begun.end(), end, least)


def _end_of_list(body: bytes) -> int | None:
    """Where the bracket stands that ends the list; None if the body does not end with `]}`."""
    end = len(body)
    for closing in b"}]":
        while end and body[end - 1] in b" \t\n\r":
            end -= 1
        if not end or body[end - 1] != closing:
            return None
        end -= 1
    return end


def _pieces(body: bytes, start: int, end: int, least: int) -> Iterator[bytes]:
    while True:
        found = _NEXT_OBJECT.search(body, start + least, end)
        if found is None:
            yield b"[%b]" % body[start:end]
            return
        yield b"[%b]" % body[start : found.end() - 1]
        start = found.end()
