"""What is known of an experiment, over HTTP: judged beside the payments, with its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from testkit.judged import MATURITY, NAME, make_judged_workspace
from testkit.scratch import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = make_judged_workspace(tmp_path_factory.mktemp("results"))
    with serving(settings, environment=MATURITY) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120) as connection:
        yield connection


def seen(client: httpx.Client, name: str, wait_seconds: float = 60.0) -> Any:
    answer = client.get(f"/experiments/{name}", params={"wait_seconds": wait_seconds})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_whoever_does_not_wait_learns_that_it_is_being_judged_and_then_how(
    client: httpx.Client,
) -> None:
    first = seen(client, NAME, wait_seconds=0)
    assert (first["status"], first["judging"]) == (None, True)
    assert first["here"]["experiment"]["version"] == "2"
    found = seen(client, NAME)
    said = found["status"]["judgement"]
    assert said["verdict"] == "promote"
    last = said["looks"][-1]
    assert 0.5 < last["low"] < last["part"] < last["high"]
    assert min(last["champion"], last["challenger"]) >= 20
    assert said["immature_challenger"] > 0
    assert found["judged_at_us"] == pytest.approx(time.time_ns() / 1e3, abs=60e6)
    # Who asks again at once gets the same judgement, without another job.
    began = time.monotonic()
    again = seen(client, NAME)
    assert again["judged_at_us"] == found["judged_at_us"]
    assert time.monotonic() - began < 0.5


def test_guardrails_are_shown_with_what_they_saw_and_their_limits(client: httpx.Client) -> None:
    batch = [
        {"transaction_id": f"g{n}", "amount_minor": 500, "card_id": f"g{n}"} for n in range(100)
    ]
    assert client.post("/predict/batch", json={"transactions": batch}).status_code == 200
    deadline = time.monotonic() + 20
    readings: dict[str, Any] = {}
    while readings.get("alerts", {}).get("payments", 0) < 30:
        assert time.monotonic() < deadline, readings
        time.sleep(0.2)
        readings = {one["name"]: one for one in seen(client, NAME, 0)["guardrails"]}
    assert readings["alerts"]["limit"] == 3.0
    assert 0 <= readings["alerts"]["value"] <= 1
    assert readings["errors"] == {
        "name": "errors",
        "value": 0.0,
        "champion": None,
        "limit": 1.0,
        "payments": 100,
    }
    assert readings["score_distance"]["limit"] is None
    assert readings["scoring_us"]["value"] > 0


def test_a_shadow_is_shown_and_not_judged(client: httpx.Client) -> None:
    found = seen(client, "night")
    assert found["status"]["running"] is True
    assert found["status"]["judgement"] is None


def test_what_cannot_be_promoted_says_why(client: httpx.Client) -> None:
    missing = client.post("/experiments/nobody/promote")
    assert missing.status_code == 404
    assert "There never was an experiment 'nobody'" in missing.json()["detail"]
    assert client.get("/experiments/nobody").status_code == 404
    shadow = client.post("/experiments/night/promote", params={"why": "it looks good"})
    assert shadow.status_code == 422
    assert "shares no payments with the champion" in shadow.json()["detail"]
    # It is better than what serves, and the registry knows no such champion: nothing has changed.
    unknown = client.post(f"/experiments/{NAME}/promote", params={"on_behalf_of": "ann"})
    assert unknown.status_code == 409, unknown.text
    assert "the registry's champion is none by now" in unknown.json()["detail"]
    found = seen(client, NAME, 0)
    assert found["promotion"]["state"] == "failed"
    assert found["promotion"]["by"] == "ann (by anyone on this machine)"
    assert found["promotion"]["problem"] == unknown.json()["detail"]
    assert found["here"]["running"]


def test_a_change_is_kept_with_the_person_for_whom_it_was_made(client: httpx.Client) -> None:
    body = {"name": "night", "share": 0.5, "why": "half is enough", "on_behalf_of": "ann"}
    assert client.post("/experiments/share", json=body).status_code == 200
    asked = {"why": "seen enough", "on_behalf_of": "bob"}
    assert client.delete("/experiments/night", params=asked).status_code == 200
    newest = client.get("/experiments/history", params={"most": 2}).json()["versions"]
    assert [one["by"] for one in newest] == [
        "bob (by anyone on this machine)",
        "ann (by anyone on this machine)",
    ]
    deadline = time.monotonic() + 30
    while (ended := seen(client, "night")["status"])["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert ended["ended_why"] == "seen enough"
