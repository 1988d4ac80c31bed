"""The dashboard's view of the API: real answers, real failures, nothing unescaped."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import httpx
import msgspec
import pytest

from sentinel.dashboard import panels
from sentinel.dashboard.api_types import Estimate, MeasuredOn, Model
from sentinel.dashboard.client import ScoringApi
from sentinel.domain import Unavailable
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.settings import MoneySettings
from testkit.ports import free_port
from tests.dashboard.conftest import Stage
from tests.dashboard.test_feed import decision, health


class Strange(http.server.BaseHTTPRequestHandler):
    """Another service at the scorer's address."""

    def do_GET(self) -> None:
        body = b'{"detail": "not today"}' if self.path == "/health" else b"<html>"
        self.send_response(503 if self.path == "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def strange() -> Iterator[ScoringApi]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Strange)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with closing(ScoringApi(f"http://127.0.0.1:{server.server_port}")) as api:
        yield api
    server.shutdown()
    server.server_close()


def test_nobody_at_the_address_says_what_to_start() -> None:
    with (
        closing(ScoringApi(f"http://127.0.0.1:{free_port()}")) as api,
        pytest.raises(Unavailable, match=r"does not answer\. Start it with `sentinel serve`"),
    ):
        api.health()


def test_an_address_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            closing(ScoringApi(url, timeout_seconds=0.3)) as api,
            pytest.raises(Unavailable, match="takes too long to answer"),
        ):
            api.health()


def test_an_error_answer_is_passed_on(strange: ScoringApi) -> None:
    with pytest.raises(Unavailable, match="answered /health with 503: not today"):
        strange.health()


def test_another_service_is_recognised(strange: ScoringApi) -> None:
    with pytest.raises(Unavailable, match="not what this dashboard expects"):
        strange.decisions()
    with pytest.raises(Unavailable, match="not what this dashboard expects"):
        strange.totals()


@pytest.mark.slow
def test_a_scorer_answers_every_question(stage_with_payments: Stage) -> None:
    stage_with_payments.wait_until_indexed()
    answers = stage_with_payments.answers
    with closing(ScoringApi(stage_with_payments.server.url)) as api:
        page = api.decisions(limit=3)
        assert [row.transaction_id for row in page.decisions] == [
            answer["transaction_id"] for answer in answers[:-4:-1]
        ]
        assert page.next_before == page.decisions[-1].sequence
        one = page.decisions[1]
        assert api.decision(one.sequence) == one
        assert api.decision(10**9) is None
        totals = api.totals()
        assert totals.review == sum(answer["decision"] == "review" for answer in answers)
        assert totals.decisions == len(answers)
        given = api.health()
        assert given.model.metrics["average_precision"].value == 0.71
        # Who let it serve, and by which key, on every page that names the model.
        (key,) = trusted_keys_of(stage_with_payments.server.settings).ids
        assert (given.model.signed, given.model.signed_by) == ("passed", key)
        assert f"Passed the gate, signed by key {key}." in panels.model(given)
        (served,) = httpx.get(f"{stage_with_payments.server.url}/models").json()["versions"]
        assert (served["signed"], served["signed_by"], served["provisional"]) == (
            "passed",
            key,
            None,
        )


def test_what_comes_from_outside_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    shown = panels.detail(decision(1, transaction_id=evil, merchant_id=evil), MoneySettings())
    shown += panels.model(health(model=Model(loaded=True, name=evil, version=evil, kind=evil)))
    shown += panels.model(health(model=Model(loaded=False, problem=evil)))
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") == 6


def test_a_model_that_nobody_vouches_for_is_called_so() -> None:
    unsigned = Model(loaded=True, name="m", version="1")
    assert "Not signed" in panels.model(health(model=unsigned))
    provisional = msgspec.structs.replace(unsigned, signed="provisional", signed_by="ab12")
    assert "Provisional by the gate, signed by key ab12." in panels.model(health(model=provisional))


def test_the_figures_of_a_model_say_how_many_frauds_they_rest_on() -> None:
    given = Model(
        loaded=True,
        name="m",
        version="1",
        metrics={"average_precision": Estimate(0.71)},
        measured_on=MeasuredOn(payments=23_456, frauds=211),
    )
    said = "on 23,456 payments with 211 known frauds, none of which it had seen"
    assert said in panels.model(health(model=given))
    of_before = msgspec.structs.replace(given, measured_on=None)
    assert "on payments it had not seen" in panels.model(health(model=of_before))


def test_attributes_that_no_feature_reads_stand_among_the_services() -> None:
    given = health()
    assert "no feature reads" not in panels.service(given)
    names = ("<b>", "note", "size", "voucher")
    store = msgspec.structs.replace(given.feature_store, unused_attributes=names)
    said = panels.service(msgspec.structs.replace(given, feature_store=store))
    assert "&lt;b&gt;, note, size and 1 more" in said
