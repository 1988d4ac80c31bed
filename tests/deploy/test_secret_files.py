"""Secrets come from files that variables name, as containers are given them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.domain import ConfigurationError
from sentinel.settings import Settings

URL = "postgresql://ledger.example/sentinel"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "ledger_url"
    path.write_text(URL + "\n")
    return path


def test_a_setting_is_read_from_the_file_that_its_variable_names(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTINEL_LEDGER__URL_FILE", str(secret))
    monkeypatch.setenv("SENTINEL_API__PORT", "9000")
    settings = Settings()
    assert settings.ledger.url == URL
    assert settings.api.port == 9000


def test_a_secret_file_stands_above_the_settings_file(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sentinel.toml").write_text('[ledger]\nurl = "sqlite"\n[api]\nport = 9100\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTINEL_LEDGER__URL_FILE", str(secret))
    settings = Settings()
    assert (settings.ledger.url, settings.api.port) == (URL, 9100)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SENTINEL_LEDGER__URL_FILE": "missing"}, "cannot be read"),
        ({"SENTINEL_LEGDER__URL_FILE": "missing"}, "SENTINEL_LEGDER__URL is no setting"),
        (
            {"SENTINEL_LEDGER__URL_FILE": "missing", "SENTINEL_LEDGER__URL": URL},
            "are both set",
        ),
    ],
)
def test_a_wrong_file_is_named(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=said):
        Settings()
