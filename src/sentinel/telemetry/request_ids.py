"""Ids of requests: those that callers send, and those that are made for the others.

A caller's id is kept if it is well-formed: ``X-Request-Id`` with 1 to 64 letters, digits, dots,
dashes and underscores, else the trace id of a W3C ``traceparent``. An id that looks like a card
number is not kept, and the trace of a caller is not gone on with under such an id.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable
from typing import Final, NamedTuple

from sentinel.ingest.cards import masked, may_hold_card
from sentinel.ingest.issuers import LONGEST, SHORTEST, is_card

REQUEST_ID: Final = b"x-request-id"
TRACEPARENT: Final = b"traceparent"

LONGEST_ID: Final = 64
"""Characters of an id, at most."""
_ID: Final = re.compile(f"[A-Za-z0-9._-]{{1,{LONGEST_ID}}}")
_TRACEPARENT: Final = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_SAMPLED: Final = 0x01
_LONG_NUMBER: Final = re.compile(f"[0-9]{{{LONGEST + 1},}}")
_FIELDS: Final = re.compile(
    rb"\r\n(x-request-id|traceparent|tracestate):[ \t]*([!-~]{1,512})(?=\r\n|\Z)",
    re.IGNORECASE,
)


class CallersIds(NamedTuple):
    """What a caller says of its request.

    Attributes:
        request_id: The id; empty if none came that is well-formed.
        trace_id, span_id: Of the caller's trace, in hexadecimal digits; empty if there is none.
        sampled: The caller records its trace.
    """

    request_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False


NO_IDS: Final = CallersIds()


def is_request_id(text: str) -> bool:
    """Whether a text is well-formed as an id, and holds no card number.

    A card number among zeros is one, too: that is how one gets to the length of a trace id.

    >>> is_request_id("7f3a-91"), is_request_id("a b"), is_request_id("4111111111111111")
    (True, False, False)
    >>> is_request_id("0" * 16 + "4111111111111111"), is_request_id("4111111111111111" + "0" * 16)
    (False, False)
    """
    if _ID.fullmatch(text) is None:
        return False
    if not may_hold_card(text):
        return True
    return masked(text) == text and not any(map(_is_padded_card, _LONG_NUMBER.findall(text)))


def _is_padded_card(digits: str) -> bool:
    """Whether digits are a card number with zeros before or behind it."""
    begin = digits.lstrip("0")
    ends = range(SHORTEST, min(len(begin), LONGEST) + 1)
    return any(is_card(begin[:end]) and not begin[end:].strip("0") for end in ends)


def ids_in(headers: Iterable[tuple[bytes, bytes]]) -> CallersIds:
    """What the header fields of a request say; of several with one name, the first counts.

    Args:
        headers: Names in lower case.

    >>> ids_in([(b"x-request-id", b"shop-17")]).request_id
    'shop-17'
    >>> ids_in([(b"traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-01")]).request_id
    'abababababababababababababababab'
    """
    request_id = trace_id = span_id = ""
    sampled = False
    for name, value in headers:
        if name == REQUEST_ID and not request_id:
            text = value.decode("latin-1")
            request_id = text if is_request_id(text) else ""
        elif name == TRACEPARENT and not trace_id:
            found = _TRACEPARENT.fullmatch(value.decode("latin-1"))
            if found is not None and is_request_id(found[1]):
                trace_id, span_id = found[1], found[2]
                sampled = bool(int(found[3], 16) & _SAMPLED)
    if not (request_id or trace_id):
        return NO_IDS
    return CallersIds(request_id or trace_id, trace_id, span_id, sampled)


def ids_of_text(head: bytes) -> tuple[CallersIds, bytes]:
    r"""The ids in the head of a request that is not read yet, and the head without their fields.

    Clients send the same head again and again, but for these fields. A field with other characters
    than visible ones stays where it is, for the reader of heads to judge.

    Args:
        head: Up to the empty line, without the line ends before it.

    >>> ids_of_text(b"GET / HTTP/1.1\r\nX-Request-Id: shop-17\r\nHost: a")[1]
    b'GET / HTTP/1.1\r\nHost: a'
    """
    found = _FIELDS.findall(head)
    if not found:
        return NO_IDS, head
    return ids_in([(name.lower(), value) for name, value in found]), _FIELDS.sub(b"", head)


class RequestIds:
    """Makes ids that no other process makes: 24 random hexadecimal digits, then a number."""

    __slots__ = ("_next", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(12)
        self._next = itertools.count(1).__next__

    def make(self) -> str:
        """A new id, which a W3C trace may have as its trace id.

        >>> len(RequestIds().make())
        32
        """
        return f"{self._prefix}{self._next() & 0xFFFFFFFF:08x}"
