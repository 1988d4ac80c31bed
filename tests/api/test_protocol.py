"""HTTP as clients really speak it: pieces, pipelines, odd heads, hang-ups, a server that stops."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testkit.scratch import Server, make_workspace, serving
from tests.api.conftest import payment

SECURITY = {
    "cache-control",
    "content-security-policy",
    "cross-origin-resource-policy",
    "referrer-policy",
    "x-content-type-options",
}


def request(
    body: bytes, *, path: str = "/predict", head: str = "", length: int | None = None
) -> bytes:
    size = len(body) if length is None else length
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"{head}Content-Length: {size}\r\n\r\n".encode()
        + body
    )


CHUNKED = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def body_of(**changes: Any) -> bytes:
    return json.dumps(payment(**changes)).encode()


class Wire:
    """A connection on which bytes are sent as they are, and answers are read one by one."""

    def __init__(self, server: Server) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb")

    def send(self, *pieces: bytes, pause: float = 0.02) -> None:
        for number, piece in enumerate(pieces):
            if number:
                time.sleep(pause)
            self.socket.sendall(piece)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        status = self._file.readline()
        assert status, "the server hung up"
        headers = {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = self._file.read(int(headers.get("content-length", "0")))
        return int(status.split()[1]), headers, body

    def scored(self) -> dict[str, Any]:
        """The next answer, which is a decision."""
        status, headers, body = self.answer()
        assert (status, headers["content-type"]) == (200, "application/json"), body
        decision: dict[str, Any] = json.loads(body)
        return decision

    def ended(self) -> bool:
        return self._file.read(1) == b""

    def close(self) -> None:
        self._file.close()
        self.socket.close()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    connection = Wire(server)
    with contextlib.closing(connection):
        yield connection


def test_a_connection_answers_one_payment_after_the_other(wire: Wire) -> None:
    for number in range(3):
        wire.send(request(body_of(transaction_id=f"keep-{number}")))
        status, headers, body = wire.answer()
        assert (status, json.loads(body)["transaction_id"]) == (200, f"keep-{number}")
        plain = {"date", "content-type", "content-length", "x-request-id"}
        assert headers.keys() - SECURITY == plain
        assert headers.keys() >= SECURITY


def test_pipelined_requests_are_answered_in_their_order(wire: Wire) -> None:
    ids = [f"pipe-{number}" for number in range(40)]
    wire.send(b"".join(request(body_of(transaction_id=i)) for i in ids))
    assert [wire.scored()["transaction_id"] for _ in ids] == ids


def test_pipelined_repeats_and_other_routes_keep_their_order(wire: Wire) -> None:
    one, two = body_of(), body_of()
    health = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    wire.send(request(one) + request(one) + health + request(two) + request(b"{") + request(one))
    first = wire.answer()
    assert first[0] == 200
    assert wire.answer()[2] == first[2]
    assert wire.answer()[2] == b"ok"
    assert wire.scored()["transaction_id"] == json.loads(two)["transaction_id"]
    assert wire.answer()[0] == 400
    assert wire.answer()[2] == first[2]


def test_a_thousand_pipelined_repeats_are_answered(wire: Wire) -> None:
    body = body_of()
    wire.send(request(body))
    first = wire.answer()[2]
    sender = threading.Thread(target=wire.send, args=(request(body) * 1_000,))
    sender.start()
    answers = {wire.answer()[2] for _ in range(1_000)}
    sender.join()
    assert answers == {first}


@pytest.mark.parametrize("size", [1, 7, 60, 200])
def test_a_request_may_come_in_pieces_of_any_size(wire: Wire, size: int) -> None:
    whole = request(body_of()) + request(body_of())
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    wire.send(*pieces, pause=0.0005)
    assert wire.scored()["transaction_id"] != wire.scored()["transaction_id"]


def test_head_and_body_may_come_apart(wire: Wire) -> None:
    head, _, body = request(body_of()).partition(b"\r\n\r\n")
    for _ in range(2):
        wire.send(head + b"\r\n\r\n", body[:10], body[10:])
        assert wire.answer()[0] == 200


def test_the_next_request_may_begin_in_the_packet_that_ends_one(wire: Wire) -> None:
    one, two = request(body_of()), request(body_of())
    wire.send(one + two[:30], two[30:])
    wire.scored()
    wire.scored()


def test_chunked_bodies_are_read(wire: Wire) -> None:
    body = body_of()
    wire.send(
        CHUNKED,
        b"%x\r\n%b\r\n" % (len(body[:40]), body[:40]),
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(body[40:]), body[40:]),
    )
    assert wire.scored()["transaction_id"] == json.loads(body)["transaction_id"]
    wire.send(request(body_of()))
    wire.scored()


def test_a_client_that_asks_first_is_told_to_go_on(wire: Wire) -> None:
    head, _, body = request(body_of(), head="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
    wire.send(head + b"\r\n\r\n")
    assert wire.answer()[0] == 100
    wire.send(body)
    wire.scored()


def test_connection_close_is_honoured(wire: Wire) -> None:
    wire.send(request(body_of(), head="Connection: close\r\n"))
    status, headers, _ = wire.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert wire.ended()


@pytest.mark.parametrize(
    "head",
    [
        "Content-Length: 3\r\n",  # a second length
        "Transfer-Encoding: chunked\r\n",  # a length, and none
        "Broken Header\r\n",
        "X: y\r\n folded: z\r\n",
        "X: y\n\nPOST /predict HTTP/1.1\n",
    ],
)
def test_a_head_that_is_not_http_is_a_400_and_the_end(wire: Wire, head: str) -> None:
    wire.send(request(body_of(), head=head))
    assert wire.answer()[0] == 400
    assert wire.ended()


def test_a_length_that_is_no_number_is_a_400(wire: Wire) -> None:
    wire.send(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nhello")
    assert wire.answer()[0] == 400
    assert wire.ended()


def test_what_is_no_http_at_all_is_a_400(wire: Wire) -> None:
    wire.send(b"\x16\x03\x01\x02\x00\r\n\r\n")
    assert wire.answer()[0] == 400
    assert wire.ended()


def test_a_body_that_is_too_large_is_a_413(wire: Wire) -> None:
    wire.send(request(b" " * 1_000_001))
    status, headers, body = wire.answer()
    assert (status, headers["content-type"]) == (413, "application/problem+json")
    assert json.loads(body)["code"] == "body_too_large"


def test_the_largest_body_is_read_in_one_or_many_pieces(wire: Wire) -> None:
    body = body_of()
    for size in (1_000_000, 300_000):
        whole = request(body + b" " * (1_000_000 - len(body)))
        wire.send(*(whole[i : i + size] for i in range(0, len(whole), size)), pause=0.001)
        assert wire.answer()[0] == 200


def test_problems_are_the_same_documents_on_both_ways(wire: Wire) -> None:
    for body, status in ((b"{", 400), (b'{"amount_minor":1}', 422), (b"\xff", 400)):
        wire.send(request(body))
        straight = wire.answer()
        wire.send(CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        around = wire.answer()
        for name in ("date", "x-request-id"):
            straight[1].pop(name), around[1].pop(name)
        assert straight == around
        assert straight[0] == status


def test_dry_runs_and_their_mistakes_are_seen_in_the_query(wire: Wire) -> None:
    body = body_of()
    wire.send(request(body, path="/predict?dry_run=true"))
    dry = wire.scored()
    wire.send(request(body, path="/predict?dry_run=false"))
    assert wire.scored()["fraud_probability"] == dry["fraud_probability"]
    for mistake in ("dry_run=perhaps", "dry_run", "dry_run=true&dry_run=false"):
        wire.send(request(body, path="/predict?" + mistake))
        assert wire.answer()[0] == 422


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_misspelt_dry_run_decides_nothing(wire: Wire, path: str) -> None:
    rows = payment(transaction_id=f"misspelt-{len(path)}")
    body = json.dumps({"transactions": [rows]} if "batch" in path else rows).encode()
    wire.send(request(body, path=path + "?dryrun=true&dry_run=true"))
    status, _, answer = wire.answer()
    assert status == 422
    assert b"dryrun: is not a parameter here; did you mean 'dry_run'?" in answer
    wire.send(b"GET /decisions/misspelt-%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % len(path))
    assert wire.answer()[0] == 404


def test_other_paths_and_methods_are_not_taken_for_payments(wire: Wire) -> None:
    wire.send(request(body_of(), path="/predicted"))
    assert wire.answer()[0] == 404
    wire.send(b"GET /predict HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, headers, _ = wire.answer()
    assert (status, headers["allow"]) == (405, "POST")
    wire.send(request(body_of()))
    wire.scored()


def test_a_batch_is_answered_on_a_pipelined_connection(wire: Wire) -> None:
    rows = [payment(transaction_id=f"lot-{number}") for number in range(300)]
    batch = json.dumps({"transactions": rows}).encode()
    wire.send(request(batch, path="/predict/batch") + request(body_of(transaction_id="after")))
    results = json.loads(wire.answer()[2])["results"]
    assert [row["transaction_id"] for row in results] == [row["transaction_id"] for row in rows]
    assert wire.scored()["transaction_id"] == "after"


def test_a_client_that_hangs_up_takes_no_decision_with_it(
    server: Server, client: httpx.Client
) -> None:
    bodies = [body_of(transaction_id=f"gone-{number}") for number in range(20)]
    for body in bodies:
        gone = Wire(server)
        gone.send(request(body))
        gone.close()
    half = Wire(server)
    half.send(request(body_of())[:-5])
    half.close()
    for body in bodies:
        decision = client.post("/predict", content=body)
        assert decision.status_code == 200
    assert client.get("/readyz").status_code == 200


def test_a_client_that_never_reads_is_not_answered_for_ever(server: Server) -> None:
    body = body_of()
    deaf = Wire(server)
    deaf.send(request(body))
    deaf.scored()
    deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.socket.settimeout(0.5)
    many = request(body) * 1_000
    with contextlib.closing(deaf), pytest.raises(TimeoutError):
        # 100 MB or so, more than any buffer on the way.
        deaf.send(*[many] * 200, pause=0)


def test_what_has_arrived_is_answered_before_the_server_stops(tmp_path: Path) -> None:
    with serving(make_workspace(tmp_path / "w")) as server, contextlib.ExitStack() as opened:
        idle, busy, late = Wire(server), [Wire(server) for _ in range(8)], Wire(server)
        for connection in (idle, *busy, late):
            opened.callback(connection.close)
        for number, connection in enumerate(busy):
            connection.send(request(body_of(transaction_id=f"stop-{number}")))
        whole = request(body_of(transaction_id="stop-late"))
        late.send(whole[:-10])
        time.sleep(0.2)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        answers = [connection.answer() for connection in busy]
        assert [status for status, _, _ in answers] == [200] * 8
        assert idle.ended()
        time.sleep(0.5)
        late.send(whole[-10:])
        status, headers, body = late.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert json.loads(body)["transaction_id"] == "stop-late"
        assert late.ended()
        stopping.join()
