"""One real Airflow for all tests here, with the servers that the pipeline talks to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis as redis_client

from sentinel.features.plan.plan import Plan
from sentinel.pipeline.importing import import_history
from sentinel.settings import (
    FeastSettings,
    LabelSettings,
    LedgerSettings,
    MlflowSettings,
    Settings,
    TrainingSettings,
)
from sentinel.sources.simulator import SimulatorConfig, SimulatorSource
from testkit.airflow_server import VENV, Airflow
from testkit.servers import S3, Mail, MissingProgram, Mlflow, Postgres, Redis

ROOT = Path(__file__).resolve().parents[2]
DAG = "sentinel_mlops_pipeline"
BUCKET = "models"
START = "2025-11-01"
DAYS = 117.0


def need_airflow() -> None:
    """End a test that needs the environment of `make airflow` where it is missing."""
    if not (VENV / "bin" / "airflow").exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)(
            "Airflow's environment is not there: run `make airflow`, which takes a minute"
        )


class Stage:
    """A deployment with everything that a run needs."""

    def __init__(
        self, settings: Settings, airflow: Airflow, mlflow: Mlflow, s3: S3, mail: Mail
    ) -> None:
        self.settings = settings
        self.airflow = airflow
        self.mlflow = mlflow
        self.s3 = s3
        self.mail = mail

    def redis_keys(self) -> int:
        """How many keys the online store has."""
        with redis_client.from_url(self.settings.feast.online_url) as client:
            return int(client.dbsize())

    def plan_hash(self) -> str:
        """Of the plan that was applied last."""
        return Plan.load(self.settings.plan_path).hash

    def live(self, days: float) -> None:
        """Let the world go on for some days."""
        world = SimulatorConfig(
            start=START, days=days, customers=120, merchants=80, fraud_rate=0.03, seed=3
        )
        import_history(self.settings, SimulatorSource(world), now_us=world.end_us)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    need_airflow()
    folder = tmp_path_factory.mktemp("stage")
    with ExitStack() as stack:
        try:
            postgres = stack.enter_context(Postgres(folder / "postgres"))
            s3 = stack.enter_context(S3(folder / "s3"))
            redis = stack.enter_context(Redis(folder / "redis"))
        except MissingProgram as missing:
            pytest.skip(str(missing))
        mail = stack.enter_context(Mail(folder / "mail"))
        database = postgres.url("mlflow")
        mlflow = Mlflow(folder / "mlflow", database=database, s3=s3.settings(), bucket=BUCKET)
        stack.enter_context(mlflow)
        settings = Settings(
            workspace=folder / "workspace",
            feature_store=folder / "feature_store",
            mlflow=MlflowSettings(port=mlflow.port),
            ledger=LedgerSettings(url=postgres.make_database("sentinel")),
            feast=FeastSettings(
                registry_url=postgres.make_database("feast_registry"),
                online_url=redis.url,
                offline_url=str(folder / "workspace" / "offline"),
            ),
            labels=LabelSettings(maturity_days=10),
            training=TrainingSettings(test_days=40, window_days=80, bootstrap_rounds=100),
        )
        shutil.copytree(ROOT / "feature_store", settings.feature_store)
        airflow = Airflow(
            folder / "airflow",
            postgres.make_database("airflow_db"),
            environment={**variables(settings), **mail_variables(mail)},
        )
        stack.enter_context(airflow)
        made = Stage(settings, airflow, mlflow, s3, mail)
        made.live(DAYS)
        yield made


def variables(settings: Settings) -> dict[str, str]:
    """The settings as the tasks get them."""
    return {
        "SENTINEL_WORKSPACE": str(settings.workspace),
        "SENTINEL_FEATURE_STORE": str(settings.feature_store),
        "SENTINEL_MLFLOW__PORT": str(settings.mlflow.port),
        "SENTINEL_LEDGER__URL": settings.ledger.url,
        "SENTINEL_FEAST__REGISTRY_URL": settings.feast.registry_url,
        "SENTINEL_FEAST__ONLINE_URL": settings.feast.online_url,
        "SENTINEL_FEAST__OFFLINE_URL": settings.feast.offline_url,
        "SENTINEL_LABELS__MATURITY_DAYS": str(settings.labels.maturity_days),
        "SENTINEL_TRAINING__TEST_DAYS": str(settings.training.test_days),
        "SENTINEL_TRAINING__WINDOW_DAYS": str(settings.training.window_days),
        "SENTINEL_TRAINING__BOOTSTRAP_ROUNDS": str(settings.training.bootstrap_rounds),
        "SENTINEL_AIRFLOW__MAIL_TO": "fraud-models@example.com, oncall@example.com",
        "SENTINEL_AIRFLOW__MAIL_FROM": "sentinel@example.com",
        "SENTINEL_AIRFLOW__RETRIES": "1",
        "SENTINEL_AIRFLOW__RETRY_SECONDS": "1",
    }


def mail_variables(mail: Mail) -> dict[str, str]:
    """Airflow's connection to the mail server."""
    connection = {
        "conn_type": "smtp",
        "host": "127.0.0.1",
        "port": mail.port,
        "extra": {"disable_ssl": True, "disable_tls": True},
    }
    return {"AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(connection)}
