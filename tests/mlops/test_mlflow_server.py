"""`sentinel mlflow` makes what it needs, and says in one error what it cannot make."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from sentinel.domain import ConfigurationError, ObjectStoreUnavailable, Unavailable
from sentinel.pipeline.mlflow_server import mlflow_server_command, prepare_mlflow
from sentinel.settings import MlflowSettings, S3Settings, Settings
from testkit.ports import free_port
from testkit.servers import S3, Postgres


def settings(
    folder: Path, *, database: str = "", s3: S3Settings | None = None, wait: float = 0
) -> Settings:
    mlflow = MlflowSettings.model_validate({"backend_store_uri": database, "start_seconds": wait})
    return Settings(workspace=folder, mlflow=mlflow, s3=s3 or S3Settings())


def test_secrets_are_no_arguments(tmp_path: Path, s3: S3) -> None:
    word = "hidden-word"
    given = settings(
        tmp_path,
        database=f"postgresql://mlflow:{word}@db/mlflow",
        s3=s3.settings(secret_access_key=word, artifacts_bucket="b"),
    )
    command, environment = mlflow_server_command(given)
    assert word not in " ".join(command)
    assert environment["AWS_SECRET_ACCESS_KEY"] == word
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://b/mlflow"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"secret_access_key": "guessed"}, "SECRET_ACCESS_KEY"),
        ({"access_key_id": "someone"}, "ACCESS_KEY_ID"),
        ({"create_buckets": False, "artifacts_bucket": "not-there"}, "no bucket 'not-there'"),
    ],
)
def test_what_s3_refuses_is_said_at_once(
    tmp_path: Path, s3: S3, wrong: dict[str, object], said: str
) -> None:
    given = settings(
        tmp_path, s3=s3.settings(**{"artifacts_bucket": "some-bucket"} | wrong), wait=600
    )
    began = time.monotonic()
    with pytest.raises(ConfigurationError, match=said):
        prepare_mlflow(given)
    assert time.monotonic() - began < 300, "waiting would be no use"


def test_services_that_never_come_are_named(tmp_path: Path, s3: S3) -> None:
    port = free_port()
    away = s3.settings(artifacts_bucket="some-bucket", endpoint_url=f"http://127.0.0.1:{port}")
    with pytest.raises(ObjectStoreUnavailable, match=rf"127\.0\.0\.1:{port}"):
        prepare_mlflow(settings(tmp_path, s3=away))
    with pytest.raises(Unavailable, match=rf"PostgreSQL at 127\.0\.0\.1:{port}.*BACKEND_STORE_URI"):
        prepare_mlflow(settings(tmp_path, database=f"postgresql://me@127.0.0.1:{port}/mlflow"))


def test_a_user_that_may_not_is_named(tmp_path: Path, postgres: Postgres) -> None:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE ROLE poor LOGIN")
    where = f"127.0.0.1:{postgres.port}"
    with pytest.raises(ConfigurationError, match="CREATE DATABASE mlflow_poor OWNER poor"):
        prepare_mlflow(settings(tmp_path, database=f"postgresql://poor@{where}/mlflow_poor"))
    with pytest.raises(ConfigurationError, match=r"does not let MLflow in.*nobody"):
        prepare_mlflow(settings(tmp_path, database=f"postgresql://nobody@{where}/x", wait=60))


def test_what_is_no_address_of_a_database_is_not_printed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="postgresql://user@host/name") as raised:
        prepare_mlflow(settings(tmp_path, database="hidden-word"))
    assert "hidden-word" not in str(raised.value)
