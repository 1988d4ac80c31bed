"""Two workspaces with one port for MLflow do not register models into each other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sentinel.cli.up import check_ports
from sentinel.domain import ConfigurationError
from sentinel.models.mlflow_tables import make_tables
from sentinel.models.registry_owner import check_own_server
from sentinel.settings import MlflowSettings, Settings
from testkit.ports import free_port
from tests.cli.test_commands import sentinel


@pytest.fixture
def own(mlflow_folder: Path, mlflow_settings: MlflowSettings) -> Settings:
    """The workspace whose server runs."""
    return Settings(workspace=mlflow_folder, mlflow=MlflowSettings(port=mlflow_settings.port))


def test_a_workspace_knows_its_own_server(own: Settings) -> None:
    check_own_server(own)
    check_own_server(own)


@pytest.mark.parametrize("has_runs", [False, True])
def test_a_server_of_another_workspace_is_named(
    own: Settings, tmp_path: Path, has_runs: bool
) -> None:
    check_own_server(own)
    other = own.model_copy(update={"workspace": tmp_path / "other"})
    other.workspace.mkdir()
    if has_runs:
        assert make_tables(other.workspace / "mlflow.db")
    said = rf"belongs to another workspace \({own.workspace}\), not to {other.workspace}"
    with pytest.raises(ConfigurationError, match=said):
        check_own_server(other)
    with pytest.raises(ConfigurationError, match=said):  # before it says that the port is taken
        check_ports(other)


def test_a_copy_of_a_workspace_is_another_one(own: Settings, tmp_path: Path) -> None:
    check_own_server(own)
    copy = own.model_copy(update={"workspace": tmp_path / "copy"})
    copy.workspace.mkdir()
    shutil.copy(own.workspace / "mlflow.db", copy.workspace / "mlflow.db")
    with pytest.raises(ConfigurationError, match="belongs to another workspace"):
        check_own_server(copy)


def test_a_server_that_the_settings_name_is_shared_on_purpose(
    own: Settings, tmp_path: Path
) -> None:
    named = MlflowSettings(tracking_uri=own.tracking_uri)
    check_own_server(Settings(workspace=tmp_path / "other", mlflow=named))
    check_own_server(Settings(workspace=tmp_path, mlflow=MlflowSettings(port=free_port())))


def test_no_command_works_with_the_models_of_another_workspace(
    own: Settings, tmp_path: Path
) -> None:
    for command in ("train", "retrain", "evaluate", "promote", "rollback", "follow"):
        done = sentinel(
            command,
            SENTINEL_WORKSPACE=str(tmp_path / "other"),
            SENTINEL_MLFLOW__PORT=str(own.mlflow.port),
        )
        assert done.returncode == 1
        assert "belongs to another workspace" in done.stderr
