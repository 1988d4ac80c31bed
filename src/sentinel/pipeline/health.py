"""`sentinel doctor`: one check for each service that the settings name.

A check returns a line that says what it found, or raises. What is not configured is not checked:
on one machine that leaves the ledger, the plan, the model and three services; in production every
one of them.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import httpx
import msgspec

from sentinel.access.opening import is_loopback
from sentinel.access.own_key import OwnKey
from sentinel.domain import ConfigurationError, SentinelError, Unavailable
from sentinel.settings import Settings

_SECONDS: Final = 5.0
_NEARLY_FULL: Final = 0.8
_ANY_ADDRESS: Final = ("0.0.0.0", "::", "")  # noqa: S104 -- compared with, not bound to

Check = tuple[str, Callable[[], str]]
"""What is checked, and how: returns what was found, or raises."""


class Finding(msgspec.Struct, frozen=True):
    """What a check found.

    Attributes:
        name: What was checked.
        well: Whether it is as it should be.
        detail: What was found, or what is wrong and what to do.
        seconds: How long it took to find out.
    """

    name: str
    well: bool
    detail: str
    seconds: float


def check_services(settings: Settings) -> Iterator[Finding]:
    """Check one service after the other, each with a time limit.

    Args:
        settings: The deployment. What they do not name is not there.

    Yields:
        A finding as soon as it is known.
    """
    for name, check in checks(settings):
        began = time.perf_counter()
        try:
            detail, well = check(), True
        except (SentinelError, httpx.HTTPError, OSError, LookupError, ValueError) as error:
            detail, well = str(error) or type(error).__name__, False
        except ModuleNotFoundError as error:
            detail = f"{error.name} is not installed here; run this where the pipeline runs"
            well = False
        yield Finding(name, well, detail, round(time.perf_counter() - began, 3))


def checks(settings: Settings) -> Iterator[Check]:
    """The checks that belong to a deployment, in the order in which services depend on another."""
    services = settings.services
    yield from _databases(settings)
    if settings.state.backend == "redis":
        yield "Redis", lambda: _redis(settings.state.redis_url)
    if settings.feast.online_url:
        yield "Feast's online store", lambda: _redis(settings.feast.online_url)
    yield from _buckets(settings)
    yield "ledger", lambda: _ledger(settings)
    if settings.workspace.is_dir() and not settings.ledger.url:  # else it is a volume of containers
        yield "files of the workspace", lambda: _files(settings)
    yield "labels", lambda: _labels(settings)
    yield "feature plan", lambda: _plan(settings)
    yield "model", lambda: _model(settings)
    yield "MLflow", lambda: _mlflow(settings)
    yield from _scorers(settings)
    if services.proxy_url:
        yield "proxy", lambda: _answer(services.proxy_url, "/readyz", "the proxy")
    if not is_loopback(settings.api.host):
        yield "keys", lambda: _stranger(settings)
    yield "monitor", lambda: _monitor(settings)
    yield "dashboard", lambda: _dashboard(settings)
    if services.airflow_url:
        yield "Airflow", lambda: _airflow(services.airflow_url)
    if services.prometheus_url:
        yield "Prometheus", lambda: _prometheus(services.prometheus_url)
    if services.alertmanager_url:
        yield "Alertmanager", lambda: _answer(services.alertmanager_url, "/-/ready", "Alertmanager")
    else:
        yield "alerts", lambda: _alerts(settings)
    if services.grafana_url:
        yield "Grafana", lambda: _answer(services.grafana_url, "/api/health", "Grafana")


def reachable(host: str) -> str:
    """The host to ask a server that binds to this address.

    >>> reachable("0.0.0.0"), reachable("::1"), reachable("scorer-2")
    ('127.0.0.1', '[::1]', 'scorer-2')
    """
    if host in _ANY_ADDRESS:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _databases(settings: Settings) -> Iterator[Check]:
    from sentinel.ledger.database_health import database_health

    urls = {
        "ledger's database": settings.ledger.url,
        "MLflow's database": settings.mlflow.backend_store_uri.get_secret_value(),
        "Feast's registry": settings.feast.registry_url,
    }
    for name, url in urls.items():
        if url.startswith("postgres"):
            yield name, partial(database_health, url)


def _redis(url: str) -> str:
    from sentinel.state.redis.health import redis_health

    return redis_health(url)


def _buckets(settings: Settings) -> Iterator[Check]:
    s3 = settings.s3
    for bucket in dict.fromkeys((s3.artifacts_bucket, s3.offline_bucket)):
        if bucket:
            yield f"S3 bucket {bucket}", partial(_bucket, settings, bucket)


def _bucket(settings: Settings, bucket: str) -> str:
    from sentinel.object_store.store import ObjectStore

    store = ObjectStore(settings.s3)
    empty = next(store.objects(bucket, ""), None) is None
    return f"{store.where}, {'empty' if empty else 'holds files'}"


def _ledger(settings: Settings) -> str:
    from sentinel.pipeline.workspace import ledger_reader

    with ledger_reader(settings) as reader:
        last = reader.last_sequence()
        counted = 0
        for group in reader.groups():
            if group.first_sequence > last:
                break  # appended meanwhile
            if group.first_sequence != counted + 1:
                raise ValueError(f"entry {counted + 1:,} is missing")
            counted += group.entries
    if counted < last:
        raise ValueError(f"{counted:,} entries found, {last:,} expected")
    return f"{counted:,} entries without a gap"


def _labels(settings: Settings) -> str:
    from sentinel.pipeline.label_watch import watch_labels

    return watch_labels(settings)


def _files(settings: Settings) -> str:
    from sentinel.pipeline.workspace import open_to_others

    found = open_to_others(settings.workspace)
    if found:
        raise ConfigurationError(
            f"{len(found):,} can be read by other users, {found[0]} among them; run `chmod -R "
            f"go-rwx {settings.workspace}`"
        )
    return "for their owner alone"


def _plan(settings: Settings) -> str:
    from sentinel.features.plan.plan import Plan

    plan = Plan.load(settings.plan_path)
    return f"{plan.hash} with {len(plan.feature_names)} features"


def _model(settings: Settings) -> str:
    from sentinel.models.artifact import load_manifest, load_plan, load_trees
    from sentinel.models.champion import champion_of
    from sentinel.models.signature import check_folder
    from sentinel.models.signing_keys import trusted_keys_of
    from sentinel.pipeline.served import check_approved

    champion = champion_of(settings)
    if champion is None:
        raise ConfigurationError("no model was promoted yet; run `sentinel up` or `train`")
    folder = settings.models_dir / champion.folder
    keys = trusted_keys_of(settings)
    signed = check_folder(folder, keys, version=champion.version, to_serve=True)
    check_approved(settings, folder, champion.version)
    manifest = load_manifest(folder)
    load_plan(folder, manifest)
    load_trees(folder, manifest)
    verdict = signed.statement.verdict
    return f"{manifest.name} version {manifest.version}, {verdict}, signed by key {signed.key_id}"


def _mlflow(settings: Settings) -> str:
    from sentinel.models.registry_owner import check_own_server
    from sentinel.pipeline.registry_http import RegistryOverHttp

    _answer(settings.tracking_uri, "/health", "MLflow")
    check_own_server(settings)
    with RegistryOverHttp(settings.tracking_uri) as registry:
        champion = registry.champion(settings.mlflow.model_name)
    crowned = "no champion" if champion is None else f"champion is version {champion.version}"
    return f"{settings.tracking_uri}, {crowned}"


def _scorers(settings: Settings) -> Iterator[Check]:
    """A check for each scorer."""
    urls = scorer_urls(settings)
    for number, url in enumerate(urls, 1):
        name = "scoring API" if len(urls) == 1 else f"scoring API {number}"
        yield name, partial(_scorer, url, OwnKey(settings).headers())


def scorer_urls(settings: Settings, port: int | None = None) -> list[str]:
    """A URL for each address that the API's name stands for: replicas share a name.

    Args:
        settings: The deployment.
        port: Default: that of the scoring API.
    """
    host = settings.api.host
    port = port or settings.api.port
    if host in _ANY_ADDRESS:
        addresses = ["127.0.0.1"]
    else:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = sorted({str(entry[4][0]) for entry in found})
        except OSError:
            addresses = [host]
    return [f"http://{reachable(address)}:{port}" for address in addresses]


def _scorer(url: str, key: Mapping[str, str]) -> str:
    health = _json(_get(url, "/health", "the scoring API", key))
    if health["status"] != "ok":
        model, store = health["model"], health["feature_store"]
        why = model.get("problem") or store.get("problem") or f"see {url}/health"
        raise Unavailable(f"is {health['status']}: {why}")
    store = health["feature_store"]
    held, budget = store.get("held_bytes", 0), store.get("budget_bytes", 0)
    of_budget = f"{held / 1e6:,.0f} of {budget / 1e6:,.0f} MB"
    if budget and held > _NEARLY_FULL * budget:
        raise Unavailable(
            f"{url} has used {of_budget} for feature state; at the budget, payments from new "
            "entities are degraded. Raise state.max_mb, or find out who sends so many new ids"
        )
    version = health["model"]["version"]
    state = of_budget if budget else f"{held / 1e6:,.0f} MB"
    return f"{url} ready to score with version {version}, feature state {state}"


def _stranger(settings: Settings) -> str:
    """Whether the scoring API refuses who has no key."""
    url = f"http://{reachable(settings.api.host)}:{settings.api.port}/decisions?limit=1"
    try:
        with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
            status = client.get(url).status_code
    except httpx.HTTPError as error:
        raise Unavailable(f"the scoring API does not answer at {url} ({error})") from error
    if status != httpx.codes.UNAUTHORIZED:
        raise ConfigurationError(f"a request without a key got {status} at {url}, 401 is expected")
    return "a request without a key is refused"


def _monitor(settings: Settings) -> str:
    from sentinel.pipeline.monitor_health import monitor_health

    return monitor_health(f"http://{reachable(settings.monitor.host)}:{settings.monitor.port}")


def _dashboard(settings: Settings) -> str:
    host, port = reachable(settings.dashboard.host), settings.dashboard.port
    return _answer(f"http://{host}:{port}", "/_stcore/health", "the dashboard")


def _airflow(url: str) -> str:
    health = _json(_get(url, "/api/v2/monitor/health", "Airflow"))
    parts = {
        name: health[name]["status"] for name in ("metadatabase", "scheduler", "dag_processor")
    }
    ill = [f"its {name} is {status}" for name, status in parts.items() if status != "healthy"]
    if ill:
        raise Unavailable(f"{url}: {', '.join(ill)}; look at that service's log")
    return f"{url}, {', '.join(parts)} healthy"


def _alerts(settings: Settings) -> str:
    """Who is told of alerts, and whether that works."""
    from sentinel.alerts.mail import addresses, mail_problem
    from sentinel.alerts.store import AlertStore

    alerts = settings.alerts
    for name, delivery in AlertStore(settings.alerts_path).deliveries().items():
        if delivery.problem:
            raise Unavailable(f"alerts are not told by {name} as they should: {delivery.problem}")
    told = []
    problem = mail_problem(alerts)
    if not problem:
        told.append(f"{', '.join(addresses(alerts.mail_to))} by {alerts.smtp_host}")
    webhook = alerts.webhook_url.get_secret_value()
    if webhook:
        told.append(f"the webhook at {httpx.URL(webhook).host}")
    if not told:
        return f"nobody is told, since {problem}; `sentinel alerts list` shows them"
    return f"told to {' and '.join(told)}; `sentinel alerts test` tries it"


def _prometheus(url: str) -> str:
    _get(url, "/-/ready", "Prometheus")
    active = _json(_get(url, "/api/v1/targets?state=active", "Prometheus"))
    targets = active["data"]["activeTargets"]
    down = sorted(target["scrapeUrl"] for target in targets if target["health"] == "down")
    if down:
        raise Unavailable(f"{url} cannot scrape {', '.join(down)}")
    return f"{url}, {len(targets)} targets"


def _answer(url: str, path: str, name: str) -> str:
    _get(url, path, name)
    return url


def _get(
    url: str, path: str, name: str, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    try:
        # A proxy of the environment is for the outside; services are next door.
        with httpx.Client(timeout=_SECONDS, trust_env=False) as client:
            answer = client.get(f"{url.rstrip('/')}{path}", headers=headers)
    except httpx.HTTPError as error:
        raise Unavailable(
            f"{name} does not answer at {url} ({error}); start it, or correct the setting"
        ) from error
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise Unavailable(
            f"{name} at {url} wants a key; set SENTINEL_ACCESS__KEY_FILE, or make one with "
            "`sentinel keys create tools --for-tools`"
        )
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise Unavailable(f"{name} answered {answer.status_code} at {url}{path}; see its log")
    return answer


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        raise Unavailable(f"what answers at {answer.request.url} is something else") from None
