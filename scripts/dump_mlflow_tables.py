"""Writes the tables of a new MLflow database from the migrations of the installed MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from mlflow.db import upgrade

from sentinel.models.mlflow_tables import TABLES, tables_of


def migrated(database: Path) -> Path:
    """A database that MLflow made by its migrations."""
    run: Any = upgrade.callback  # what `mlflow db upgrade` does
    run(f"sqlite:///{database}")
    return database


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        TABLES.write_text(tables_of(migrated(Path(folder) / "mlflow.db")), encoding="utf-8")
