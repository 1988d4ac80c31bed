"""A deployment that is saved, lost and put back is the one it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from sentinel.dashboard.login.users import UserStore
from sentinel.ledger.open import open_reader
from sentinel.settings import LedgerSettings, Settings
from testkit.servers import S3, Postgres, Redis, all_started, program
from tests.cli.test_commands import MAPPING, ROWS

OWNERS = {"sentinel": "sentinel", "mlflow": "mlflow", "feast_registry": "feast"}
OWNERS["airflow_db"] = "airflow"


class Deployment:
    """The stores of the production profile, and the scripts over them."""

    def __init__(self, compose: Path, folder: Path) -> None:
        self.compose = compose
        self.folder = folder
        self.workspace = folder / "workspace"
        self.postgres = Postgres(folder / "postgres")
        self.redis = Redis(folder / "redis")
        self.s3 = S3(folder / "s3")

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{Path(program('pg_dump')).parent}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.postgres.port),
            "POSTGRES_USER": self.postgres.user,
            "SECRETS": str(self.compose / "secrets"),
            "REDIS_PORT": str(self.redis.port),
            "FOUND": str(self.folder / "found.json"),
            "SENTINEL_PYTHON": sys.executable,
            "SENTINEL_WORKSPACE": str(self.workspace),
            "SENTINEL_LEDGER__URL": self.ledger_url,
            "SENTINEL_LEDGER__SCORER_ROLE": "sentinel_scorer",
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": self.redis.url,
            "SENTINEL_FEAST__REGISTRY_URL": self.ledger_url.replace("sentinel@", "feast@").replace(
                "/sentinel", "/feast_registry"
            ),
            "SENTINEL_FEAST__ONLINE_URL": self.redis.url.replace("/0", "/1"),
            "SENTINEL_S3__ENDPOINT_URL": self.s3.url,
            "SENTINEL_S3__ACCESS_KEY_ID": self.s3.access_key,
            "SENTINEL_S3__SECRET_ACCESS_KEY": self.s3.secret_key,
            "SENTINEL_S3__ARTIFACTS_BUCKET": "mlflow",
            "SENTINEL_S3__OFFLINE_BUCKET": "offline",
        }

    @property
    def ledger_url(self) -> str:
        return f"postgresql://sentinel@127.0.0.1:{self.postgres.port}/sentinel"

    def run(self, *command: str | Path) -> str:
        done = subprocess.run(
            list(map(str, command)), env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def sentinel(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "sentinel", *arguments)

    def entries(self) -> list[bytes]:
        settings = Settings(ledger=LedgerSettings(url=self.ledger_url))
        with open_reader(settings) as reader:
            return [bytes(group.payload) for group in reader.groups()]


@pytest.fixture
def deployment(prepared: Path, tmp_path: Path) -> Iterator[Deployment]:
    made = Deployment(prepared, tmp_path)
    (tmp_path / "bin").mkdir()
    shutil.copy(Path(__file__).with_name("docker_here"), tmp_path / "bin" / "docker")
    with all_started(made.postgres, made.redis, made.s3):
        made.run(prepared / "postgres" / "databases.sh")
        made.run(prepared / "postgres" / "roles.sh")
        (tmp_path / "payments.csv").write_text(ROWS)
        (tmp_path / "mapping.toml").write_text(MAPPING)
        made.sentinel("import", str(tmp_path / "mapping.toml"), "--allow-rejects", "0.6")
        yield made


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_is_saved_and_lost_comes_back(deployment: Deployment) -> None:
    postgres, s3 = deployment.postgres, deployment.s3
    with psycopg.connect(f"{postgres.url('mlflow')}", autocommit=True) as connection:
        connection.execute("CREATE TABLE runs (name text)")
        connection.execute("INSERT INTO runs VALUES ('first')")
    client = s3.client()
    for bucket, key, body in (("mlflow", "1/model/trees.txt", b"tree"), ("offline", "a=1/x", b"")):
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=key, Body=body)
    (deployment.workspace / "plan.json").write_text("the plan")
    entries = deployment.entries()
    assert entries
    users = UserStore(deployment.folder / "workspace-dashboard" / "dashboard.db")
    users.create("ann", "four random words here")

    backup = deployment.folder / "backup"
    said = deployment.run(deployment.compose / "backup.sh", backup)
    assert "keep it encrypted" in said
    assert backup.stat().st_mode & 0o077 == 0

    for database in OWNERS:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{database}" WITH (FORCE)')
    s3.stop()
    shutil.rmtree(s3.folder)
    s3.start()
    shutil.rmtree(deployment.workspace)
    users.remove("ann")
    users.create("another", "four random words here")
    with redis.Redis(port=deployment.redis.port) as client:
        client.set("a record of another time", "1")

    deployment.run(deployment.compose / "restore.sh", "--yes", backup)

    assert deployment.entries() == entries
    with psycopg.connect(f"postgresql://mlflow@127.0.0.1:{postgres.port}/mlflow") as connection:
        assert connection.execute("SELECT name FROM runs").fetchall() == [("first",)]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(f"postgresql://mlflow@127.0.0.1:{postgres.port}/sentinel")
    scorer = deployment.ledger_url.replace("sentinel@", "sentinel_scorer@")
    with open_reader(Settings(ledger=LedgerSettings(url=scorer))) as reader:
        assert [bytes(group.payload) for group in reader.groups()] == entries
    with (
        psycopg.connect(scorer) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("DELETE FROM sentinel.groups")
    found = s3.client().get_object(Bucket="mlflow", Key="1/model/trees.txt")
    assert found["Body"].read() == b"tree"
    assert s3.client().get_object(Bucket="offline", Key="a=1/x")["ContentLength"] == 0
    assert (deployment.workspace / "plan.json").read_text() == "the plan"
    assert [user.name for user in users.users()] == ["ann"]
    assert users.check("ann", "four random words here")
    with redis.Redis(port=deployment.redis.port) as client:
        assert client.dbsize() == 0, "state of another moment would contradict the ledger"
    report = json.loads((deployment.folder / "found.json").read_text())
    well = {check["name"] for check in report["checks"] if check["well"]}
    assert {
        "ledger's database",
        "Feast's registry",
        "Feast's online store",
        "Redis",
        "S3 bucket mlflow",
        "S3 bucket offline",
        "ledger",
    } <= well, report

    again = ("import", str(deployment.folder / "mapping.toml"), "--allow-rejects", "0.6")
    deployment.sentinel(*again)  # and it goes on
    assert deployment.entries() == entries

    with (backup / "mlflow.dump").open("ab") as damaged:
        damaged.write(b"x")
    refused = subprocess.run(
        [deployment.compose / "restore.sh", "--yes", backup],
        env=deployment.environment,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1
    assert "nothing was changed" in refused.stderr
