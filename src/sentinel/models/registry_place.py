"""Where MLflow is: a server that answers, or the workspace's own database and folder.

A workspace whose settings name no server keeps MLflow's database (``mlflow.db``) and files
(``mlartifacts/``) itself. The server that `sentinel up` or `sentinel mlflow` starts works on them;
while none runs, training and promotion use them directly. A later server shows the same runs.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from filelock import FileLock

from sentinel.domain import ModelError, Unavailable
from sentinel.models.mlflow_tables import make_tables
from sentinel.settings import Settings

SCHEME: Final = "mlflow-artifacts:"

_TIMEOUT: Final = httpx.Timeout(4.0)

# MLflow tries for minutes to reach a server that is away. Whoever waits wants to know sooner.
_PATIENCE: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_ARTIFACT_ROOT: Final = "_MLFLOW_SERVER_ARTIFACT_ROOT"


class MlflowPlace(msgspec.Struct, frozen=True):
    """Where runs and models are kept.

    Attributes:
        uri: ``http://`` address of a server, or ``sqlite:///`` and the path of a database.
        files: The folder of artifacts beside that database; None if a server has them.
    """

    uri: str
    files: Path | None = None

    def client(self) -> Any:
        """MLflow's client of it."""
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        if self.files is None:
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        database = Path(self.uri.removeprefix("sqlite:///"))
        database.parent.mkdir(parents=True, exist_ok=True)
        # The first client makes the tables, and no two may. What it makes must look as if a
        # server had made it, so that a server finds the files.
        with FileLock(f"{database}.lock"), _variable(_ARTIFACT_ROOT, f"{SCHEME}/"), _quiet():
            make_tables(database)
            client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            client.search_experiments(max_results=1)
            return client

    def folder(self, location: str) -> Path:
        """The folder of a location such as ``mlflow-artifacts:/1/RUN/artifacts``.

        Raises:
            ModelError: The location is somewhere else.
        """
        if self.files is None:
            raise AssertionError("a server has the files")
        return self.files / artifact_path(location)


def mlflow_place(settings: Settings) -> MlflowPlace:
    """Where the MLflow of a deployment is.

    Raises:
        Unavailable: The server that the settings name does not answer, or the workspace's own is
            to keep its data in PostgreSQL or S3 and is not running.
    """
    uri = settings.tracking_uri.rstrip("/")
    try:
        answer = httpx.get(f"{uri}/health", timeout=_TIMEOUT)
        if answer.status_code == httpx.codes.OK or not keeps_mlflow(settings):
            return MlflowPlace(uri)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if not keeps_mlflow(settings):
            raise away(uri, error) from error
    folder = settings.workspace.resolve()
    files = settings.mlflow.artifacts_destination or str(folder / "mlartifacts")
    return MlflowPlace(f"sqlite:///{folder / 'mlflow.db'}", Path(files))


def keeps_mlflow(settings: Settings) -> bool:
    """Whether the workspace itself holds MLflow's database and files.

    Where the ledger is in a database, several machines share the deployment, and a registry in one
    workspace would be unknown to the others.
    """
    if settings.ledger.url:
        return False
    mlflow = settings.mlflow
    elsewhere = mlflow.tracking_uri or mlflow.backend_store_uri.get_secret_value()
    files = mlflow.artifacts_destination or settings.s3.artifacts_bucket
    return not elsewhere and "://" not in files and not settings.s3.artifacts_bucket


def artifact_path(location: str) -> str:
    """The path of an artifact location below the server's folder or bucket.

    Raises:
        ModelError: The location is somewhere else.

    >>> artifact_path("mlflow-artifacts:/1/models/m-1/artifacts")
    '1/models/m-1/artifacts'
    """
    if not location.startswith(SCHEME):
        raise ModelError(
            f"The files are at {location}, not behind the MLflow server. Run the server with "
            "--artifacts-destination, and train the model anew."
        )
    path = location.removeprefix(SCHEME)
    if path.startswith("//"):  # the server's own address may stand in between
        path = path[2:].partition("/")[2]
    return path.strip("/")


def away(uri: str, error: Exception) -> Unavailable:
    """The error for an MLflow server, or a database of MLflow, that cannot be reached."""
    reason = str(error) or type(error).__name__
    if uri.startswith("sqlite:"):
        return Unavailable(
            f"MLflow's database {uri.removeprefix('sqlite:///')} cannot be used ({reason}). See "
            "that it can be written and that no other program holds it, and try again. If it is "
            "damaged, restore it from a backup; `sentinel rollback` works without it."
        )
    return Unavailable(
        f"MLflow does not answer at {uri} ({reason}). Start it with `sentinel mlflow` (`sentinel "
        "up` runs it, too, in a workspace that it filled itself), or name another server with "
        "SENTINEL_MLFLOW__TRACKING_URI."
    )


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a line for each of the migrations of a new database, and without warnings."""
    loggers = [logging.getLogger(name) for name in ("alembic", "mlflow.store.db.utils")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
