"""What `door` measures of keys."""

from __future__ import annotations

import base64
import contextlib
import itertools
import random
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from sentinel.access.keys import Pepper, new_key
from sentinel.access.managing import KeyRights, create_key, revoke_key, rotate_key
from sentinel.access.open_store import open_store
from sentinel.access.pepper import pepper_of
from sentinel.access.scopes import Scope
from sentinel.access.store import KeyStore, now_us
from sentinel.api.admission import ADMISSIONS, OPEN, Admission
from sentinel.settings import AccessSettings, Settings
from testkit.payments import payments
from testkit.scratch import Server, make_workspace, serving
from testkit.servers import Postgres, Redis
from testkit.shared_scorers import scorers, workspaces

_SEEN_SECONDS: Final = 1.0
_CONNECTIONS: Final = 8
_REQUESTS: Final = 2_000
_NAME_NOTHING: Final = ("POST /voids", "POST /experiments", "POST /experiments/share")
_PEPPER: Final = "the pepper of a benchmark"


class KeyMaker:
    """Makes keys of a deployment.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self.store: KeyStore = open_store(settings)
        self.pepper: Pepper = pepper_of(settings, make=True)

    def make(self, key_id: str, *scopes: Scope, **rights: Any) -> str:
        """A new key."""
        given = KeyRights(scopes=frozenset(scopes), **rights)
        return create_key(self.store, self.pepper, key_id, given)


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# Every route with every scope.


def routes(folder: Path) -> Mapping[str, Any]:
    """Try each route with a key of each scope alone, with none, and with a forged one."""
    settings = make_workspace(folder / "w")
    with serving(settings) as server:
        maker = KeyMaker(settings)
        keys: dict[str, str | None] = {scope: maker.make(f"k-{scope}", scope) for scope in Scope}
        keys |= {"nothing": None, "forged": new_key("k-admin")}
        time.sleep(_SEEN_SECONDS)
        tried, wrong = 0, []
        bodies = payments(1, prefix="route")
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for admission in ADMISSIONS:
                for holder, key in keys.items():
                    tried += 1
                    status = _ask(client, admission, key, next(bodies))
                    if status != _wanted(admission, holder):
                        wrong.append(f"{admission.method} {admission.path} {holder}: {status}")
    return {"tried": tried, "wrong": len(wrong), "what_was_wrong": wrong[:10]}


def _wanted(admission: Admission, holder: str) -> int:
    """The status that a request must get."""
    if admission.scopes is OPEN or holder in admission.scopes:
        return 404 if "{path}" not in admission.path and _asks_for_nothing(admission) else 200
    return 401 if holder in ("nothing", "forged") else 403


def _asks_for_nothing(admission: Admission) -> bool:
    """Whether `_ask` names what there is not."""
    return "{" in admission.path or f"{admission.method} {admission.path}" in _NAME_NOTHING


def _ask(
    client: httpx.Client, admission: Admission, key: str | None, payment: dict[str, Any]
) -> int:
    path = admission.path.replace("{transaction_id}", "nobody-knows-it")
    path = path.replace("{path}", "swagger-ui.css")
    path = path.replace("{version}", "nobody-knows-it").replace("{name}", "nobody-knows-it")
    bodies: dict[str, Any] = {
        "/predict": payment,
        "/predict/batch": {"transactions": [payment]},
        "/labels": {"transaction_id": "t", "verdict": "fraud"},
        "/features/read": {"rows": [{"customer_id": "C1"}]},
        "/voids": {"transaction_ids": ["nobody-knows-it"], "reason": "a test"},
        "/policy": {"terms": {}, "why": "a look at who may"},
        "/policy/preview": {"terms": {}},
        "/experiments": {"name": "t", "kind": "shadow", "version": "77", "why": "a look"},
        "/experiments/share": {"name": "nobody-knows-it", "share": 0.1, "why": "a look"},
    }
    return client.request(
        admission.method,
        path,
        params={"dry_run": "true"}
        if admission.dry_run
        else {"why": "a look"}
        if admission.method == "DELETE"
        else {},
        headers=_bearer(key) if key else {},
        json=bodies.get(path) if admission.method == "POST" else None,
    ).status_code


# Keys that are no good.


def forged(folder: Path, number: int) -> Mapping[str, Any]:
    """Try so many forged, expired, revoked, rotated and mutilated keys on payments."""
    settings = make_workspace(folder / "w")
    with serving(settings) as server:
        maker = KeyMaker(settings)
        good = maker.make("good", Scope.SCORE)
        revoked = maker.make("revoked", Scope.SCORE)
        revoke_key(maker.store, maker.pepper, "revoked")
        expired = maker.make("expired", Scope.SCORE, expires_at_us=now_us() + 100_000)
        rotated = maker.make("rotated", Scope.SCORE)
        rotate_key(maker.store, maker.pepper, "rotated", grace_hours=0)
        time.sleep(_SEEN_SECONDS)
        drawn = random.Random(7)
        ended = itertools.cycle((revoked, expired, rotated))
        kinds = itertools.cycle((_random_secret, _one_bit, _truncated, _longer, _other_id))
        tried = [next(ended) if n % 6 == 5 else next(kinds)(good, drawn) for n in range(number)]
        accepted, other = 0, 0
        bodies = payments(2, prefix="forged")
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for key in tried:
                status = client.post(
                    "/predict", json=next(bodies), headers=_bearer(key)
                ).status_code
                accepted += status < 300
                other += status != 401
            works = client.post("/predict", json=next(bodies), headers=_bearer(good)).status_code
    return {
        "tried": len(tried),
        "accepted": accepted,
        "not_401": other,
        "good_key_afterwards": works,
    }


def _random_secret(good: str, _drawn: random.Random) -> str:
    return new_key(good.partition(".")[0])


def _one_bit(good: str, drawn: random.Random) -> str:
    """The key with one bit of its secret turned."""
    head, mark, secret = good.partition(".snt_")
    raw = bytearray(base64.urlsafe_b64decode(secret + "="))
    raw[drawn.randrange(len(raw))] ^= 1 << drawn.randrange(8)
    return head + mark + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _truncated(good: str, drawn: random.Random) -> str:
    return good[: drawn.randrange(1, len(good))].rstrip() or "x"


def _longer(good: str, drawn: random.Random) -> str:
    return good + secrets.token_urlsafe(drawn.randrange(1, 40))


def _other_id(good: str, drawn: random.Random) -> str:
    return f"k{drawn.randrange(10**9)}.{good.partition('.')[2]}"


# Rotation and revocation under load.


def under_load(folder: Path) -> Mapping[str, Any]:
    """Rotate and revoke keys while two scorers are under load; how soon each scorer follows."""
    quick = {"fsync": "off", "synchronous_commit": "off"}  # keys are measured, no disk
    with Redis(folder / "redis") as redis, Postgres(folder / "p", settings=quick) as postgres:
        url = postgres.make_database("door")
        environment = {
            "SENTINEL_LEDGER__URL": url,
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": f"redis://127.0.0.1:{redis.port}/0",
            "SENTINEL_ACCESS__PEPPER": _PEPPER,
        }
        first = make_workspace(folder / "scorer-1")
        shared = first.model_copy(
            update={
                "ledger": first.ledger.model_copy(update={"url": url}),
                "access": AccessSettings.model_validate({"pepper": _PEPPER}),
            }
        )
        maker = KeyMaker(shared)
        key = maker.make("shop", Scope.SCORE)
        probe = maker.make("probe", Scope.MODELS)
        with scorers(workspaces(folder, first, 2), environment) as servers:
            return _change_under_load(servers, maker, key, probe)


def _change_under_load(
    servers: Sequence[Server], maker: KeyMaker, key: str, probe: str
) -> Mapping[str, Any]:
    first = payments(6, prefix="first")
    for server in servers:  # a fresh checkout compiles kernels at the first payment
        url = f"{server.url}/predict"
        httpx.post(url, json=next(first), headers=_bearer(key), timeout=120).raise_for_status()
    load = _Load([server.url for server in servers], key)
    seconds: dict[str, float] = {}
    with load:
        time.sleep(1.0)
        new = rotate_key(maker.store, maker.pepper, "shop", grace_hours=1)
        seconds["rotated"] = _until(servers, new, good=True, path="/health")
        load.key = new  # the old one is good meanwhile
        time.sleep(0.5)
        newer = rotate_key(maker.store, maker.pepper, "shop", grace_hours=3 / 3600)
        seconds["rotated_again"] = _until(servers, newer, good=True, path="/health")
        load.key = newer
        time.sleep(3.0)  # the one before ends by itself
        seconds["old_ended"] = _until(servers, new, good=False, path="/health")
        revoke_key(maker.store, maker.pepper, "probe")
        seconds["revoked"] = _until(servers, probe, good=False, path="/models")
        late = maker.make("late", Scope.SCORE)
        seconds["made"] = _until(servers, late, good=True, path="/health")
        time.sleep(0.5)
    answered, errors, said = load.answered, len(load.errors), load.errors[:3]
    # The key of a connection that is in use, on the fast path.
    seconds["revoked_in_use"] = _until_refused(servers, maker, newer)
    return {
        "answered": answered,
        "errors": errors,
        "what_failed": said,
        "seconds_to_effect": round(max(seconds.values()), 3),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


class _Load:
    """Payments to servers in turn from a few clients, until the end of the block."""

    def __init__(self, urls: Sequence[str], key: str) -> None:
        self.key = key
        self.answered = 0
        self.errors: list[str] = []
        self._urls = urls
        self._stop = threading.Event()
        self._bodies = payments(3, prefix="load")
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(url,)) for url in (*urls, *urls)]

    def __enter__(self) -> _Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not self._stop.is_set():
                with self._lock:
                    body = next(self._bodies)
                try:
                    answer = client.post("/predict", json=body, headers=_bearer(self.key))
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answered += 1
                else:
                    self.errors.append(f"{answer.status_code} {answer.text}")


def _until(servers: Sequence[Server], key: str, *, good: bool, path: str) -> float:
    """Seconds until all servers take a key for good, or refuse it."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(base_url=server.url, timeout=30)) for server in servers
        ]
        left = list(clients)
        while left:
            left = [
                client
                for client in left
                if (client.get(path, headers=_bearer(key)).status_code == 200) != good
            ]
            if time.monotonic() - began > 30:
                raise RuntimeError(f"The change of a key was not seen by {len(left)} scorers.")
            time.sleep(0.005)
    return time.monotonic() - began


def _until_refused(servers: Sequence[Server], maker: KeyMaker, key: str) -> float:
    """Seconds until a revoked key is refused on connections that it is in use on."""
    bodies = payments(4, prefix="use")
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(base_url=s.url, headers=_bearer(key), timeout=30))
            for s in servers
        ]
        for client in clients:
            for _ in range(5):
                client.post("/predict", json=next(bodies)).raise_for_status()
        revoke_key(maker.store, maker.pepper, key.partition(".")[0])
        began = time.monotonic()
        left = clients
        while left:
            left = [c for c in left if c.post("/predict", json=next(bodies)).status_code == 200]
            if time.monotonic() - began > 30:
                raise RuntimeError("A revoked key stays good.")
    return time.monotonic() - began
