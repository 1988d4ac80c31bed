"""Who may call what: keys over real HTTP, by the fast path and by the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sentinel.access.keys import Pepper, new_key
from sentinel.access.managing import KeyRights, create_key, revoke_key, rotate_key
from sentinel.access.open_store import open_store
from sentinel.access.pepper import pepper_of
from sentinel.access.principals import NOBODY
from sentinel.access.scopes import ALL_SCOPES, Scope
from sentinel.access.store import KeyStore, now_us
from sentinel.api.admission import ADMISSIONS, OPEN, Admission, admission_of
from sentinel.settings import Settings
from testkit.scratch import Server, make_workspace, serving
from testkit.servers import wait_until
from tests.api.conftest import payment

EFFECT_SECONDS = 1.0
"""Within so long a change of a key acts."""


class Site:
    """A server with keys, and the place that keeps them."""

    def __init__(self, server: Server, settings: Settings) -> None:
        self.server = server
        self.store: KeyStore = open_store(settings)
        self.pepper: Pepper = pepper_of(settings, make=True)
        self._number = 0

    def make(self, *scopes: Scope, **rights: Any) -> str:
        self._number += 1
        given = KeyRights(scopes=frozenset(scopes), **rights)
        return create_key(self.store, self.pepper, f"key-{self._number}", given)

    def make_known(self, *scopes: Scope, **rights: Any) -> str:
        """A new key that the server knows of."""
        key = self.make(*scopes, **rights)
        self.wait_until_known(key)
        return key

    def wait_until_known(self, key: str) -> None:
        with self.client(key) as client:
            nowhere = f"{self.server.url}/no/such/route"
            # The first key closes a door that was open to all.
            wait_until(lambda: httpx.get(nowhere).status_code == 401, 30, "the door to close")
            wait_until(lambda: client.get(nowhere).status_code == 404, 30, "the key to act")

    def client(self, key: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.server.url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server, and one key for each scope."""
    settings = make_workspace(tmp_path_factory.mktemp("keys"))
    with serving(settings) as server:
        yield Site(server, settings)


@pytest.fixture(scope="module")
def every(site: Site) -> Iterator[dict[Scope, httpx.Client]]:
    """A client for each scope, whose key has that one alone."""
    clients = {scope: site.client(site.make_known(scope)) for scope in Scope}
    yield clients
    for client in clients.values():
        client.close()


def ask(client: httpx.Client, admission: Admission) -> httpx.Response:
    """A request for a route, which may or may not make sense to it."""
    path = admission.path.replace("{transaction_id}", "nobody-knows-it")
    path = path.replace("{path}", "swagger-ui.css")
    path = path.replace("{version}", "nobody-knows-it").replace("{name}", "nobody-knows-it")
    query = {"dry_run": "true"} if admission.dry_run else {}
    body = payment()
    if path == "/predict/batch":
        body = {"transactions": [body]}
    elif path == "/labels":
        body = {"transaction_id": "t", "verdict": "fraud", "origin": "bank"}
    elif path == "/features/read":
        body = {"rows": [{"customer_id": "C1"}]}
    elif path == "/voids":
        body = {"transaction_ids": ["nobody-knows-it"], "reason": "a test"}
    elif path == "/policy":
        body = {"terms": {}, "why": "a look at who may"}
    elif path == "/policy/preview":
        body = {"terms": {}}
    elif path == "/experiments":
        body = {"name": "t", "kind": "shadow", "version": "77", "why": "a look at who may"}
    elif path == "/experiments/share":
        body = {"name": "nobody-knows-it", "share": 0.1, "why": "a look at who may"}
    elif path.endswith("/promote"):
        return client.post(path)
    if admission.method == "POST":
        return client.post(path, params=query, json=body)
    if admission.method == "DELETE":
        return client.delete(path, params={"why": "a look at who may"})
    return client.get(path, params=query)


NAME_NOTHING = ("POST /voids", "POST /experiments", "POST /experiments/share")
"""Routes of which `ask` names, in the body, what there is not."""


