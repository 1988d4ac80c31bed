"""Requests that hide another one: what two readers of HTTP could understand differently.

Each case is bytes as they go over the wire. In most, a whole payment stands where one reader sees a
body and another one the next request.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

from tests.api.conftest import payment

GOODBYE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def post(body: bytes, *fields: str, path: str = "/predict", length: int | None = None) -> bytes:
    """A POST with these header fields beside the usual ones."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(body) if length is None else length}",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def bare(line: bytes, *fields: bytes, body: bytes = b"", end: bytes = b"\r\n") -> bytes:
    """A request of exactly these lines."""
    return end.join((line, *fields, b"", b"")) + body


@dataclass(frozen=True)
class Case:
    """A way to hide a request.

    Attributes:
        name: What it abuses.
        make: The bytes, given the hidden request.
        statuses: What this service answers, in order; it ends the connection then.
    """

    name: str
    make: Callable[[bytes], bytes]
    statuses: tuple[int, ...] = (400,)


LINE, HOST, JSON = b"POST /predict HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"


def _length(hidden: bytes) -> bytes:
    return b"Content-Length: %d" % len(hidden)


def _upgrade(kind: str, path: str = "/labels") -> Callable[[bytes], bytes]:
    fields = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {kind}", "HTTP2-Settings: AAMA")
    return lambda hidden: post(hidden, *fields, path=path) + GOODBYE


def _fields(*fields: bytes, line: bytes = LINE) -> Callable[[bytes], bytes]:
    """A head with these fields, and the hidden request after it."""
    return lambda hidden: bare(line, HOST, JSON, *fields, body=hidden)


def _line(line: bytes) -> Callable[[bytes], bytes]:
    """A request without a body that begins with this line, and the hidden request after it."""
    return _fields(b"Content-Length: 0", line=line)


def _body(*lines: bytes) -> Callable[[bytes], bytes]:
    """A request of these lines whose body is the hidden one."""
    return lambda hidden: bare(*lines, _length(hidden), body=hidden)


def _typed(kind: bytes) -> Callable[[bytes], bytes]:
    """The hidden request, as a body of this type."""
    return lambda hidden: post(hidden).replace(b"application/json", kind, 1)


def _chunked(*pieces: bytes, coding: bytes = b"Transfer-Encoding: chunked") -> Case:
    text = b"".join(pieces)
    return Case(
        f"chunks {text[:24]!r}",
        lambda hidden: bare(LINE, HOST, JSON, coding, body=text.replace(b"@", hidden)),
    )


