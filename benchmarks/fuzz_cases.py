"""Requests with something wrong, most of the time: the same ones for a seed.

A case is made of a whole request by a few changes of its head, of its body, or of its bytes. What a
head of a real client looks like is known, so changes are those that matter to a reader: lines
that come twice, other lengths, other ends of lines, fields that another reader may see.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from testkit.payments import payments

_STRANGE: Final[list[Any]] = [
    None, True, -1, 0, 10**30, 1.5, -0.0, 1e400, "", "\x00", "é" * 200, "\ud83d", "\u202e", [],
    [[]], {}, {"a": {}}, "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z", "null", 2**63, 2**64,
    "x" * 5_000,
]  # fmt: skip
_FIELDS: Final = (
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 99999", b"Content-Length: 1, 1",
    b"Content-Length: -1", b"Content-Length: 18446744073709551617", b"content-length:7",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Host: localhost", b"Host: evil.example", b"Host:", b"Host: [::1", b"Expect: 100-continue",
    b"Expect: x", b"Connection: close", b"Connection: Upgrade", b"Connection: content-length",
    b"Upgrade: h2c", b"Upgrade: websocket", b"Origin: null", b"Origin: http://localhost",
    b"Content-Type: text/plain", b"Content-Type: application/json; charset=utf-8",
    b"Content-Encoding: gzip", b"Authorization: Bearer x.y", b"Authorization: Basic eDp5",
    b" folded: yes", b"\tfolded", b": no name", b"no colon", b"X : y",
    b"X:" + b" " * 3_000 + b"\x01",
    b"X: " + b"y" * 20_000, b"X: \x00", b"X: a\rb", b"X: a\nb", b"X: \x7f", b"X: \xff\xfe",
    b"\xff: x",
)  # fmt: skip
_LINES: Final = (
    b"GET /livez HTTP/1.1", b"GET /decisions?limit=1 HTTP/1.1", b"GET /predict/k0-1 HTTP/1.1",
    b"HEAD /livez HTTP/1.1", b"DELETE /predict HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"POST /predict HTTP/1.0", b"POST /predict HTTP/2.0", b"POST /predict",
    b"POST predict HTTP/1.1",
    b"POST http://localhost/predict HTTP/1.1", b"CONNECT localhost:1 HTTP/1.1", b"GET / HTTP/1.1",
    b"POST /predict?dry_run=perhaps HTTP/1.1", b"POST /predict?dry_run=true HTTP/1.1",
    b"POST //predict HTTP/1.1", b"POST /predict/../labels HTTP/1.1", b"POST /%70redict HTTP/1.1",
    b"POST /predict%00 HTTP/1.1", b"GET /predict/%ff%00 HTTP/1.1", b"PUT /labels HTTP/1.1",
    b"POST /" + b"x" * 9_000 + b" HTTP/1.1", b"post /predict HTTP/1.1", b"",
)  # fmt: skip
_BYTES: Final = (
    b"\r",
    b"\n",
    b"\x00",
    b" ",
    b"\t",
    b":",
    b"\r\n",
    b"\r\n\r\n",
    b"\xff",
    b",",
    b";",
)
_GRAVE: Final = 0.5
"""Share of cases whose head is changed; in the others the body is."""


@dataclass(frozen=True)
class Case:
    """What goes over the wire.

    Attributes:
        text: The bytes.
        pieces: Where they are cut in transit.
    """

    text: bytes
    pieces: tuple[int, ...]

    def cut(self) -> Iterator[bytes]:
        """The bytes as they come in."""
        begin = 0
        for end in (*self.pieces, len(self.text)):
            if end > begin:
                yield self.text[begin:end]
                begin = end


def cases(seed: int, key: str) -> Iterator[Case]:
    """Cases without end.

    Args:
        seed: Of everything random.
        key: Sent with each; empty for none.
    """
    rng = random.Random(seed)
    source = payments(seed, prefix=f"{'k' if key else 'n'}{seed}")
    authorization = (f"Authorization: Bearer {key}".encode(),) if key else ()
    while True:
        path, content = _content(rng, source)
        body = json.dumps(content).encode()
        changes_head = rng.random() < _GRAVE
        if not changes_head:
            body = _changed_bytes(rng, body) if rng.random() < 0.4 else body
        elif rng.random() < 0.3:
            body = b""
        lines = [b"POST %b HTTP/1.1" % path, b"Host: localhost", b"Content-Type: application/json"]
        lines += authorization
        if rng.random() < 0.1:
            lines.append(b"Transfer-Encoding: chunked")
            body = _chunked(rng, body, spoil=changes_head)
        else:
            lines.append(b"Content-Length: %d" % len(body))
        if changes_head:
            for _ in range(rng.randrange(1, 4)):
                _change_lines(rng, lines)
        head = b"\r\n".join(lines) + b"\r\n\r\n"
        if changes_head and rng.random() < 0.3:
            head = _changed_bytes(rng, head)
        text = head + body
        if not text:
            continue
        if rng.random() < 0.03:
            text = text[: rng.randrange(1, len(text))]
        pieces = sorted(rng.randrange(len(text) + 1) for _ in range(rng.choice((0, 0, 0, 1, 2))))
        yield Case(text, tuple(pieces))


def _content(rng: random.Random, source: Iterator[dict[str, Any]]) -> tuple[bytes, Any]:
    """A path and what is sent there, with something wrong in half of them."""
    content = next(source)
    kind = rng.randrange(8)
    if kind == 0:
        content[rng.choice(list(content))] = rng.choice(_STRANGE)
    elif kind == 1:
        del content[rng.choice(["transaction_id", "amount_minor"])]
    elif kind == 2:
        content[rng.choice(["amount", "Amount_minor", "", "x" * 300])] = rng.choice(_STRANGE)
    elif kind == 3:
        content["attributes"][rng.choice(["channel", "", "y" * 200])] = rng.choice(_STRANGE)
    elif kind == 4 and rng.random() < 0.3:
        rows = [content] + [next(source) for _ in range(rng.randrange(4))]
        return b"/predict/batch", {"transactions": rows}
    elif kind == 5 and rng.random() < 0.2:
        verdict = rng.choice(("fraud", "legitimate", "perhaps"))
        return b"/labels", {"transaction_id": content["transaction_id"], "verdict": verdict}
    return b"/predict", content


def _change_lines(rng: random.Random, lines: list[bytes]) -> None:
    kind = rng.randrange(6)
    place = rng.randrange(1, len(lines)) if len(lines) > 1 else 0
    if kind == 0:
        lines[0] = rng.choice(_LINES)
    elif kind == 1 and place:
        del lines[place]
    elif kind == 2 and place:
        lines.insert(place, lines[place])
    elif kind == 3 and place:
        lines[place] = rng.choice((lines[place].lower(), lines[place].upper(), lines[place] + b" "))
    else:
        lines.insert(max(place, 1), rng.choice(_FIELDS))


def _changed_bytes(rng: random.Random, text: bytes) -> bytes:
    """Some bytes other, missing, or in between."""
    changed = bytearray(text)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 1:
            changed[at:at] = rng.choice(_BYTES)
        elif kind == 2:
            del changed[at : at + rng.randrange(1, 30)]
        else:
            changed[at:at] = b"[" * rng.randrange(3)
    return bytes(changed)


def _chunked(rng: random.Random, body: bytes, *, spoil: bool) -> bytes:
    """A body in chunks; spoiled, with something wrong around one."""
    cut = rng.randrange(len(body) + 1)
    pieces = [piece for piece in (body[:cut], body[cut:]) if piece]
    text = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    end = b"0\r\n\r\n"
    if spoil and rng.random() < 0.5:
        end = rng.choice(
            (
                b"0\r\nX: y\r\n\r\n",
                b"0;a=b\r\n\r\n",
                b"00\n\n",
                b"-1\r\n\r\n",
                b"",
                b"fffffffff\r\n",
            )
        )
    return text + end
