"""The proxy sends payments to scorers that are ready, and a scorer that dies costs no answer."""

from __future__ import annotations

from pathlib import Path

import httpx

from testkit.scratch import Server, make_workspace, serving
from testkit.servers import wait_until
from tests.deploy.servers import Proxy


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
