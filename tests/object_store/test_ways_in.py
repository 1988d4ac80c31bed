"""Whoever reads S3, by boto3 or by Arrow, finds server and keys by settings, then by ``AWS_*``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import SecretStr

from sentinel.domain import SentinelError
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.ledger.stored_export import open_stored_table
from sentinel.object_store.folder import StoredFolder
from sentinel.pipeline.exporting import export_history
from sentinel.retrieval.view_table import ViewTable
from sentinel.settings import S3Settings, Settings
from testkit.servers import S3
from tests.ledger.material import fill

BUCKET = "ways-in"
ELSEWHERE = "http://127.0.0.1:1"
Way = Callable[[S3, pytest.MonkeyPatch, Path], S3Settings]


@pytest.fixture(scope="module")
def written(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> S3:
    """An export and the table of a view, in one bucket."""
    workspace = tmp_path_factory.mktemp("workspace")
    settings = Settings(workspace=workspace, s3=s3.settings())
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        fill(ledger)
    export_history(settings, f"s3://{BUCKET}/export")
    table = ViewTable(f"s3://{BUCKET}/offline", "limits", settings)
    table.begin("plan", "log")
    table.append(pa.table({"limit": [1.0, 2.0]}), last_sequence=2, as_of_us=3)
    return s3


def by_settings(s3: S3, _: pytest.MonkeyPatch, __: Path) -> S3Settings:
    return s3.settings()


def by_settings_whatever_the_environment_says(
    s3: S3, patch: pytest.MonkeyPatch, _: Path
) -> S3Settings:
    patch.setenv("AWS_ENDPOINT_URL_S3", ELSEWHERE)
    patch.setenv("AWS_ACCESS_KEY_ID", "another")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    patch.setenv("AWS_SESSION_TOKEN", "another")
    return s3.settings()


def by_environment(s3: S3, patch: pytest.MonkeyPatch, _: Path) -> S3Settings:
    patch.setenv("AWS_ENDPOINT_URL", ELSEWHERE)  # the more special one counts
    for name, value in s3.credentials().items():
        patch.setenv(name, value)
    return S3Settings()


def by_any_address_of_the_environment(s3: S3, patch: pytest.MonkeyPatch, _: Path) -> S3Settings:
    patch.setenv("AWS_ENDPOINT_URL", s3.url.replace("127.0.0.1", "localhost"))
    patch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
    return S3Settings()


def address_by_settings_and_keys_of_a_profile(
    s3: S3, patch: pytest.MonkeyPatch, folder: Path
) -> S3Settings:
    (folder / "credentials").write_text(
        f"[shop]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n"
    )
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    patch.setenv("AWS_PROFILE", "shop")
    return S3Settings(endpoint_url=s3.url)


def address_of_the_environment_and_keys_by_settings(
    s3: S3, patch: pytest.MonkeyPatch, _: Path
) -> S3Settings:
    patch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
    return s3.settings(endpoint_url="")


def keys_of_a_program(s3: S3, patch: pytest.MonkeyPatch, folder: Path) -> S3Settings:
    answer = folder / "keys.json"
    answer.write_text(
        f'{{"Version": 1, "AccessKeyId": "{s3.access_key}", "SecretAccessKey": "{s3.secret_key}"}}'
    )
    (folder / "config").write_text(f"[default]\ncredential_process = cat {answer}\n")
    patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    return S3Settings(endpoint_url=s3.url)


@pytest.mark.parametrize(
    "way",
    [
        by_settings,
        by_settings_whatever_the_environment_says,
        by_environment,
        by_any_address_of_the_environment,
        address_by_settings_and_keys_of_a_profile,
        address_of_the_environment_and_keys_by_settings,
        keys_of_a_program,
    ],
)
def test_views_and_exports_are_found_in_the_same_way(
    written: S3, way: Way, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _nothing_from_this_machine(monkeypatch, tmp_path)
    settings = Settings(workspace=tmp_path / "w", s3=way(written, monkeypatch, tmp_path))
    view = ViewTable(f"s3://{BUCKET}/offline", "limits", settings).rows(["limit"])
    assert view is not None
    assert view.to_pydict() == {"limit": [1.0, 2.0]}
    export = open_stored_table(StoredFolder(settings.s3, f"s3://{BUCKET}/export"), "transactions")
    assert export.count_rows() > 0


def test_keys_of_the_environment_do_not_mend_wrong_settings(
    written: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _nothing_from_this_machine(monkeypatch, tmp_path)
    for name, value in written.credentials().items():
        monkeypatch.setenv(name, value)
    wrong = written.settings(secret_access_key=SecretStr("guessed"))
    settings = Settings(workspace=tmp_path / "w", s3=wrong)
    with pytest.raises(SentinelError, match="secret_access_key"):
        ViewTable(f"s3://{BUCKET}/offline", "limits", settings)
    with pytest.raises(SentinelError, match="secret_access_key"):
        open_stored_table(StoredFolder(settings.s3, f"s3://{BUCKET}/export"), "transactions")


def test_without_keys_anywhere_the_settings_are_named(
    written: S3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _nothing_from_this_machine(monkeypatch, tmp_path)
    settings = Settings(workspace=tmp_path / "w", s3=S3Settings(endpoint_url=written.url))
    with pytest.raises(SentinelError, match="SENTINEL_S3__ACCESS_KEY_ID"):
        ViewTable(f"s3://{BUCKET}/offline", "limits", settings)


def _nothing_from_this_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
        *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_REGION"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr("boto3.DEFAULT_SESSION", None)  # it keeps the keys that it has found
