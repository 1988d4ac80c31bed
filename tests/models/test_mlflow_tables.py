"""The tables of a new MLflow database that are kept here are those that MLflow makes."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import dump_mlflow_tables
import pytest

from sentinel.models import mlflow_tables
from sentinel.models.mlflow_tables import TABLES, make_tables, tables_of
from sentinel.models.registry_place import MlflowPlace


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dump_mlflow_tables.migrated(tmp_path_factory.mktemp("migrated") / "mlflow.db")


def lines_of(tables: str) -> list[str]:
    """What makes a database, in one order: constraints and indices have another one each time."""
    return sorted(line.strip().rstrip(",") for line in tables.splitlines())


def test_what_is_kept_is_what_the_migrations_of_the_installed_mlflow_make(migrated: Path) -> None:
    kept = TABLES.read_text(encoding="utf-8")
    assert lines_of(kept) == lines_of(tables_of(migrated)), "run `make docs`"


def test_a_new_database_is_the_migrated_one_and_one_that_is_there_is_left_alone(
    migrated: Path, tmp_path: Path
) -> None:
    made = tmp_path / "mlflow.db"
    assert make_tables(made)
    assert lines_of(tables_of(made)) == lines_of(tables_of(migrated))
    assert not make_tables(made)
    empty = tmp_path / "empty.db"
    empty.touch()
    assert not make_tables(empty)
    assert empty.read_bytes() == b""
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "empty.db"}


def test_tables_of_another_mlflow_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "tables.sql"
    text = TABLES.read_text(encoding="utf-8")
    other.write_text(text.replace(f"-- MLflow {version('mlflow')}\n", "-- MLflow 1.0\n", 1))
    monkeypatch.setattr(mlflow_tables, "TABLES", other)
    assert not make_tables(tmp_path / "mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_folder_that_cannot_be_written_is_left_to_mlflow(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not make_tables(tmp_path / "file" / "mlflow.db")


def test_mlflow_takes_a_database_that_was_made_here_for_its_own(tmp_path: Path) -> None:
    place = MlflowPlace(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "mlartifacts")
    client = place.client()
    assert [found.name for found in client.search_experiments()] == ["Default"]
    client.create_registered_model("m")
    assert [model.name for model in client.search_registered_models()] == ["m"]