def asks_for_nothing(admission: Admission) -> bool:
    in_path = "{" in admission.path and "{path}" not in admission.path
    return in_path or f"{admission.method} {admission.path}" in NAME_NOTHING


def test_the_table_names_every_route_and_no_other(site: Site) -> None:
    declared = httpx.get(f"{site.server.url}/openapi.json").json()["paths"]
    routes = {(method.upper(), path) for path, verbs in declared.items() for method in verbs}
    pages = ("/docs", "/redoc", "/openapi", "/static")
    named = {(a.method, a.path) for a in ADMISSIONS if not a.path.startswith(pages)}
    assert named == routes
    for method, path in routes:
        security = declared[path][method.lower()].get("security")
        assert (security is None) == (path in ("/livez", "/readyz")), path


def test_a_key_opens_the_routes_of_its_scopes_alone(
    site: Site, every: dict[Scope, httpx.Client]
) -> None:
    for admission in ADMISSIONS:
        for scope, client in every.items():
            answer = ask(client, admission)
            allowed = admission.scopes is OPEN or scope in admission.scopes
            said = f"{admission} with {scope}: {answer.status_code} {answer.text[:200]}"
            assert (answer.status_code != 403) == allowed, said
            assert answer.status_code != 401, said
            if allowed:
                assert answer.status_code == (404 if asks_for_nothing(admission) else 200), said
            else:
                problem = answer.json()
                assert problem["code"] == "forbidden"
                assert any(wanted in problem["detail"] for wanted in admission.scopes)


def test_without_a_key_nothing_is_open_but_probes_and_the_description(
    site: Site, every: dict[Scope, httpx.Client]
) -> None:
    with httpx.Client(base_url=site.server.url, timeout=60) as stranger:
        for admission in ADMISSIONS:
            answer = ask(stranger, admission)
            assert (answer.status_code == 401) == (admission.scopes is not OPEN), admission
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "unauthenticated"
        assert stranger.get("/no/such/route").status_code == 401
        assert stranger.delete("/decisions").status_code == 401
        assert stranger.options("/predict").status_code == 401


def test_what_is_no_good_key_is_refused(site: Site, every: dict[Scope, httpx.Client]) -> None:
    ended = site.make(Scope.SCORE, expires_at_us=now_us() + 200_000)
    good = site.make_known(Scope.SCORE)
    time.sleep(0.2)
    headers: list[dict[str, str]] = [
        {"authorization": value}
        for value in (
            good,
            f"Basic {good}",
            f"Bearer {ended}",
            f"Bearer {good[:-1]}",
            f"Bearer {good}x",
            f"Bearer {new_key('key-1')}",
            f"Bearer {new_key('nobody')}",
            f"Bearer {good.replace('key-', 'key-0')}",
            f"Bearer {good.upper()}",
            "Bearer",
            "Bearer " + "x" * 3_000,
            "Bearer \xff",
        )
    ]
    for header in headers:
        raw = [(b"authorization", header["authorization"].encode("latin-1"))]
        answer = httpx.post(f"{site.server.url}/predict", json=payment(), headers=raw)
        assert answer.status_code == 401, header
    twice = [("authorization", f"Bearer {good}")] * 2
    assert (
        httpx.post(f"{site.server.url}/predict", json=payment(), headers=twice).status_code == 401
    )
    with site.client(good) as client:
        assert client.post("/predict", json=payment()).status_code == 200


def test_a_revoked_key_ends_within_a_second_on_a_connection_that_is_in_use(site: Site) -> None:
    key = site.make_known(Scope.SCORE)
    with site.client(key) as client:
        body = payment()
        assert [client.post("/predict", json=body).status_code for _ in range(3)] == [200] * 3
        revoke_key(site.store, site.pepper, key.partition(".")[0])
        revoked = time.monotonic()
        while client.post("/predict", json=body).status_code == 200:
            assert time.monotonic() - revoked < EFFECT_SECONDS
            time.sleep(0.01)
        answer = client.post("/predict", json=body)
        assert answer.status_code == 401
        assert "is revoked" in answer.json()["detail"]


