"""The production profile as Compose declares it: pinned, locked down, with real settings."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import document_settings
import pytest
import yaml

from sentinel.domain import SentinelError
from sentinel.object_store.store import ObjectStore
from sentinel.settings import Settings
from testkit.servers import S3, Postgres, Redis, needed, program
from testkit.watching import COMPOSE, ROOT, Door
from tests.deploy.conftest import prepare

BIN = Path(sys.executable).parent
TEXT = (COMPOSE / "compose.yaml").read_text()
DECLARED: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = DECLARED["services"]
ONCE = {
    "s3-volume",
    "migrate",
    "functions",
    "keys",
    "pipeline",
    "airflow-init",
}  # end by themselves
KEYS = {f"{name}_key" for name in ("airflow", "dashboard", "pipeline", "prometheus", "sender")}
SETTINGS = {
    "SENTINEL_" + path.replace(".", "__").upper() for path, _ in document_settings.fields(Settings)
}


def each(*without: str) -> Any:
    return pytest.mark.parametrize("name", sorted(SERVICES.keys() - set(without)))


def secrets_of(name: str) -> set[str]:
    return set(SERVICES[name].get("secrets", []))


def test_it_is_what_compose_understands(prepared: Path) -> None:
    schema = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*schema, str(COMPOSE / "compose.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [str(BIN / "podman-compose"), "-f", "compose.yaml", "--profile", "jobs", "config"]
    done = subprocess.run(command, cwd=prepared, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert resolved["services"].keys() == SERVICES.keys()
    assert "${" not in done.stdout


def test_every_system_is_there() -> None:
    wanted = (
        "postgres redis s3 seaweedfs mlflow airflow-api airflow-scheduler airflow-dag-processor"
        " airflow-init migrate functions keys pipeline follower monitor api proxy dashboard"
        " prometheus grafana alertmanager"
    )
    assert set(wanted.split()) <= SERVICES.keys()
    databases = (COMPOSE / "postgres" / "databases.sh").read_text()
    for name in ("airflow_db", "feast_registry", "mlflow", "sentinel"):
        assert f"make {name} " in databases


@each()
def test_every_setting_in_the_environment_exists(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if not variable.startswith("SENTINEL_"):
            continue
        assert variable.removesuffix("_FILE") in SETTINGS, variable
        if variable.endswith("_FILE"):
            assert Path(value).parent == Path("/run/secrets")
            assert Path(value).name in secrets_of(name)


@each()
def test_every_secret_is_a_file_that_setup_writes(name: str, prepared: Path) -> None:
    secrets = secrets_of(name)
    assert secrets <= DECLARED["secrets"].keys()
    for secret in secrets:
        assert DECLARED["secrets"][secret] == {"file": f"./secrets/{secret}"}
        assert (prepared / "secrets" / secret).is_file()
    text = str(SERVICES[name])
    assert set(re.findall(r"/run/secrets/([\w.]+)", text)) <= secrets


def test_setup_writes_no_secret_that_nobody_uses(prepared: Path) -> None:
    used = set().union(*map(secrets_of, SERVICES))
    assert {path.name for path in (prepared / "secrets").iterdir()} == used
    assert DECLARED["secrets"].keys() == used


@each()
def test_images_are_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    ours = r"\$\{SENTINEL_IMAGES:-sentinel\}-(api|pipeline|mlflow|airflow|dashboard)"
    tag = r"\$\{SENTINEL_TAG:-local\}"
    vendors = r"docker\.io/[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.]+)?"
    assert re.fullmatch(f"{ours}:{tag}|{vendors}", image), image
    if "build" in SERVICES[name]:
        assert (ROOT / SERVICES[name]["build"]["dockerfile"]).is_file()


@each()
def test_services_run_locked_down_within_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    limits = service["deploy"]["resources"]["limits"]
    assert limits["cpus"]
    assert limits["memory"]
    if name != "s3-volume":  # gives a fresh volume to the S3 server, and ends
        assert not str(service.get("user", "nobody")).startswith(("0", "root"))
    assert "privileged" not in service


WITH_A_LOGIN = {"proxy", "dashboard", "airflow-api", "grafana"}
WITHOUT = {"mlflow", "prometheus", "alertmanager"}


@each()
def test_only_what_asks_for_a_login_is_published_beyond_loopback(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert bool(ports) == (name in WITH_A_LOGIN | WITHOUT)
    for port in ports:
        beyond = "${BIND_ADDRESS:-127.0.0.1}:" if name in WITH_A_LOGIN else "127.0.0.1:"
        assert port.startswith(beyond)
        assert {"published", "outside"} & set(SERVICES[name]["networks"])


def test_each_client_of_the_api_has_a_key_of_its_own_and_few_have_the_pepper() -> None:
    holders = {
        name: {secret for secret in secrets_of(name) if secret.endswith("_key")} & KEYS
        for name in SERVICES
    }
    assert holders.pop("keys") == KEYS
    assert {name: keys for name, keys in holders.items() if keys} == {
        "airflow-dag-processor": {"airflow_key"},
        "airflow-init": {"airflow_key"},
        "airflow-scheduler": {"airflow_key"},
        "dashboard": {"dashboard_key"},
        "pipeline": {"pipeline_key"},
        "prometheus": {"prometheus_key"},
    }
    assert {name for name in SERVICES if "access_pepper" in secrets_of(name)} == {"api", "keys"}
    assert SERVICES["api"]["depends_on"]["keys"] == {"condition": "service_completed_successfully"}


def test_keys_of_a_deployment_are_known_with_few_scopes_and_can_be_renewed(
    prepared: Path, tmp_path: Path
) -> None:
    secrets = tmp_path / "secrets"
    shutil.copytree(prepared / "secrets", secrets)
    with Postgres(tmp_path / "postgres") as postgres:
        environment = {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "SECRETS": str(secrets),
            "SENTINEL_WORKSPACE": str(tmp_path / "workspace"),
            "SENTINEL_LEDGER__URL": postgres.url(),
            "SENTINEL_ACCESS__PEPPER_FILE": str(secrets / "access_pepper"),
        }

        def keys(*arguments: str) -> subprocess.CompletedProcess[str]:
            command = ["/bin/sh", str(COMPOSE / "keys" / "keys.sh"), *arguments]
            return subprocess.run(command, env=environment, capture_output=True, text=True)

        made = keys()
        assert made.returncode == 0, made.stdout + made.stderr
        for path in secrets.glob("*_key"):
            assert path.read_text() not in made.stdout + made.stderr
        listed = json.loads(keys("list", "--json").stdout)
        scopes = {key["key_id"]: set(key["scopes"]) for key in listed}
        assert scopes == {
            "airflow": {"features", "models"},
            "dashboard": {"decisions", "models", "metrics", "label"},
            "pipeline": {"features", "models"},
            "prometheus": {"metrics"},
            "sender": {"score", "label"},
        }
        origins = {key["key_id"]: key["origins"] for key in listed if key["origins"]}
        assert origins == {"dashboard": ["analyst"]}
        keys("revoke", "airflow")
        (secrets / "sender_key").chmod(0o644)
        (secrets / "sender_key").write_text("sender.snt_" + "a" * 43)
        again = keys()
        assert again.returncode == 0, again.stdout + again.stderr
        assert "airflow is revoked and stays so" in again.stdout
        states = {key["key_id"]: key["state"] for key in json.loads(keys("list", "--json").stdout)}
    assert states["airflow"] == "revoked"
    assert states["sender"].startswith("old secret until ")
    assert states["dashboard"] == "live"


def has_a_way_out(network: str) -> bool:
    declared = DECLARED["networks"][network] or {}
    options = declared.get("driver_opts", {})
    translated = options.get("com.docker.network.bridge.enable_ip_masquerade") != "false"
    return not declared.get("internal", False) and translated


WITH_A_WAY_OUT = {"alertmanager", "airflow-scheduler", "airflow-dag-processor"}


@each()
def test_only_who_sends_mail_has_a_way_out(name: str) -> None:
    service = SERVICES[name]
    if service.get("network_mode") == "none":
        return
    networks = service["networks"]
    assert any(map(has_a_way_out, networks)) == (name in WITH_A_WAY_OUT)
    # Of two networks that are not internal, Docker would choose the one for what goes out.
    assert sum(not (DECLARED["networks"][n] or {}).get("internal") for n in networks) <= 1
    if name in WITH_A_WAY_OUT:
        page = (ROOT / "docs" / "security.md").read_text()
        assert f"`{name}`" in page.partition("**Ways out.**")[2].partition("\n\n**")[0]


def test_stores_have_no_way_out_and_no_published_port() -> None:
    for name, network in (("postgres", "stores"), ("redis", "stores"), ("seaweedfs", "objects")):
        assert SERVICES[name]["networks"] == [network]
        assert DECLARED["networks"][network]["internal"] is True
        assert "ports" not in SERVICES[name]


def test_who_is_published_beside_another_reaches_it_by_no_network_of_theirs() -> None:
    options = DECLARED["networks"]["published"]["driver_opts"]
    assert options["com.docker.network.bridge.enable_icc"] == "false"


@pytest.mark.parametrize(
    ("who", "whom"),
    [
        ("proxy", "api"),
        ("dashboard", "proxy"),
        ("dashboard", "api"),  # its counters
        ("prometheus", "api"),
        ("prometheus", "proxy"),
        ("prometheus", "alertmanager"),
        ("grafana", "prometheus"),
        ("api", "postgres"),
        ("api", "redis"),
        ("follower", "mlflow"),
        ("monitor", "postgres"),
        ("prometheus", "monitor"),
        ("prometheus", "dashboard"),
        ("prometheus", "follower"),
        ("mlflow", "postgres"),
        ("mlflow", "s3"),
        ("s3", "seaweedfs"),
        ("airflow-scheduler", "airflow-api"),
        ("airflow-scheduler", "s3"),
        ("airflow-scheduler", "api"),
        ("airflow-dag-processor", "postgres"),
        *(
            ("pipeline", name)  # `sentinel doctor` asks all of them
            for name in (
                *("postgres", "redis", "s3", "mlflow", "api", "proxy", "monitor", "dashboard"),
                *("airflow-api", "prometheus", "alertmanager", "grafana"),
            )
        ),
    ],
)
def test_who_asks_another_shares_a_network_on_which_it_answers(who: str, whom: str) -> None:
    shared = set(SERVICES[who]["networks"]) & set(SERVICES[whom]["networks"])
    assert shared - {"published"}


@each(*ONCE)
def test_services_that_stay_say_how_they_are_and_come_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"].get("test")


@each()
def test_services_wait_for_what_they_need(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        condition = how["condition"]
        if other in ONCE:
            assert condition == "service_completed_successfully"
        elif condition == "service_healthy":
            assert SERVICES[other]["healthcheck"].get("test")
        else:  # the proxy looks for scorers itself
            assert (name, other) == ("proxy", "api")


def test_what_must_survive_is_in_named_volumes() -> None:
    places = {
        "postgres": "/var/lib/postgresql/data",
        "redis": "/data",
        "seaweedfs": "/data",
        "pipeline": "/var/lib/sentinel",
        "prometheus": "/prometheus",
        "grafana": "/var/lib/grafana",
    }
    for name, place in places.items():
        mounts = dict(volume.split(":")[:2][::-1] for volume in SERVICES[name]["volumes"])
        assert mounts[place] in DECLARED["volumes"]


def test_every_mounted_file_exists() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                there = (COMPOSE / source).exists()
                assert there or source.startswith("./generated/"), source


def test_no_password_is_written_down() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET(?!S__)|TOKEN|_KEY|CONN", variable):
                assert variable.endswith(("_FILE", "_CMD")), variable
                assert "/run/secrets/" in value or value.startswith("/tmp/")
    for line in (COMPOSE / ".env.example").read_text().splitlines():
        assert line.startswith("#") or not re.search("PASSWORD|SECRET|TOKEN", line)


# ------------------------------------------------------------------------------------- the scripts


def test_the_linter_finds_nothing_in_the_scripts() -> None:
    shellcheck = needed("shellcheck", "apt-get install shellcheck")
    scripts = [*COMPOSE.glob("*.sh"), COMPOSE / "postgres" / "databases.sh"]
    scripts += [
        path
        for path in (ROOT / "scripts").iterdir()
        if path.is_file() and path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
    ]
    assert len(scripts) > 6
    done = subprocess.run([shellcheck, "-x", *scripts], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_secrets_are_random_and_stay_when_setup_runs_again(prepared: Path) -> None:
    secrets = prepared / "secrets"
    assert secrets.stat().st_mode & 0o077 == 0
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    passwords = [text for name, text in before.items() if name.endswith("_password") and text]
    assert len(set(passwords)) == len(passwords) >= 6
    assert all(len(text) == 40 for text in passwords)
    prepare(prepared)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before
    assert before["sentinel_password"] in before["ledger_url"]


def test_setup_says_what_is_missing(prepared: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", prepared / "setup.sh"],
        capture_output=True,
        text=True,
        env={"PATH": str(prepared / "nothing") + ":/usr/bin:/bin"},
    )
    assert done.returncode == 1
    assert "docker" in done.stderr


def test_each_database_has_an_owner_who_can_open_no_other(prepared: Path, tmp_path: Path) -> None:
    import psycopg

    with Postgres(tmp_path / "postgres") as postgres:
        environment = {
            "PATH": f"{Path(program('psql')).parent}:/usr/bin:/bin",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "POSTGRES_USER": postgres.user,
            "SECRETS": str(prepared / "secrets"),
        }
        script = [str(COMPOSE / "postgres" / "databases.sh")]
        done = subprocess.run(script, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        owners = {"sentinel": "sentinel", "feast_registry": "feast", "mlflow": "mlflow"}
        owners["airflow_db"] = "airflow"
        for database, owner in owners.items():
            for role in owners.values():
                url = f"postgresql://{role}@127.0.0.1:{postgres.port}/{database}"
                if role != owner:
                    with pytest.raises(psycopg.OperationalError, match="permission denied"):
                        psycopg.connect(url)
                    continue
                with psycopg.connect(url) as connection:
                    connection.execute("CREATE TABLE kept (n int)")
        roles = [str(COMPOSE / "postgres" / "roles.sh")]
        for _ in range(2):  # when the volume is empty, and again by every setup.sh
            done = subprocess.run(roles, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        for role, database in itertools.product(("scorer", "monitor"), owners):
            url = f"postgresql://sentinel_{role}@127.0.0.1:{postgres.port}/{database}"
            if database != "sentinel":
                with pytest.raises(psycopg.OperationalError, match="permission denied"):
                    psycopg.connect(url)
                continue
            with (
                psycopg.connect(url) as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute("SELECT * FROM kept")


def test_a_scorer_is_given_no_key_that_changes_the_log_or_signs_a_model() -> None:
    for name in ("api", "follower", "monitor", "mlflow", "dashboard", "proxy"):
        assert not secrets_of(name) & {"ledger_url", "sentinel_password", "model_signing_key"}, name
    assert "scorer_ledger_url" in secrets_of("api")
    assert secrets_of("monitor") == {"monitor_ledger_url"}


def test_of_seaweedfs_only_the_port_that_asks_for_keys_is_reached(tmp_path: Path) -> None:
    flags = SERVICES["seaweedfs"]["command"]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0"} <= set(flags)
    # Nothing but the door shares a network with it ...
    beside = {name for name in SERVICES if "objects" in SERVICES[name].get("networks", [])}
    assert beside == {"seaweedfs", "s3"}
    # ... and the door hands on this port alone.
    text = (COMPOSE / "s3" / "haproxy.cfg").read_text()
    assert re.findall(r"^\s*bind (\S+)", text, re.MULTILINE) == [":8333"]
    assert re.findall(r"^\s*server \S+ (\S+)", text, re.MULTILINE) == ["seaweedfs:8333"]
    with S3(tmp_path / "s3") as store, Door(tmp_path / "door", store) as door:
        client = store.settings(endpoint_url=door.url)
        kept = ObjectStore(client)
        kept.ensure_bucket("mlflow")
        kept.write("mlflow", "a", b"a file")
        assert [found.key for found in kept.objects("mlflow", "")] == ["a"]
        wrong = ObjectStore(store.settings(endpoint_url=door.url, secret_access_key="wrong"))
        with pytest.raises(SentinelError):
            wrong.write("mlflow", "b", b"another")


def test_redis_keeps_what_it_got_and_lets_nobody_in_without_a_password(
    prepared: Path, tmp_path: Path
) -> None:
    import redis

    text = (COMPOSE / "redis" / "redis.conf").read_text()
    text = text.replace("/run/secrets", str(prepared / "secrets")).replace("dir /data", "")
    (tmp_path / "redis.conf").write_text(text)
    password = (prepared / "secrets" / "redis_password").read_text()

    def as_admin() -> redis.Redis:
        return redis.Redis(port=server.port, username="admin", password=password)

    class Deployed(Redis):
        def command(self) -> list[str]:
            place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
            return [super().command()[0], str(tmp_path / "redis.conf"), *place]

        def is_ready(self) -> bool:
            with redis.Redis(port=self.port, username="admin", password=password) as client:
                return bool(client.ping())

    with Deployed(tmp_path / "redis") as server:
        stranger = redis.Redis(port=server.port)
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.set("k", "v")
        with as_admin() as client:
            client.set("k", "v")
        server.restart()
        with as_admin() as client:
            assert client.get("k") == b"v"
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            most = int(client.config_get("maxmemory")["maxmemory"])
            declared = (COMPOSE / "redis" / "users.acl").read_text()
            assert client.acl_users() == sorted(re.findall(r"^user (\w+)", declared, re.MULTILINE))
        for secret, user in USERS_OF_REDIS.items():
            url = (prepared / "secrets" / secret).read_text()
            with redis.Redis.from_url(
                url.replace("@redis:6379", f"@127.0.0.1:{server.port}")
            ) as own:
                own.connection_pool.make_connection().connect()  # the password is right
            assert url.startswith(f"redis://{user}:")
        health = (prepared / "secrets" / "redis_health_password").read_text()
        with redis.Redis(port=server.port, username="health", password=health) as own:
            assert own.ping()
    assert DECLARED["services"]["redis"]["deploy"]["resources"]["limits"]["memory"] == "2g"
    assert 0 < most < 0.75 * 2 * 1024**3, "a rewrite of the file needs memory, too"


USERS_OF_REDIS = {
    "state_url": "jobs",
    "feast_online_url": "feast",
    "scorer_state_url": "scorer",
    "scorer_online_url": "history",
    "functions_state_url": "functions",
}


def test_each_service_is_a_user_of_redis_with_no_more_than_it_needs() -> None:
    users = {
        name: {user for secret, user in USERS_OF_REDIS.items() if secret in secrets_of(name)}
        for name in SERVICES
    }
    jobs = ("airflow-dag-processor", "airflow-init", "airflow-scheduler", "pipeline")
    assert {name: found for name, found in users.items() if found} == {
        "api": {"scorer", "history"},
        "functions": {"functions"},
        "migrate": {"jobs"},
        **{name: {"jobs", "feast"} for name in jobs},
    }
    assert {name for name in SERVICES if "redis_password" in secrets_of(name)} == {"redis"}
    waits = SERVICES["api"]["depends_on"]["functions"]
    assert waits == {"condition": "service_completed_successfully"}


STORES = {"postgres", "redis", "s3", "seaweedfs"}
"""What restore.sh fills."""
WATCHING = {"alertmanager", "grafana", "prometheus"}
"""What has nothing that a backup holds, and goes on while one is put back."""


def test_what_may_write_to_what_is_put_back_is_stopped_before() -> None:
    said = (COMPOSE / "restore.sh").read_text().replace("\\\n", " ")
    (stopped,) = re.findall(r"^docker compose stop (.+)$", said, flags=re.MULTILINE)
    assert set(stopped.split()) == SERVICES.keys() - ONCE - STORES - WATCHING
    assert said.index("docker compose stop") < said.index("docker compose up")
    theirs = {volume.partition(":")[0] for name in WATCHING for volume in volumes_of(name)}
    for name in WATCHING:
        assert "stores" not in SERVICES[name]["networks"]
    for name in SERVICES.keys() - WATCHING:
        assert not theirs & {volume.partition(":")[0] for volume in volumes_of(name)}


def volumes_of(name: str) -> list[str]:
    return [str(volume) for volume in SERVICES[name].get("volumes", [])]
