"""Heads of requests, read strictly: what two readers could understand differently is refused.

A proxy and a server that disagree on where a request ends let one request hide in another. There
is one grammar here, without the leniencies that HTTP allows a server: a head that is not exactly of
this form is a 400, and the connection ends. Where a body ends is decided here for all routes.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Final

import msgspec

from sentinel.api.problems import ProblemError

MOST_HEAD_BYTES: Final = 16_384
"""Bytes of a head: the request line and the header fields."""
MOST_TARGET_BYTES: Final = 8_192
"""Bytes of a URL."""
MOST_FIELDS: Final = 100
"""Header fields of a request."""
CHUNKED: Final = -1
"""Length of a body that comes in chunks."""
END_OF_HEAD: Final = b"\r\n\r\n"

# Possessive quantifiers: none of these goes back over what it has matched.
_REQUEST_LINE: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT) (/[!\"$-~]*+) HTTP/1\.1"
)
_FIELD: Final = re.compile(rb"(?m)^([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([\t -~\x80-\xff]*+)\r\n")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_HOST: Final = re.compile(rb"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_BEGINNING: Final = re.compile(
    rb"[A-Z]{0,20}(?: (?:/[!\"$-~]*+(?: [A-Z]{0,4}/?[0-9.]{0,3}\r?)?)?)?|\r"
)
_MOST_LINE_BYTES: Final = MOST_TARGET_BYTES + 32
_READ_HERE: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect")
)

Field = tuple[bytes, bytes]


class Head(msgspec.Struct, frozen=True):
    """What the head of a request says.

    Attributes:
        method: Such as "POST".
        path: Decoded.
        raw_path, query: As they were sent.
        fields: Header fields, names in lower case.
        length: Bytes of the body; `CHUNKED` if it comes in chunks.
        authority: The name and port by which the client calls this service.
        host: The name alone, in lower case.
        close: The connection ends after the answer.
        expects: The client waits to be told that it may send the body.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    fields: list[Field]
    length: int
    authority: bytes
    host: str
    close: bool
    expects: bool

    def only(self, name: bytes) -> bytes | None:
        """The value of a field that may be there once; None if it is missing.

        Raises:
            ProblemError: 400 if there are several.
        """
        values = [value for known, value in self.fields if known == name]
        if len(values) > 1:
            raise bad_request(f"There is more than one field {name.decode()}.")
        return values[0] if values else None


def read_head(text: bytes) -> Head:
    """Read a head.

    Args:
        text: Up to the empty line, without the line ends before it.

    Raises:
        ProblemError: 400 if it is malformed, 414 or 431 if it is too large, 417 if it expects
            something that is not known.
    """
    if len(text) > MOST_HEAD_BYTES:
        raise _too_large()
    # A client may end the body before with a line end of its own.
    line, _, rest = text.removeprefix(b"\r\n").partition(b"\r\n")
    matched = _REQUEST_LINE.fullmatch(line)
    if matched is None:
        raise _malformed_line(line)
    method, target = matched.groups()
    if len(target) > MOST_TARGET_BYTES:
        raise _url_too_long()
    count = rest.count(b"\n") + 1 if rest else 0
    if count > MOST_FIELDS:
        raise ProblemError(
            431,
            "too_many_fields",
            "Too many header fields",
            f"A request has at most {MOST_FIELDS} header fields.",
        )
    found = _FIELD.findall(rest + b"\r\n") if rest else []
    if len(found) != count:
        raise _malformed_field(rest)
    fields = [(name.lower(), value.rstrip(b" \t")) for name, value in found]
    special: dict[bytes, list[bytes]] = {}
    for (name, _), (_, value) in zip(fields, found, strict=True):
        if name in _READ_HERE:  # a tab at its end stays, because other readers refuse it
            special.setdefault(name, []).append(value.rstrip(b" "))
    authority, host = _host(special.get(b"host", []))
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    return Head(
        method=method.decode("ascii"),
        path=urllib.parse.unquote(path) if "%" in path else path,
        raw_path=raw_path,
        query=query,
        fields=fields,
        length=_length(special.get(b"content-length", []), special.get(b"transfer-encoding", [])),
        authority=authority,
        host=host,
        close=_closes(special.get(b"connection", [])),
        expects=_expects(special.get(b"expect", [])),
    )


