"""Slow, large and many requests have an end, and others do not notice."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import httpx
import pytest

from sentinel.access.managing import KeyRights, create_key
from sentinel.access.open_store import open_store
from sentinel.access.pepper import pepper_of
from sentinel.access.scopes import Scope
from sentinel.api.connections import DISCARD_SECONDS
from sentinel.api.protocol import FULL_READ_BYTES
from testkit.ports import free_port
from testkit.scratch import Server, make_workspace, serving
from tests.api.conftest import payment
from tests.api.hidden_requests import GOODBYE, HOST, JSON, LINE, bare, post, statuses_of
from tests.api.test_protocol import Wire

CONNECTIONS = 24
ADMIN_PORT = free_port()
SMALL = {
    "SENTINEL_API__HEAD_SECONDS": "0.6",
    "SENTINEL_API__BODY_SECONDS": "0.8",
    "SENTINEL_API__ANSWER_SECONDS": "1",
    "SENTINEL_API__IDLE_SECONDS": "1.5",
    "SENTINEL_API__MAX_CONNECTIONS": str(CONNECTIONS),
    "SENTINEL_API__MAX_BODY_BYTES": "60000",
    "SENTINEL_API__MAX_BUFFERED_BYTES": "1200000",
    "SENTINEL_API__ADMIN_PORT": str(ADMIN_PORT),
}


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose bounds are small."""
    settings = make_workspace(tmp_path_factory.mktemp("bounded"))
    with serving(settings, environment=SMALL) as running:
        yield running


@contextmanager
def wires(server: Server, count: int) -> Iterator[list[Wire]]:
    opened = [Wire(server) for _ in range(count)]
    try:
        yield opened
    finally:
        for wire in opened:
            wire.close()


def decided(server: Server) -> bool:
    """Whether a payment passes by a new connection."""
    return statuses_of(server.port, post(json.dumps(payment()).encode()) + GOODBYE) == [200, 200]


CHUNKED = bare(LINE, HOST, JSON, b"Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"POST /predict HT", 408),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX: ", 408),
        (post(b"{", length=900), 408),
        (post(b"[" * 70_000, path="/predict/batch", length=900_000), 408),
        (post(b"", path="/labels", length=900), 408),
        (CHUNKED + b"1\r\n{\r\n", 408),
        (CHUNKED + b"ff", 408),
        (b"GET /" + b"x" * 8_300, 414),
        (b"GET /" + b"x" * 8_200 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 16_400, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 16_400 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"x: y\r\n" * 100 + b"\r\n", 431),
        (post(b"", length=60_001), 413),
        (CHUNKED + b"ea61\r\n", 413),
        (CHUNKED + b"1\r\n \r\n" * 1_025, 413),
    ],
)
def test_what_does_not_end_is_ended(bounded: Server, text: bytes, status: int) -> None:
    assert statuses_of(bounded.port, text) == [status]


def test_deadlines_are_those_of_the_settings(bounded: Server) -> None:
    for text, seconds in ((b"", 0.6), (b"GET /", 0.6), (post(b"{", length=9), 0.8)):
        began = time.monotonic()
        statuses_of(bounded.port, text)
        assert seconds <= time.monotonic() - began < seconds + 5.0


def test_what_a_refused_client_pours_is_read_slowly_and_its_answer_arrives(
    server: Server,
) -> None:
    poured, in_buffers = 16_000_000, 6_000_000
    with wires(server, 1) as (wire,):
        wire.send(b"GET / HTTP/1.1\r\nX: " + b"y" * 16_400)
        time.sleep(0.2)
        began = time.monotonic()
        wire.send(b"y" * poured)
        reads = (poured - in_buffers) / FULL_READ_BYTES
        assert time.monotonic() - began > reads * DISCARD_SECONDS / 2
        assert wire.answer()[0] == 431


def test_bodies_that_fill_whole_reads_are_answered_and_so_is_what_follows(server: Server) -> None:
    whole = json.dumps({"transactions": [payment()]}).encode()
    head = len(post(b"", path="/predict/batch", length=1_000_000))
    with wires(server, 1) as (wire,):
        for reads in (1, 2, 3, 8):
            body = whole.ljust(reads * FULL_READ_BYTES - head)
            wire.send(post(body, path="/predict/batch"))
            assert wire.answer()[0] == 200
            wire.send(post(json.dumps(payment()).encode()))
            wire.scored()
            # The next request comes in the same read as the end of a body.
            wire.send(post(body, path="/predict/batch") + post(json.dumps(payment()).encode()))
            assert wire.answer()[0] == 200
            wire.scored()


