"""The proxy sends payments to scorers that are ready, and a scorer that dies costs no answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx

from testkit.scratch import Server, make_workspace, serving
from testkit.servers import wait_until
from testkit.watching import Proxy
from tests.api.hidden_requests import CASES, Case, answers_to, hidden_payment


def test_a_scorer_that_dies_costs_no_answer(scorer: Server, tmp_path: Path) -> None:
    with serving(make_workspace(tmp_path / "second")) as second:
        addresses = [server.url.removeprefix("http://") for server in (scorer, second)]
        with Proxy(tmp_path / "proxy", addresses) as proxy, httpx.Client(timeout=60) as client:
            metrics = f"http://127.0.0.1:{proxy.metrics_port}/metrics"
            served = 'responses_total{{proxy="scorers",server="scorer-{}",code="2xx"}}'

            def answers(number: int) -> float:
                lines = client.get(metrics).text.splitlines()
                (line,) = [x for x in lines if served.format(number) in x]
                return float(line.rpartition(" ")[2])

            def both_are_up() -> bool:
                lines = client.get(metrics).text.splitlines()
                up = [x for x in lines if "haproxy_server_status{" in x and 'state="UP"' in x]
                return [x.endswith(" 1") for x in up] == [True, True]

            wait_until(both_are_up, 300, "two scorers behind the proxy")
            for number in range(60):
                if number == 20:
                    second.kill()
                payment = {"transaction_id": f"proxied-{number}", "amount_minor": 100}
                answer = client.post(f"{proxy.url}/predict", json=payment)
                assert answer.status_code == 200, answer.text
            assert answers(1) > 20
            assert answers(2) > 0
            # A mistake of the client's is the scorer's answer, not the proxy's.
            wrong = client.post(f"{proxy.url}/predict", json={})
            assert wrong.status_code == 422
            assert wrong.headers["content-type"] == "application/problem+json"


NO_TWO_WAYS = {
    "CL and TE", "TE and CL", "two lengths", "two codings", "an unknown coding",
    "a coding after another", "a coding before another", "a quoted coding",
    "a coding after a vertical tab", "a coding before a tab", "a length with a sign",
    "a length in hexadecimal", "a length with a blank", "a huge length", "a space before the colon",
}  # fmt: skip


def test_what_is_hidden_from_the_proxy_is_not_recorded(scorer: Server, tmp_path: Path) -> None:
    """The proxy may pass on what a scorer refuses, but never one request that becomes two."""

    def send(case: Case) -> str:
        identifier, hidden = hidden_payment(f"behind a proxy, {case.name}")
        answers = answers_to(proxy.port, case.make(hidden), nothing_follows=True)
        kept = client.get(f"{scorer.url}/predict/{quote(identifier, safe='')}").status_code == 200
        # Where the proxy itself reads a request there, it has an answer, and nothing was hidden.
        seen = identifier.encode() in answers
        assert kept == seen, f"{case.name}: {answers!r}"
        return case.name if kept else ""

    address = scorer.url.removeprefix("http://")
    with (
        Proxy(tmp_path / "proxy", [address]) as proxy,
        httpx.Client(timeout=60) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        recorded = [name for name in threads.map(send, CASES) if name]
    # Lines, versions and chunks the proxy reads generously, and passes on as they should be. Where
    # a request ends is never a matter of taste.
    assert not [name for name in recorded if name in NO_TWO_WAYS], recorded
    assert len(recorded) < len(CASES) // 3, recorded