def test_a_rotated_key_and_the_one_before_are_good_together(site: Site) -> None:
    old = site.make(Scope.SCORE)
    new = rotate_key(site.store, site.pepper, old.partition(".")[0], grace_hours=0.5 / 3600)
    site.wait_until_known(new)
    with site.client(new) as client, site.client(old) as before:
        assert client.post("/predict", json=payment()).status_code == 200
        wait_until(
            lambda: before.post("/predict", json=payment()).status_code == 401, 30, "its end"
        )
        assert client.post("/predict", json=payment()).status_code == 200


def test_the_first_key_closes_a_door_that_was_open(tmp_path: Path) -> None:
    settings = make_workspace(tmp_path / "w")
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        assert "anyone on this machine may call" in server.log.read_text()
        assert client.post("/predict", json=payment()).status_code == 200
        assert client.get("/decisions").status_code == 200
        site = Site(server, settings)
        site.make(Scope.SCORE)
        wait_until(lambda: client.get("/decisions").status_code == 401, 30, "the key to act")
        assert client.post("/predict", json=payment()).status_code == 401


def test_a_server_that_others_could_reach_does_not_start_without_a_key(tmp_path: Path) -> None:
    settings = make_workspace(tmp_path / "w")
    beyond = {"SENTINEL_API__HOST": "0.0.0.0"}
    with pytest.raises(RuntimeError, match="there is no key yet") as refused:
        Server(settings, environment=beyond).start()
    assert "sentinel keys create shop --scope score" in str(refused.value)


def test_a_line_of_the_table_is_found_by_path() -> None:
    found = admission_of("GET", "/predict/batch")
    assert found is not None
    assert found.path == "/predict/{transaction_id}"
    assert admission_of("GET", "/predict") is None
    assert admission_of("POST", "/decisions") is None
    assert NOBODY.scopes == ALL_SCOPES


def eventually(client: httpx.Client, path: str, test: Any) -> dict[str, Any]:
    """An answer of which something is true: the index follows the log within a second."""
    deadline = time.monotonic() + 20
    while True:
        answer = client.get(path)
        if answer.status_code == 200 and test(answer.json()):
            found: dict[str, Any] = answer.json()
            return found
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def test_who_called_is_recorded_with_each_decision_and_label(site: Site) -> None:
    shop = site.make_known(Scope.SCORE, Scope.DECISIONS)
    bank = site.make_known(Scope.LABEL, origins=("chargeback",))
    with site.client(shop) as scoring, site.client(bank) as labelling:
        one, two = payment(), payment()
        scored = scoring.post("/predict", json=one).json()
        batch = scoring.post("/predict/batch", json={"transactions": [two]})
        assert batch.status_code == 200
        label = {"transaction_id": one["transaction_id"], "verdict": "fraud", "label_id": "cb-1"}
        assert labelling.post("/labels", json=label).status_code == 200
        for body in (one, two):
            path = f"/decisions/{body['transaction_id']}"
            found = eventually(scoring, path, dict.keys)
            assert found["called_by"] == shop.partition(".")[0]
        path = f"/decisions/{one['transaction_id']}"
        found = eventually(scoring, path, lambda found: found["labels"])
        assert found["fraud_probability"] == scored["fraud_probability"]
        assert found["decision"] == scored["decision"]
        assert found["reasons"] == scored["reasons"]
        assert found["attributes"] == one["attributes"]
        (recorded,) = found["labels"]
        assert recorded["called_by"] == bank.partition(".")[0]
        assert (recorded["label_id"], recorded["origin"]) == ("cb-1", "chargeback")
        assert recorded["verdict"] == "fraud"
        missing = scoring.get("/decisions/nobody-knows-it")
        assert (missing.status_code, missing.json()["code"]) == (404, "unknown_transaction")


def test_a_key_for_labels_of_one_origin_records_no_other(site: Site) -> None:
    key = site.make_known(Scope.LABEL, origins=("chargeback", "analyst"))
    with site.client(key) as client:
        label = {"transaction_id": "t-origin", "verdict": "fraud"}
        assert client.post("/labels", json={**label, "origin": "analyst"}).status_code == 200
        refused = client.post("/labels", json={"labels": [label, {**label, "origin": "system"}]})
        assert refused.status_code == 403
        assert refused.json()["errors"][0]["field"] == "labels[1].origin"