def trickle(wire: Wire, piece: bytes) -> bytes:
    """Send a piece again and again until there is an answer; its first line."""
    wire.socket.settimeout(0.05)
    for _ in range(400):
        wire.send(piece)
        with suppress(TimeoutError):
            return wire.socket.recv(12)
    return b"none"


@pytest.mark.parametrize(
    ("text", "piece"),
    [(b"GET /", b"x"), (post(b"[", length=900), b"["), (CHUNKED, b"1\r\n1\r\n")],
)
def test_bytes_that_trickle_in_do_not_move_a_deadline(
    bounded: Server, text: bytes, piece: bytes
) -> None:
    with wires(bounded, 1) as (wire,):
        wire.send(text)
        assert trickle(wire, piece) == b"HTTP/1.1 408"


def test_a_connection_without_requests_is_ended(bounded: Server) -> None:
    with wires(bounded, 1) as (wire,):
        wire.send(post(json.dumps(payment()).encode()))
        wire.scored()
        began = time.monotonic()
        assert wire.ended()
        assert 1.4 < time.monotonic() - began < 10


def sent_until_cut_off(connection: socket.socket, text: bytes) -> int:
    """How often a text can be sent before the connection is gone; at most 200 times."""
    for number in range(200):
        try:
            connection.sendall(text)
        except OSError:
            return number
        time.sleep(0.02)
    return 200


def test_a_client_that_takes_no_answer_is_cut_off(bounded: Server) -> None:
    rows = [payment() for _ in range(300)]
    batch = json.dumps({"transactions": rows}).encode()
    with closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        deaf.connect(("127.0.0.1", bounded.port))
        deaf.settimeout(20)
        assert sent_until_cut_off(deaf, post(batch, path="/predict/batch")) < 200
    assert decided(bounded)


def test_silent_connections_make_room_and_then_there_is_a_clean_503(bounded: Server) -> None:
    with wires(bounded, CONNECTIONS) as silent:
        busy = silent[:CONNECTIONS]
        statuses = []
        for _ in range(4):
            statuses += statuses_of(bounded.port, GOODBYE)
        assert statuses == [503] * 4
        time.sleep(2.0)
        assert decided(bounded)
        assert all(wire.ended() for wire in busy)


def test_large_requests_make_room_and_small_payments_pass(bounded: Server) -> None:
    half = post(b"[" * 200_000, path="/predict/batch", length=1_000_000)
    with wires(bounded, 8) as large:
        for wire in large:
            wire.send(half)
        time.sleep(0.1)
        assert all(decided(bounded) for _ in range(5))
        statuses = [wire.answer()[0] for wire in large]
    assert 503 in statuses
    assert set(statuses) <= {408, 503}
    assert decided(bounded)


def test_metrics_and_docs_are_at_the_admin_port_alone(bounded: Server) -> None:
    admin = f"http://127.0.0.1:{ADMIN_PORT}"
    for path in ("/metrics", "/docs", "/openapi.json", "/redoc"):
        assert httpx.get(admin + path).status_code == 200
        refused = httpx.get(bounded.url + path)
        assert (refused.status_code, refused.json()["code"]) == (404, "not_at_this_port")
    page = httpx.get(f"{admin}/docs").headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page
    assert httpx.get(f"{admin}/readyz").status_code == 200
    assert httpx.post(f"{admin}/predict", json=payment()).status_code == 404
    assert httpx.get(f"{admin}/decisions").status_code == 404


def test_a_key_has_a_rate_and_learns_what_is_left(server: Server) -> None:
    with serving(make_workspace(server.settings.workspace / "rates")) as limited:
        store, pepper = open_store(limited.settings), pepper_of(limited.settings, make=True)
        rights = KeyRights(
            scopes=frozenset({Scope.SCORE}), requests_per_minute=5, payments_per_minute=20
        )
        key = create_key(store, pepper, "shop", rights)
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=limited.url, headers=headers, timeout=60) as client:
            while "ratelimit" not in (first := client.post("/predict", json=payment())).headers:
                time.sleep(0.05)  # the server does not know the key yet, and is open
            assert first.status_code == 200
            assert first.headers["ratelimit-policy"] == '"requests";q=5;w=60, "payments";q=20;w=60'
            assert first.headers["ratelimit"].startswith('"requests";r=4;t=12, "payments";r=19')
            rows = {"transactions": [payment() for _ in range(15)]}
            assert client.post("/predict/batch", json=rows).status_code == 200
            refused = client.post("/predict/batch", json=rows)
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert "20 payments a minute" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) > 10
            asked = client.get("/health")
            assert asked.headers["ratelimit"].startswith('"requests";r=1;')
            client.get("/health")
            refused = client.post("/predict", json=payment())
            assert refused.status_code == 429
            assert refused.headers["ratelimit"].startswith('"requests";r=0;')
            assert client.get("/livez").status_code == 200
