"""The production side of models: PostgreSQL, S3 and the MLflow server between them, all real."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sentinel.settings import MlflowSettings, Settings
from testkit.servers import S3, Mlflow, Postgres
from tests.object_store.relay import Relay
from tests.pipeline.conftest import history_settings, imported_workspace

__all__ = ["imported_workspace"]  # a fixture

BUCKET = "mlflow-artifacts"


@dataclass
class Stack:
    """The servers, and what lies between MLflow and S3.

    Attributes:
        settings: A workspace with a history that uses them.
    """

    postgres: Postgres
    s3: S3
    between: Relay
    mlflow: Mlflow
    settings: Settings


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="package")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with S3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="package")
def stack(
    postgres: Postgres,
    s3: S3,
    imported_workspace: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    """Started from nothing: neither the database nor the bucket exists."""
    folder = tmp_path_factory.mktemp("mlops")
    with Relay(s3.port) as between:
        through = s3.settings(endpoint_url=f"http://127.0.0.1:{between.port}")
        server = Mlflow(
            folder / "mlflow", database=postgres.url("mlflow_db"), s3=through, bucket=BUCKET
        )
        shutil.copytree(imported_workspace, folder / "workspace")
        settings = history_settings(
            folder / "workspace", MlflowSettings(tracking_uri=server.url, model_name="production")
        )
        with server:
            yield Stack(postgres, s3, between, server, settings)