def check_beginning(text: bytes) -> None:
    """Refuse what cannot become a head, before its end has come.

    Args:
        text: What has come so far, without an empty line in it.

    Raises:
        ProblemError: As `read_head`.
    """
    line, ended, rest = text.removeprefix(b"\r\n").partition(b"\r\n")
    if not ended:
        if _BEGINNING.fullmatch(line) is None:
            raise _malformed_line(line)
        if len(line) > _MOST_LINE_BYTES:
            raise _url_too_long()
    elif _REQUEST_LINE.fullmatch(line) is None:
        raise _malformed_line(line)
    elif rest.count(b"\n") + rest.count(b"\r") != 2 * rest.count(b"\r\n") + rest.endswith(b"\r"):
        raise _malformed_field(rest)
    if len(text) > MOST_HEAD_BYTES:
        raise _too_large()


def bad_request(detail: str) -> ProblemError:
    """The answer to what is not a request of HTTP/1.1."""
    return ProblemError(400, "bad_request", "Bad request", detail)


def _host(values: list[bytes]) -> tuple[bytes, str]:
    if len(values) != 1:
        raise bad_request(
            f"A request has exactly one field Host; this one has {len(values) or 'none'}."
        )
    matched = _HOST.fullmatch(values[0])
    if matched is None:
        raise bad_request("The field Host is not a name or an address with or without a port.")
    return values[0], matched[1].decode("ascii").lower()


def _length(lengths: list[bytes], codings: list[bytes]) -> int:
    if codings:
        if lengths:
            raise bad_request("A body has a Content-Length or a Transfer-Encoding, never both.")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise bad_request("The only Transfer-Encoding is chunked, once.")
        return CHUNKED
    if not lengths:
        return 0
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise bad_request("A Content-Length is there once and is a number of decimal digits.")
    return int(lengths[0])


def _closes(values: list[bytes]) -> bool:
    return any(b"close" in (token.strip().lower() for token in v.split(b",")) for v in values)


def _expects(values: list[bytes]) -> bool:
    if not values:
        return False
    if len(values) > 1 or values[0].lower() != b"100-continue":
        raise ProblemError(
            417,
            "unknown_expectation",
            "Expectation failed",
            "The only expectation is 100-continue.",
        )
    return True


def _malformed_line(line: bytes) -> ProblemError:
    if re.fullmatch(rb"[A-Z]{1,20} [!-~]+(?: HTTP/(?:0\.9|1\.0))?", line[:300]):
        return bad_request(
            "This service speaks HTTP/1.1. A proxy in front has to ask with it, too (nginx: "
            "proxy_http_version 1.1)."
        )
    if re.match(rb"[A-Z]{1,20} [!-.0-~]", line):
        return bad_request("The URL of a request is a path that begins with a slash.")
    return bad_request(
        "The first line is not a method such as POST, a path and HTTP/1.1 with one space in "
        "between. TLS is spoken by a proxy in front, not here."
    )


def _malformed_field(rest: bytes) -> ProblemError:
    if b"\r\n " in rest or b"\r\n\t" in rest or rest.startswith((b" ", b"\t")):
        return bad_request("A header field stands on one line.")
    return bad_request(
        "Each header field is a name, a colon and a value, without a space before the colon and "
        "without control characters, and lines end with CR LF."
    )


def _too_large() -> ProblemError:
    return ProblemError(
        431,
        "head_too_large",
        "Header fields too large",
        f"The head of a request has at most {MOST_HEAD_BYTES:,} bytes.",
    )


def _url_too_long() -> ProblemError:
    return ProblemError(
        414, "url_too_long", "URL too long", f"A URL has at most {MOST_TARGET_BYTES:,} bytes."
    )
