from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.importing import import_history
from sentinel.pipeline.mlflow_server import mlflow_server_command
from sentinel.settings import LabelSettings, MlflowSettings, Settings, TrainingSettings
from sentinel.sources import SimulatorConfig, SimulatorSource
from testkit.ports import free_port

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def mlflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of the MLflow server."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def mlflow_settings(mlflow_folder: Path) -> Iterator[MlflowSettings]:
    """A real MLflow server, started as `sentinel up` starts it."""
    folder = mlflow_folder
    mlflow = MlflowSettings(port=free_port())
    command, environment = mlflow_server_command(Settings(workspace=folder, mlflow=mlflow))
    with (folder / "server.log").open("wb") as output:
        server = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 400
        while not _answers(mlflow.port):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail((folder / "server.log").read_text())
            time.sleep(0.2)
        # Tests of several workspaces share it, which has to be said.
        yield mlflow.model_copy(update={"tracking_uri": f"http://127.0.0.1:{mlflow.port}"})
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def settings(tmp_path: Path, mlflow_settings: MlflowSettings) -> Settings:
    """A workspace of its own, with a model name of its own in the shared registry."""
    return Settings(
        workspace=tmp_path / "workspace",
        feature_store=REPOSITORY / "feature_store",
        mlflow=mlflow_settings.model_copy(update={"model_name": f"model-{tmp_path.name}"}),
    )


HISTORY_END_US = 1_772_323_200_000_000  # 2026-03-01


@pytest.fixture(scope="session")
def imported_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a simulated history of 150 days and the plan. Copy it to change it."""
    settings = history_settings(tmp_path_factory.mktemp("imported") / "workspace")
    shutil.copytree(REPOSITORY / "feature_store", settings.feature_store)
    world = SimulatorConfig.ending(
        HISTORY_END_US, days=150, customers=400, merchants=200, fraud_rate=0.02, seed=3
    )
    import_history(settings, SimulatorSource(world), now_us=HISTORY_END_US)
    apply_definitions(settings)
    return settings.workspace


def history_settings(workspace: Path, mlflow: MlflowSettings | None = None) -> Settings:
    return Settings(
        workspace=workspace,
        feature_store=workspace / "feature_store",
        labels=LabelSettings(maturity_days=20),
        training=TrainingSettings(window_days=120, test_days=25, bootstrap_rounds=100),
        mlflow=mlflow or MlflowSettings(),
    )


@pytest.fixture
def workspace(imported_workspace: Path, tmp_path: Path) -> Settings:
    """A copy of the imported workspace."""
    target = tmp_path / "workspace"
    shutil.copytree(imported_workspace, target)
    return history_settings(target)
