"""One id for a request: in its answer, in the lines of the log, and as the trace's."""

from __future__ import annotations

import re
import socket
from itertools import count
from pathlib import Path

import httpx
import pytest

from sentinel.access.limits import Rates
from sentinel.access.opening import open_gatekeeper
from sentinel.api.door import Door
from sentinel.api.payment_heads import PaymentHead, PaymentHeads
from sentinel.settings import Settings
from testkit.otlp import OtlpReceiver
from testkit.scratch import Server
from tests.telemetry.conftest import lines_of

_numbers = count(1)
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MADE = re.compile("[0-9a-f]{32}")
ROUTE = "/predict"


def payment() -> dict[str, object]:
    return {"transaction_id": f"traced-{next(_numbers)}", "amount_minor": 4999, "card_id": "K7"}


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({"X-Request-Id": "shop-17.a_b"}, "shop-17.a_b"),
        ({"x-request-id": "shop-18", "traceparent": f"00-{TRACE}-{SPAN}-00"}, "shop-18"),
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, TRACE),
        ({}, None),
        ({"X-Request-Id": "a b"}, None),
        ({"X-Request-Id": "jane@example.com"}, None),
        ({"X-Request-Id": "4111111111111111"}, None),
        ({"X-Request-Id": "x" * 65}, None),
        ({"traceparent": f"ff-{TRACE}-{SPAN}-00"}, None),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-00"}, None),
        ({"traceparent": f"00-{'4111111111111111'.zfill(32)}-{SPAN}-01"}, None),
        ({"traceparent": f"00-4111111111111111a{'0' * 15}-{SPAN}-01"}, None),
    ],
    ids=repr,
)
def test_a_request_has_the_id_of_its_caller_or_one_of_ours(
    client: httpx.Client, headers: dict[str, str], known: str | None
) -> None:
    for answer in (
        client.post("/predict", json=payment(), headers=headers),
        client.post("/predict", json={}, headers=headers),  # an error of the fast way
        client.post("/predict/batch", json={"transactions": [payment()]}, headers=headers),
        client.post("/labels", json={}, headers=headers),
        client.get("/health", headers=headers),
        client.get("/nothing", headers=headers),
    ):
        said = answer.headers.get_list("x-request-id")
        assert len(said) == 1, answer
        if known is None:
            assert MADE.fullmatch(said[0]), answer
        else:
            assert said == [known], answer


def test_made_ids_are_different_on_one_connection(client: httpx.Client) -> None:
    said = [client.post("/predict", json=payment()).headers["x-request-id"] for _ in range(20)]
    assert len(set(said)) == 20


def test_what_is_no_request_is_answered_with_an_id_too(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert re.search(rb"\r\nx-request-id: [0-9a-f]{32}\r\n", answer)


def test_what_is_refused_before_its_body_is_there_keeps_its_id_and_its_line(
    server: Server,
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"POST /predict?dry_run=perhaps HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
            b"Content-Type: application/json\r\nX-Request-Id: refused\r\n\r\n"
        )
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 422 "), answer
    assert b"\r\nx-request-id: refused\r\n" in answer
    lines = lines_of(server, answered=["refused"])
    (line,) = [one for one in lines if one.get("request_id") == "refused"]
    assert (line["message"], line["status"], line["route"]) == ("Answered.", 422, ROUTE)


def test_an_id_leads_from_the_answer_to_the_entry_of_the_log(
    server: Server, client: httpx.Client
) -> None:
    body = payment()
    answer = client.post("/predict", json=body, headers={"X-Request-Id": "to-the-entry"})
    assert answer.status_code == 200
    client.get(f"/decisions/{body['transaction_id']}", headers={"X-Request-Id": "looked-up"})
    lines = lines_of(server, answered=["to-the-entry", "looked-up"])
    (decided,) = [line for line in lines if line.get("request_ids") == ["to-the-entry"]]
    (answered,) = [line for line in lines if line.get("request_id") == "to-the-entry"]
    assert (decided["message"], answered["message"]) == ("Decided.", "Answered.")
    assert decided["sequence"] > 0
    assert (answered["method"], answered["route"], answered["status"]) == ("POST", "/predict", 200)
    assert 0 < answered["duration_us"] < 60_000_000
    (looked_up,) = [line for line in lines if line.get("request_id") == "looked-up"]
    assert looked_up["route"] == "/decisions/{transaction_id}"


def test_a_recorded_trace_of_a_caller_goes_on_through_state_score_and_commit(
    client: httpx.Client, receiver: OtlpReceiver
) -> None:
    trace = "5bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-{SPAN}-01"}
    assert client.post("/predict", json=payment(), headers=headers).status_code == 200
    spans = {span.name: span for span in receiver.of_trace(trace, 5)}
    assert set(spans) == {"decide", "wait", "state", "score", "commit"}
    whole = spans.pop("decide")
    assert whole.parent_span_id.hex() == SPAN
    said = {a.key: a.value for a in whole.attributes}
    assert said["sentinel.request_id"].string_value == trace
    assert said["sentinel.sequence"].int_value > 0
    assert said["sentinel.group_size"].int_value == 1
    ends = [whole.start_time_unix_nano]
    for name in ("wait", "state", "score", "commit"):
        span = spans[name]
        assert span.parent_span_id == whole.span_id
        assert span.start_time_unix_nano == ends[-1], name
        ends.append(span.end_time_unix_nano)
    assert ends == sorted(ends)
    assert ends[-1] == whole.end_time_unix_nano


def test_a_trace_that_nobody_records_is_not_sent(
    client: httpx.Client, receiver: OtlpReceiver
) -> None:
    first, second = "6bf92f3577b34da6a3ce929d0e0e4736", "7bf92f3577b34da6a3ce929d0e0e4736"
    for trace, flags in ((first, "00"), (second, "01")):
        headers = {"traceparent": f"00-{trace}-{SPAN}-{flags}"}
        assert client.post("/predict", json=payment(), headers=headers).status_code == 200
    assert len(receiver.of_trace(second, 5)) == 5
    assert not receiver.of_trace(first, 1, seconds=0)


def test_heads_that_differ_in_their_ids_are_one_head(tmp_path: Path) -> None:
    """Callers that send an id each are read as quickly as others, and fill no memory."""
    settings = Settings(workspace=tmp_path)
    gatekeeper = open_gatekeeper(settings)
    try:
        heads = PaymentHeads(Door(settings.api, gatekeeper), Rates(settings.access))

        def read(ids: bytes) -> PaymentHead:
            text = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1%b\r\nContent-Length: 9" % ids
            found = heads.read(text + b"\r\nContent-Type: application/json", "127.0.0.1", True)
            assert isinstance(found, PaymentHead)
            return found

        plain = read(b"")
        for number in range(100):
            span = b"00-%032x-%016x-01" % (17, number + 1)
            found = read(b"\r\nX-Request-Id: r-%d\r\ntraceparent: %b" % (number, span))
            assert found.ids.request_id == f"r-{number}"
            assert found.ids.sampled
            assert found.principal == plain.principal
        assert read(b"") is plain
        assert len(heads._known) == 1
    finally:
        gatekeeper.close()