CASES = (
    Case("CL and TE", _fields(b"Content-Length: 4", b"Transfer-Encoding: chunked")),
    Case(
        "TE and CL",
        lambda hidden: bare(
            LINE,
            HOST,
            JSON,
            b"Transfer-Encoding: chunked",
            _length(b"0\r\n\r\n" + hidden),
            body=b"0\r\n\r\n" + hidden,
        ),
    ),
    Case("two lengths", _body(LINE, HOST, JSON, b"Content-Length: 0")),
    Case("two equal lengths", lambda h: bare(LINE, HOST, JSON, _length(h), _length(h), body=h)),
    Case("a list of lengths", _fields(b"Content-Length: 0, 0")),
    Case("a length with a sign", _fields(b"Content-Length: +0")),
    Case("a length in hexadecimal", _fields(b"Content-Length: 0x0")),
    Case("a length with a blank", _fields(b"Content-Length: 0 0")),
    Case("an empty length", _fields(b"Content-Length: ")),
    Case("a huge length", _fields(b"Content-Length: 99999999999999999999")),
    Case("an unknown coding", _fields(b"Transfer-Encoding: xchunked")),
    Case("a coding after another", _fields(b"Transfer-Encoding: gzip, chunked")),
    Case("a coding before another", _fields(b"Transfer-Encoding: chunked, identity")),
    Case("two codings", _fields(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked")),
    Case("a quoted coding", _fields(b'Transfer-Encoding: "chunked"')),
    Case("a coding after a vertical tab", _fields(b"Transfer-Encoding: \x0bchunked")),
    Case("a coding before a tab", _fields(b"Transfer-Encoding: chunked\t")),
    Case("a space before the colon", _fields(b"Content-Length : 0")),
    Case("a tab before the colon", _fields(b"Transfer-Encoding\t: chunked")),
    Case("a folded field", _fields(b"X: y", b" Content-Length: 9", b"Content-Length: 0")),
    Case(
        "a folded first field", lambda h: bare(LINE, b" X: y", HOST, b"Content-Length: 0", body=h)
    ),
    Case("a field without a colon", _fields(b"Content-Length 0")),
    Case("a field without a name", _fields(b": 0")),
    Case("a name of two words", _fields(b"X Content-Length: 0")),
    Case("a lone CR in a value", _fields(b"X: a\rContent-Length: 0")),
    Case("a lone LF in a value", _fields(b"X: a\nContent-Length: 0")),
    Case("NUL in a value", _fields(b"X: a\x00b", b"Content-Length: 0")),
    Case("NUL in a name", _fields(b"X\x00: a", b"Content-Length: 0")),
    Case(
        "lines that end with LF",
        lambda h: bare(LINE, HOST, b"Content-Length: 0", body=h, end=b"\n"),
    ),
    Case(
        "lines that end with CR",
        lambda h: bare(LINE, HOST, b"Content-Length: 0", body=h, end=b"\r"),
    ),
    Case("an empty line of LF", lambda h: bare(LINE, HOST, JSON)[:-2] + b"\n" + h),
    Case("two empty lines first", lambda h: b"\r\n\r\n" + h),
    Case(
        "HTTP/1.0",
        lambda h: bare(b"POST /predict HTTP/1.0", HOST, JSON, b"Content-Length: 0", body=h),
    ),
    Case("HTTP/1.2", _line(b"POST /predict HTTP/1.2")),
    Case("HTTP/2.0", _line(b"POST /predict HTTP/2.0")),
    Case("HTTP/0.9", lambda h: b"GET /livez\r\n" + h),
    Case("http in small letters", _line(b"POST /predict http/1.1")),
    Case("the preface of HTTP/2", lambda h: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h),
    Case("an absolute URL", _line(b"POST http://localhost/predict HTTP/1.1")),
    Case("an authority", _body(b"CONNECT localhost:80 HTTP/1.1", HOST)),
    Case("an asterisk", _body(b"OPTIONS * HTTP/1.1", HOST)),
    Case("two spaces", _line(b"POST  /predict HTTP/1.1")),
    Case("a tab for a space", _line(b"POST\t/predict HTTP/1.1")),
    Case("a space after the version", _line(b"POST /predict HTTP/1.1 ")),
    Case("a space in the URL", _line(b"POST /pre dict HTTP/1.1")),
    Case("a fragment", _line(b"POST /predict#x HTTP/1.1")),
    Case("UTF-8 in the URL", _line("POST /prédict HTTP/1.1".encode())),
    Case("a method in small letters", _line(b"post /predict HTTP/1.1")),
    Case("an unknown method", _line(b"PO /predict HTTP/1.1")),
    Case("TLS", lambda h: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + h),
    Case("no Host", _body(LINE, JSON)),
    Case("two Hosts", _body(LINE, HOST, HOST, JSON)),
    Case("an empty Host", _body(LINE, b"Host:", JSON)),
    Case("a Host with a path", _body(LINE, b"Host: localhost/x", JSON)),
    Case("a list of Hosts", _body(LINE, b"Host: localhost, a", JSON)),
    Case("a foreign Host", _body(LINE, b"Host: evil.example", JSON), (421,)),
    Case("a body of a GET", _body(b"GET /livez HTTP/1.1", HOST)),
    Case("a body of a HEAD", _body(b"HEAD /livez HTTP/1.1", HOST)),
    Case(
        "chunks of a GET",
        lambda h: bare(
            b"GET /livez HTTP/1.1", HOST, b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + h
        ),
    ),
    Case("plain text", _typed(b"text/plain"), (415,)),
    Case("a form", _typed(b"application/x-www-form-urlencoded"), (415,)),
    Case("UTF-16", _typed(b"application/json; charset=utf-16"), (415,)),
    Case("no type", _body(LINE, HOST), (415,)),
    Case("two types", lambda h: post(h, "Content-Type: text/plain")),
    Case("a coding of the content", lambda h: post(h, "Content-Encoding: gzip"), (415,)),
    Case("a foreign origin", lambda h: post(h, "Origin: https://evil.example"), (403,)),
    Case("an origin of null", lambda h: post(h, "Origin: null"), (403,)),
    Case("the origin of a neighbour", lambda h: post(h, "Origin: http://localhost:3000"), (403,)),
    Case("an unknown expectation", lambda h: post(h, "Expect: 200-ok"), (417,)),
    # Nothing is upgraded: a body stays a body, and the connection goes on after it.
    Case("Upgrade to h2c", _upgrade("h2c"), (400, 200)),
    Case("Upgrade to websocket", _upgrade("websocket"), (400, 200)),
    Case("Upgrade to foo", _upgrade("foo"), (400, 200)),
    Case("a payment that upgrades", _upgrade("foo", "/predict"), (400, 200)),
    Case(
        "a websocket of a GET",
        lambda h: bare(
            b"GET /livez HTTP/1.1",
            HOST,
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            _length(h),
            body=h,
        ),
    ),
    Case(
        "a length named in Connection",
        lambda h: post(h, "Connection: keep-alive, content-length") + GOODBYE,
        (400, 200),
    ),
    Case(
        "an underscore",
        lambda h: post(h, "Content_Length: 0", "Transfer_Encoding: chunked") + GOODBYE,
        (400, 200),
    ),
    _chunked(b"0\r\n\r", b"@"),
    _chunked(b"0\n\n@"),
    _chunked(b"0\r\nX: y\r\n\r\n@"),
    _chunked(b"2;a=b\r\n{}\r\n0\r\n\r\n@"),
    _chunked(b"2;\n@\r\n{}\r\n0\r\n\r\n"),
    _chunked(b"2 \r\n{}\r\n0\r\n\r\n@"),
    _chunked(b" 2\r\n{}\r\n0\r\n\r\n@"),
    _chunked(b"0x2\r\n{}\r\n0\r\n\r\n@"),
    _chunked(b"+2\r\n{}\r\n0\r\n\r\n@"),
    _chunked(b"-1\r\n@"),
    _chunked(b"2\r\n{}0\r\n\r\n@"),
    _chunked(b"2\n{}\n0\n\n@"),
    _chunked(b"1\r\n{}\r\n0\r\n\r\n@"),
    _chunked(b"100000000000000002\r\n{}\r\n0\r\n\r\n@"),
    _chunked(b"\r\n@"),
)


def hidden_payment(name: str) -> tuple[str, bytes]:
    """The id of a payment, and the request that has it decided on."""
    body = payment(transaction_id="hidden-" + name.encode().hex()[:100])
    return body["transaction_id"], post(json.dumps(body).encode())


def statuses_of(port: int, text: bytes) -> list[int]:
    """Send bytes; the statuses of all answers until the connection ends."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers_to(port, text))]


def answers_to(port: int, text: bytes, *, nothing_follows: bool = False) -> bytes:
    """Send bytes; all that comes back until the connection ends.

    Args:
        port: On this machine.
        text: The bytes.
        nothing_follows: End our side of the connection after them.

    Raises:
        TimeoutError: It does not end.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(text)
        if nothing_follows:
            connection.shutdown(socket.SHUT_WR)
        while True:
            try:
                data = connection.recv(65_536)
            except ConnectionResetError:
                break
            if not data:
                break
            received += data
    return received
