"""Two workspaces with one port for MLflow do not register models into each other."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest

from sentinel.cli.up import check_ports
from sentinel.domain import ConfigurationError
from sentinel.experiments.lineup import Experiment
from sentinel.models.mlflow_tables import make_tables
from sentinel.models.registry import Registry
from sentinel.models.registry_owner import check_own_server
from sentinel.models.registry_view import read_view
from sentinel.pipeline.follow import follow
from sentinel.pipeline.registered import registry_of
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.pipeline.role_aliases import tell_roles
from sentinel.settings import MlflowSettings, Settings
from testkit.experiments import run_experiments
from testkit.ports import free_port
from testkit.small_models import register_small_model
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


def test_a_look_at_the_models_of_another_workspace_changes_nothing_there_and_here(
    own: Settings, tmp_path: Path
) -> None:
    own = own.model_copy(
        update={"mlflow": own.mlflow.model_copy(update={"model_name": "of-one-workspace"})}
    )
    check_own_server(own)
    register_small_model(own, tmp_path / "model")
    run_experiments(own, Experiment(name="night", kind="shadow", version="1"))
    tell_roles(own)

    def roles() -> tuple[str, ...]:
        return Registry.of(own).version("1").aliases

    assert "shadow" in roles()
    other = own.model_copy(update={"workspace": tmp_path / "other"})
    for asks in (registry_of, sync_champion, Registry.of):
        with pytest.raises(ConfigurationError, match="belongs to another workspace"):
            asks(other)
    tell_roles(other)  # of a line-up of no experiments
    stop = threading.Event()
    following = threading.Thread(target=follow, args=(other, stop))
    following.start()
    deadline = time.monotonic() + 60
    while (noted := read_view(other.models_dir)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    following.join()
    assert noted is not None
    assert noted.versions == ()
    assert "belongs to another workspace" in noted.problem
    assert "shadow" in roles()


def test_no_command_works_with_the_models_of_another_workspace(
    own: Settings, tmp_path: Path
) -> None:
    for command in (
        "train",
        "retrain",
        "evaluate",
        "promote",
        "rollback",
        "follow",
        "models list",
        "models show 1",
    ):
        done = sentinel(
            *command.split(),
            SENTINEL_WORKSPACE=str(tmp_path / "other"),
            SENTINEL_MLFLOW__PORT=str(own.mlflow.port),
        )
        assert done.returncode == 1
        assert "belongs to another workspace" in done.stderr
