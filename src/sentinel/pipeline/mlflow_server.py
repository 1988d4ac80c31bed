"""How the MLflow server of a deployment is started.

On one machine: SQLite and a folder of the workspace. In production: PostgreSQL, and files in S3
that clients get through the server, so that nobody else needs keys.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Final

from sentinel.models.mlflow_tables import make_tables
from sentinel.settings import Settings

log = logging.getLogger(__name__)

_DATABASE: Final = "mlflow.db"


def mlflow_server_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of the MLflow server of a deployment.

    MLflow's job workers, which nothing here uses, would cost more memory than all the rest.
    What may hold a secret is in the environment: other users of the machine see arguments.

    Args:
        settings: Give the host, the port, the database and where files are kept.

    Returns:
        The arguments, and the environment to run them with. The server answers
        ``GET /health`` once it is ready.
    """
    folder = settings.workspace.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--workers", str(settings.mlflow.workers)),
        *("--host", settings.mlflow.host, "--port", str(settings.mlflow.port)),
        # The follower asks every two seconds; a line for each would bury everything else.
        *("--uvicorn-opts", "--no-access-log"),
    ]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": backend_store_uri(settings),
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts_destination(settings),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }
    if settings.mlflow.allowed_hosts:
        environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = settings.mlflow.allowed_hosts
    if artifacts_destination(settings).startswith("s3://"):
        environment |= _s3_environment(settings)
    return command, environment


def backend_store_uri(settings: Settings) -> str:
    """The server's database, password and all.

    Raises:
        ConfigurationError: The setting is no address of a database.
    """
    given = settings.mlflow.backend_store_uri.get_secret_value()
    if not given:
        return f"sqlite:///{settings.workspace.resolve() / _DATABASE}"
    from sentinel.pipeline.mlflow_database import with_driver

    return with_driver(given)


def artifacts_destination(settings: Settings) -> str:
    """Where the server keeps files."""
    if settings.mlflow.artifacts_destination:
        return settings.mlflow.artifacts_destination
    if settings.s3.artifacts_bucket:
        return f"s3://{settings.s3.artifacts_bucket}/mlflow"
    return str(settings.workspace.resolve() / "mlartifacts")


def prepare_mlflow(settings: Settings) -> None:
    """Make what the server needs: its database and tables, and the buckets of the settings.

    Waits for services that do not answer yet; what is wrong for good is said at once.

    Args:
        settings: The deployment.

    Raises:
        ConfigurationError: The database or S3 refuses: a key, a name or a right is wrong.
        Unavailable: One of them does not answer within ``mlflow.start_seconds``.
    """
    from sentinel.pipeline.mlflow_database import prepare_database

    if not settings.mlflow.backend_store_uri.get_secret_value():
        make_tables(settings.workspace.resolve() / _DATABASE)
    prepare_database(backend_store_uri(settings), wait_seconds=settings.mlflow.start_seconds)
    destination = artifacts_destination(settings)
    buckets = {settings.s3.offline_bucket} - {""}
    if destination.startswith("s3://"):
        buckets.add(destination.removeprefix("s3://").partition("/")[0])
    if buckets:
        from sentinel.object_store.store import ObjectStore

        store = ObjectStore(settings.s3)
        for bucket in sorted(buckets):
            if store.ensure_bucket(bucket, wait_seconds=settings.mlflow.start_seconds):
                log.info("Made bucket %s.", bucket)


def run_mlflow(settings: Settings) -> None:
    """Be the MLflow server of a deployment until the process is told to end.

    Raises:
        ConfigurationError, Unavailable: See `prepare_mlflow`.
    """
    command, environment = mlflow_server_command(settings)
    prepare_mlflow(settings)
    os.environ.update(environment)
    signal.signal(signal.SIGTERM, _stop_children)
    # In this process, which has MLflow imported by now, and that takes seconds.
    from mlflow.cli import cli

    cli.main(args=command[command.index("server") :], prog_name="mlflow")


def _stop_children(*_: object) -> None:
    # MLflow waits for a server that it starts as a child, and would leave it behind. In a
    # container, under a supervisor and from a shell, this process leads the group of both.
    if os.getpgrp() != os.getpid():
        sys.exit(128 + signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(os.getpgrp(), signal.SIGTERM)


def _s3_environment(settings: Settings) -> dict[str, str]:
    """How the server's own S3 client is told what the settings say."""
    from sentinel.object_store.store import address_of, addressing

    s3 = settings.s3
    variables = {
        "AWS_DEFAULT_REGION": s3.region,
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": "3",
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": addressing(s3),
    }
    if s3.access_key_id:
        variables["AWS_ACCESS_KEY_ID"] = s3.access_key_id
        variables["AWS_SECRET_ACCESS_KEY"] = s3.secret_access_key.get_secret_value()
    if address := address_of(s3):
        variables["MLFLOW_S3_ENDPOINT_URL"] = address
        # See `sentinel.object_store.store`: trailers are AWS's own.
        variables["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
        variables["AWS_RESPONSE_CHECKSUM_VALIDATION"] = "when_required"
    return variables