def test_a_sender_uses_its_own_ids_and_sees_no_others(site: Site) -> None:
    rights = (Scope.SCORE, Scope.DRY_RUN, Scope.LABEL, Scope.DECISIONS, Scope.FEATURES)
    a, b = (site.make_known(*rights, sender=f"shop-{name}:") for name in "ab")
    with site.client(a) as own, site.client(b) as other:
        body = payment(transaction_id="shop-a:1")
        assert own.post("/predict", json=body).status_code == 200
        refused = other.post("/predict", json=body)
        assert refused.status_code == 403
        assert refused.json()["errors"] == [
            {"field": "transaction_id", "message": "must begin with 'shop-b:'"}
        ]
        batch = {"transactions": [payment(transaction_id="shop-b:1"), body]}
        refused = other.post("/predict/batch", json=batch)
        assert refused.status_code == 403
        assert refused.json()["errors"][0]["field"] == "transactions[1].transaction_id"
        many = [payment(transaction_id=f"shop-b:many-{n}") for n in range(600)]
        refused = other.post("/predict/batch", json={"transactions": [*many, body]})
        assert refused.json()["errors"][0]["field"] == "transactions[600].transaction_id"
        for path in (
            "/predict/shop-a:1",
            "/decisions/shop-a:1",
            "/decisions/shop-a:1/explanation",
        ):
            assert other.get(path).status_code == 403
            assert eventually(own, path, dict.keys)
        label = {"transaction_id": "shop-a:1", "verdict": "legitimate"}
        assert other.post("/labels", json=label).status_code == 403
        taken = {"transaction_id": "shop-b:1", "verdict": "fraud", "label_id": "shop-a:label"}
        assert other.post("/labels", json=taken).json()["errors"][0]["field"] == "label_id"
        assert own.post("/labels", json=label).status_code == 200
        assert other.post("/predict", json=payment(transaction_id="shop-b:1")).status_code == 200
        rows = [{"card_id": "shop-a:k1", "customer_id": None}, {"card_id": "shop-a:k2"}]
        assert own.post("/features/read", json={"rows": rows}).status_code == 200
        refused = other.post("/features/read", json={"rows": [{"card_id": "shop-b:k"}, *rows]})
        assert refused.status_code == 403
        assert refused.json()["errors"][0]["field"] == "rows[1].card_id"
        for client, ids in ((own, {"shop-a:1"}), (other, {"shop-b:1"})):
            page = eventually(client, "/decisions?limit=10", lambda found: found["decisions"])
            assert {row["transaction_id"] for row in page["decisions"]} == ids


def test_where_ids_are_tokens_a_sender_is_held_to_what_it_sent(tmp_path: Path) -> None:
    settings = make_workspace(tmp_path / "w")
    tokens = {"SENTINEL_TOKENS__FIELDS": "transaction_id"}
    with serving(settings, environment=tokens) as server:
        site = Site(server, settings)
        rights = (Scope.SCORE, Scope.DECISIONS, Scope.LABEL)
        with site.client(site.make_known(*rights, sender="a:")) as client:
            assert client.post("/predict", json=payment(transaction_id="a:1")).status_code == 200
            token = client.get("/predict/a:1").json()["transaction_id"]
            assert token.startswith("tok1_")
            batch = {"transactions": [payment(transaction_id=i) for i in ("a:2", "b:1")]}
            for refused in (
                client.post("/predict", json=payment(transaction_id="b:1")),
                client.post("/predict", json=payment(transaction_id=token)),
                client.post("/predict/batch", json=batch),
                client.post("/labels", json={"transaction_id": "b:1", "verdict": "fraud"}),
                client.get(f"/predict/{token}"),
                client.get("/decisions"),
            ):
                assert refused.status_code == 403, refused.text
            batch = {"transactions": [payment(transaction_id=i) for i in ("a:2", "a:3")]}
            assert client.post("/predict/batch", json=batch).status_code == 200
            eventually(client, "/decisions/a:2", dict.keys)
