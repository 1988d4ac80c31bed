"""The offline store in S3 holds what the ledger holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sentinel.domain import ConfigurationError, ObjectStoreUnavailable, WorkspaceError
from sentinel.ledger.export import Table, open_table
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.ledger.stored_export import open_stored_table
from sentinel.object_store.folder import StoredFolder
from sentinel.pipeline.exporting import export_history
from sentinel.settings import Settings
from testkit.ports import free_port
from testkit.servers import S3
from tests.ledger.material import NOON_US, append_history, fill, transaction

TABLES: tuple[Table, ...] = ("transactions", "labels", "decisions")


@pytest.fixture
def workspace(s3: S3, tmp_path: Path) -> Settings:
    """A ledger with a little of everything, and a bucket for its export."""
    bucket = f"offline-{abs(hash(tmp_path)) % 10**9}"
    settings = Settings(workspace=tmp_path / "w", s3=s3.settings(offline_bucket=bucket))
    settings.workspace.mkdir()
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        fill(ledger)
    return settings


def stored(settings: Settings) -> StoredFolder:
    return StoredFolder(settings.s3, f"s3://{settings.s3.offline_bucket}/offline")


def rows(settings: Settings, table: Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_stored_table(stored(settings), table).to_table().to_pylist()
    return sorted(found, key=lambda row: row["sequence"])


def test_the_tables_in_s3_are_those_of_a_folder(workspace: Settings, tmp_path: Path) -> None:
    done = export_history(workspace)
    assert done.where == stored(workspace).url
    folder = tmp_path / "folder"
    assert export_history(workspace, str(folder)).exported_through == done.exported_through
    for table in TABLES:
        local = open_table(folder, table).to_table().to_pylist()
        local.sort(key=lambda row: row["sequence"])
        assert repr(rows(workspace, table)) == repr(local)  # in words, NaN is NaN


def test_a_second_export_uploads_only_what_is_new(workspace: Settings) -> None:
    first = export_history(workspace)
    assert first.published is not None
    again = export_history(workspace)
    assert again.published is not None
    assert (again.published.uploaded, again.published.kept) == (0, first.published.uploaded)
    with SqliteLedger.open_writer(workspace.ledger_path) as ledger:
        append_history(ledger, [transaction(9_999, NOON_US * 2)])
    more = export_history(workspace)
    assert more.published is not None
    assert (more.published.uploaded, more.published.removed) == (1, 0)
    assert rows(workspace, "transactions")[-1]["transaction_id"] == "tx-9999"


def test_another_ledgers_export_is_not_overwritten(workspace: Settings, tmp_path: Path) -> None:
    export_history(workspace)
    other = workspace.model_copy(update={"workspace": tmp_path / "other"})
    other.workspace.mkdir()
    with SqliteLedger.open_writer(other.ledger_path) as ledger:
        append_history(ledger, [transaction(7_777, NOON_US)])
    before = stored(workspace).contents()
    with pytest.raises(WorkspaceError, match="another ledger"):
        export_history(other)
    assert stored(workspace).contents() == before


def test_wrong_keys_and_a_server_that_is_away_stop_it_before_it_begins(
    workspace: Settings, s3: S3
) -> None:
    wrong = s3.settings(offline_bucket="any-bucket", secret_access_key="guessed")
    with pytest.raises(ConfigurationError, match="SECRET_ACCESS_KEY"):
        export_history(workspace.model_copy(update={"s3": wrong}))
    away = s3.settings(offline_bucket="any-bucket", endpoint_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ObjectStoreUnavailable, match="does not answer"):
        export_history(workspace.model_copy(update={"s3": away}))
    assert not workspace.offline_dir.exists()
