"""The policy over HTTP: who may see it, what another would do, and that a change acts at once."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sentinel.access.keys import Pepper
from sentinel.access.managing import KeyRights, create_key
from sentinel.access.open_store import open_store
from sentinel.access.pepper import pepper_of
from sentinel.access.scopes import Scope
from sentinel.models.thresholds import Thresholds
from sentinel.policy.ruling import Policy
from sentinel.settings import Settings
from testkit.decided_worlds import decided_world
from testkit.scratch import make_workspace, serving

TERMS = {
    "costs": {"fee_minor": 1500, "false_decline_minor": 2500, "review_minor": 300},
    "reviews_per_day": 3,
    "exploring": {"budget_minor": 500_000},
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace whose log holds decisions."""
    made = make_workspace(tmp_path_factory.mktemp("policy"), trees=3, leaves=4)
    decided_world(made, Policy(Thresholds(fraud=0.5, review=0.45, decline=0.6)), payments=4_000)
    return made


@pytest.fixture(scope="module")
def clients(settings: Settings) -> Iterator[dict[Scope, httpx.Client]]:
    """Its server, and a client of each of three scopes."""
    pepper: Pepper = pepper_of(settings, make=True)
    keys = {}
    for scope in (Scope.SCORE, Scope.MODELS, Scope.ADMIN):
        rights = KeyRights(scopes=frozenset({scope}))
        keys[scope] = create_key(open_store(settings), pepper, f"the-{scope.value}", rights)
    with serving(settings) as server:
        made = {
            scope: httpx.Client(
                base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=60
            )
            for scope, key in keys.items()
        }
        yield made
        for client in made.values():
            client.close()


def test_a_policy_is_looked_at_applied_and_followed(clients: dict[Scope, httpx.Client]) -> None:
    admin, reader = clients[Scope.ADMIN], clients[Scope.MODELS]
    before = reader.get("/policy").json()
    assert (before["version"], before["exploring"], before["problem"]) == (None, False, None)
    seen = admin.post("/policy/preview", json={"terms": TERMS})
    assert seen.status_code == 200, seen.text
    assert seen.json()["workings"]["share"] == 0.05
    assert "precision_of_declines" in seen.json()["not_measured"]
    assert reader.get("/policy").json() == before  # a look changes nothing
    applied = admin.post("/policy", json={"terms": TERMS, "why": "costs of finance"})
    assert applied.status_code == 200, applied.text
    version = applied.json()["version"]
    assert (version["version"], version["by"], version["why"]) == (
        1,
        "the-admin",
        "costs of finance",
    )
    began = time.monotonic()
    while (now := reader.get("/policy").json())["version"] is None:
        assert time.monotonic() < began + 1.0
        time.sleep(0.02)
    assert now["version"] == version
    assert now["exploring"]
    assert now["policy_hash"] != before["policy_hash"]
    back = admin.post("/policy", json={"version": 1, "why": "again"}).json()["version"]
    assert (back["version"], back["restores"]) == (2, 1)
    listed = reader.get("/policy/history", params={"most": 1}).json()["versions"]
    assert [one["version"] for one in listed] == [2]
    older = reader.get("/policy/history", params={"before": 2}).json()["versions"]
    assert [one["version"] for one in older] == [1]


def test_only_an_admin_changes_it(clients: dict[Scope, httpx.Client]) -> None:
    for scope in (Scope.SCORE, Scope.MODELS):
        for path in ("/policy", "/policy/preview"):
            assert clients[scope].post(path, json={"terms": TERMS}).status_code == 403
    assert clients[Scope.SCORE].get("/policy").status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/policy", {"terms": TERMS}, 422, "Say why"),
        ("/policy", {"why": "x"}, 422, "its terms or an older version"),
        ("/policy", {"version": 99, "why": "x"}, 404, "no version 99"),
        ("/policy/preview", {"terms": {"costs": {"fee": 1}}}, 422, "costs has 'fee'"),
        ("/policy/preview", {"term": {}}, 422, "term"),
    ],
)
def test_what_cannot_be_is_said(
    clients: dict[Scope, httpx.Client], path: str, body: dict[str, object], status: int, words: str
) -> None:
    answer = clients[Scope.ADMIN].post(path, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.text


def test_one_job_at_a_time(clients: dict[Scope, httpx.Client]) -> None:
    def look(_: int) -> int:
        return clients[Scope.ADMIN].post("/policy/preview", json={"terms": TERMS}).status_code

    with ThreadPoolExecutor(3) as pool:
        statuses = list(pool.map(look, range(3)))
    assert set(statuses) <= {200, 429}
    assert 200 in statuses
    assert 429 in statuses


def test_a_version_that_cannot_be_read_is_named_and_an_older_one_can_hold_again(
    settings: Settings, clients: dict[Scope, httpx.Client]
) -> None:
    admin, reader = clients[Scope.ADMIN], clients[Scope.MODELS]
    applied = admin.post("/policy", json={"terms": TERMS, "why": "costs"}).json()["version"]
    newest = applied["version"]
    with contextlib.closing(sqlite3.connect(settings.workspace / "policy.db")) as file, file:
        damaged = (newest + 1, json.dumps({"version": newest + 1}))
        file.execute("INSERT INTO versions VALUES (?, ?)", damaged)
    answer = reader.get("/policy/history")
    assert answer.status_code == 503
    assert f"Version {newest + 1} of the policy cannot be read" in answer.json()["detail"]
    back = admin.post("/policy", json={"version": newest, "why": "the newest is damaged"})
    assert back.status_code == 200, back.text
    version = back.json()["version"]
    assert (version["version"], version["restores"]) == (newest + 2, newest)
