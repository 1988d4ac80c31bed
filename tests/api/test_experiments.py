"""Experiments over HTTP: who may change them, and that live switches lose no payment."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import httpx
import pytest

from sentinel.access.managing import KeyRights, create_key
from sentinel.access.open_store import open_store
from sentinel.access.pepper import pepper_of
from sentinel.access.scopes import Scope
from sentinel.experiments.assignment import draw
from sentinel.features.plan.parts import RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.settings import Settings
from testkit.experiments import install_version
from testkit.scratch import default_plan, make_workspace, serving
from tests.features.plans import aggregate

CLIENTS = 4
CARDS = 60
NEW_FEATURES = Plan(
    (View("week", ("card_id",), (aggregate("card_sum_week", "sum", 7 * DAY_US, HOUR_US),)),),
    (RequestFeature("note", "number", "note"), RequestFeature("paid", "amount")),
)


class Site(NamedTuple):
    url: str
    keys: dict[Scope, str]

    def client(self, scope: Scope) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.keys[scope]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = make_workspace(tmp_path_factory.mktemp("experiments"), trees=3, leaves=4)
    settings = Settings(workspace=settings.workspace, feature_store=settings.feature_store)
    for version in ("11", "12"):
        install_version(settings, default_plan(), version)
    install_version(settings, default_plan(), "13", verdict="candidate")
    install_version(settings, NEW_FEATURES, "14")
    view = (
        '{"name": "sentinel", "answered_at_us": 1, "versions": ['
        '{"version": "13", "signed": "candidate"}, {"version": "12", "signed": "passed"}, '
        '{"version": "14", "signed": "passed"}, '
        '{"version": "11", "signed": "passed"}]}'
    )
    (settings.models_dir / "registry.json").write_text(view)
    pepper = pepper_of(settings, make=True)
    keys = {
        scope: create_key(
            open_store(settings), pepper, f"the-{scope}", KeyRights(scopes=frozenset({scope}))
        )
        for scope in (Scope.SCORE, Scope.MODELS, Scope.ADMIN, Scope.DECISIONS)
    }
    with serving(settings) as server:
        yield Site(server.url, keys)


@pytest.fixture
def admin(site: Site) -> Iterator[httpx.Client]:
    with site.client(Scope.ADMIN) as client:
        yield client
        for one in client.get("/experiments").json()["experiments"]:
            stop(client, one["experiment"]["name"])


def start(client: httpx.Client, name: str, version: str, **more: Any) -> None:
    body = {"name": name, "version": version, "kind": "challenger", "why": "a test"} | more
    answer = client.post("/experiments", json=body)
    assert answer.status_code == 200, answer.text
    settle(client, answer.json()["version"])


def stop(client: httpx.Client, name: str) -> None:
    answer = client.delete(f"/experiments/{name}", params={"why": "the test is over"})
    assert answer.status_code == 200, answer.text
    settle(client, answer.json()["version"])


def settle(client: httpx.Client, version: int) -> None:
    """Wait until the scorer follows a version of the line-up: it has a second for that."""
    began = time.monotonic()
    while (seen := client.get("/experiments").json())["version"] != version or not all(
        one["running"] for one in seen["experiments"]
    ):
        assert time.monotonic() < began + 1.0, seen
        time.sleep(0.01)


class Answer(NamedTuple):
    sent: float
    answered: float
    card: str
    version: str


class Load:
    """Payments from a few clients until the end of the block."""

    def __init__(self, site: Site) -> None:
        self.answers: list[Answer] = []
        self.dropped: list[str] = []
        self._site = site
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        with self._site.client(Scope.SCORE) as client:
            for n in itertools.count():
                if self._stop.is_set():
                    return
                card = f"C{(n * CLIENTS + number) % CARDS}"
                body = {
                    "transaction_id": f"live-{number}-{n}",
                    "amount_minor": 1050,
                    "event_time": "2026-01-01T00:00:00Z",
                    "card_id": card,
                }
                sent = time.monotonic()
                answer = client.post("/predict", json=body)
                if answer.status_code == 200:
                    version = answer.json()["model_version"]
                    self.answers.append(Answer(sent, time.monotonic(), card, version))
                else:
                    self.dropped.append(answer.text)


def test_live_switches_lose_no_payment_and_mix_up_none(site: Site, admin: httpx.Client) -> None:
    """Each phase begins when the scorer says that it follows it, and ends before the next one."""
    phases: list[tuple[float, float, dict[str, tuple[str, float]]]] = []

    def phase(*running: tuple[str, str, float]) -> None:
        began = time.monotonic()
        time.sleep(0.4)
        by_name = {name: (version, share) for name, version, share in running}
        phases.append((began, time.monotonic(), by_name))

    with Load(site) as load:
        time.sleep(0.2)
        phase()
        start(admin, "ab", "11", share=0.2)
        phase(("ab", "11", 0.2))
        answer = admin.post("/experiments/share", json={"name": "ab", "share": 0.6, "why": "grow"})
        settle(admin, answer.json()["version"])
        phase(("ab", "11", 0.6))
        start(admin, "second", "12", share=0.5)
        start(admin, "night", "13", kind="shadow")
        phase(("ab", "11", 0.6), ("second", "12", 0.5))
        stop(admin, "ab")
        phase(("second", "12", 0.5))
        stop(admin, "second")
        phase()

    def wanted(card: str, running: dict[str, tuple[str, float]]) -> str:
        for name, (version, share) in running.items():
            if draw(name, f"card/{card}") < share:
                return version
        return "1"

    assert load.dropped == []
    assert len(load.answers) > 200
    inside = 0
    for began, ended, running in phases:
        seen = [one for one in load.answers if began <= one.sent and one.answered <= ended]
        inside += len(seen)
        # Neither a wrong version nor a card that changed its model within a phase.
        assert {(a.card, a.version) for a in seen} == {
            (a.card, wanted(a.card, running)) for a in seen
        }
    assert inside > 100
    states = [running for _, _, running in phases]
    for one in load.answers:  # between two phases it is one of the models that ever had the card
        assert one.version in {wanted(one.card, running) for running in states}


def test_what_runs_is_shown_with_its_role(site: Site, admin: httpx.Client) -> None:
    start(admin, "online", "12", kind="segment", condition='attributes.channel == "online"')
    with site.client(Scope.MODELS) as reader:
        (running,) = reader.get("/experiments").json()["experiments"]
        assert running["experiment"]["kind"] == "segment"
        assert running["experiment"]["by"] == "the-admin"
        model = reader.get("/models/12").json()
        assert (model["experiments"], model["serving"]) == (["online"], False)
        assert model["lines"]["decline"] == 0.8
        assert model["lineage"]["plan_hash"] == model["plan_hash"]
        assert model["lineage"]["code"] is None, "it was not trained by this code"
        assert model["features"]
        assert reader.get("/models/1").json()["serving"] is True
        assert reader.get("/models/77").status_code == 404
        (shown,) = reader.get("/health").json()["experiments"]
        assert (shown["name"], shown["problem"]) == ("online", None)
        newest = reader.get("/experiments/history", params={"most": 1}).json()["versions"]
        assert newest[0]["why"] == "a test"


def test_only_an_admin_changes_experiments(site: Site) -> None:
    for scope in (Scope.SCORE, Scope.MODELS):
        with site.client(scope) as client:
            for path in ("/experiments", "/experiments/share"):
                assert client.post(path, json={}).status_code == 403
            assert client.delete("/experiments/ab", params={"why": "x"}).status_code == 403
    with site.client(Scope.SCORE) as client:
        assert client.get("/experiments").status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"version": "13", "share": 0.1}, 422, "no gate has judged it"),
        ({"version": "77", "share": 0.1}, 404, "no version 77"),
        ({"version": "12", "share": 1.0}, 422, "at most 0.95"),
        ({"version": "12", "share": 0.1, "why": " "}, 422, "Say why"),
        ({"version": "12", "kind": "leader"}, 422, "kind"),
        ({"version": "12", "share": 0.1, "name": "share"}, 422, "is no name"),
        ({"version": "12", "kind": "segment", "condition": "1 == 1"}, 422, "cannot be read"),
    ],
)
def test_an_experiment_that_cannot_be_says_what_can(
    admin: httpx.Client, body: dict[str, Any], status: int, words: str
) -> None:
    request = {"name": "ab", "kind": "challenger", "why": "a test"} | body
    answer = admin.post("/experiments", json=request)
    assert answer.status_code == status, answer.text
    assert words in answer.text
    missing = admin.delete("/experiments/nobody", params={"why": "x"})
    assert missing.status_code == 404
    assert "Running: none" in missing.json()["detail"]


def test_a_model_with_features_of_its_own_refuses_no_payment_and_is_explained_for_good(
    site: Site, admin: httpx.Client
) -> None:
    """Its plan reads as a number what senders write as text, and the champion does not read."""
    served = plan_of_state(site)
    body = {"name": "new", "version": "14", "kind": "challenger", "share": 0.9, "why": "a test"}
    assert admin.post("/experiments", json=body).status_code == 200
    wait_for(
        lambda: [e["running"] for e in admin.get("/experiments").json()["experiments"]] == [True]
    )
    assert plan_of_state(site) != served
    decided = []
    with site.client(Scope.SCORE) as client:
        for n in range(30):
            payment = {
                "transaction_id": f"new-{n}",
                "amount_minor": 100 + n,
                "card_id": f"N{n % 7}",
                "attributes": {"note": "no number" if n % 2 else 17},
            }
            answer = client.post("/predict", json=payment)
            assert answer.status_code == 200, answer.text
            decided.append(answer.json())
    assert {answer["model_version"] for answer in decided} == {"1", "14"}

    def explained() -> None:
        with site.client(Scope.DECISIONS) as reader:
            for answer in decided:
                path = f"/decisions/{answer['transaction_id']}/explanation"
                wait_for(partial(is_there, reader, path))
                found = reader.get(path).json()
                assert found["model_version"] == answer["model_version"]
                assert found["fraud_probability"] == answer["fraud_probability"]
                assert found["reproduced"]["exact"]
                assert found["reproduced"]["reasons_recorded"]

    explained()
    stop(admin, "new")
    wait_for(lambda: plan_of_state(site) == served)
    explained()


def is_there(client: httpx.Client, path: str) -> bool:
    return client.get(path).status_code == 200


def plan_of_state(site: Site) -> str:
    with site.client(Scope.ADMIN) as client:
        return str(client.get("/health").json()["feature_store"]["plan_hash"])


def wait_for(true: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + 30
        time.sleep(0.02)
