"""A deployment with a small history, and its Feast repository, applied once by the real CLI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sentinel.feast_plugin.compile import category_columns, compile_definitions
from sentinel.features.plan.dictionaries import learn_dictionaries
from sentinel.features.plan.plan import Plan
from sentinel.ledger.log import append_import
from sentinel.ledger.sqlite import SqliteLedger
from tests.feast_plugin.history import Entry, history
from tests.features.logs import batches_of

ORDINARY_VIEW = """
from datetime import timedelta
from feast import FeatureView, Field, FileSource
from feast.types import Float32
from definitions import customer

limits = FeatureView(
    name="limits",
    entities=[customer],
    ttl=timedelta(days=3650),
    schema=[Field(name="credit_limit", dtype=Float32)],
    source=FileSource(name="limits", path="limits.parquet", timestamp_field="event_timestamp"),
)
"""


@dataclass(frozen=True)
class Deployment:
    """What the tests look at.

    Attributes:
        workspace: Folder with ledger and plan.
        repo: Feast repository over it: the default definitions and one ordinary view.
        plan: The applied plan.
        entries: The log.
        apply_output: What ``feast apply`` printed.
    """

    workspace: Path
    repo: Path
    plan: Plan
    entries: list[Entry]
    apply_output: str


@pytest.fixture(scope="session")
def deployment(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A workspace beside a copy of ``feature_store/``, as on a user's machine."""
    home = tmp_path_factory.mktemp("deployment")
    workspace, repo = home / ".sentinel", home / "feature_store"
    shutil.copytree(root / "feature_store", repo, ignore=shutil.ignore_patterns("__pycache__"))
    (repo / "limits.py").write_text(ORDINARY_VIEW)
    entries = history()
    batches = batches_of(entries, [700, 701, 1500])
    with SqliteLedger.open_writer(workspace / "ledger.db") as ledger:
        for batch in batches:
            append_import(ledger, batch)
    plan = compile_definitions(repo, learn_dictionaries(batches, category_columns(repo)))
    plan.save(workspace / "plan.json")
    _write_limits(repo / "limits.parquet")
    return Deployment(workspace, repo, plan, entries, feast_apply(repo))


def feast_apply(repo: Path) -> str:
    """Run ``feast apply`` in a folder; what it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "SENTINEL_WORKSPACE"}
    command = [str(Path(sys.executable).with_name("feast")), "apply"]
    done = subprocess.run(
        command, cwd=repo, env=environment, capture_output=True, text=True, timeout=850
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    return output


def _write_limits(path: Path) -> None:
    import pandas as pd

    pd.DataFrame(
        {
            "customer_id": ["c1", "c2"],
            "event_timestamp": pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True),
            "credit_limit": [1000.0, 2000.0],
        }
    ).to_parquet(path)


@pytest.fixture(scope="session")
def store(deployment: Deployment) -> Iterator[Any]:
    """Feast's public SDK on the repository, while no scorer runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from feast import FeatureStore

        made = FeatureStore(repo_path=str(deployment.repo))
        made.refresh_registry()
        yield made
