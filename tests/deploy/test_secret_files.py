"""Secrets come from files that variables name, as containers are given them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.domain import ConfigurationError
from sentinel.pipeline.health import checks
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


def test_the_address_of_a_webhook_is_a_secret_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "webhook"
    path.write_text("https://hooks.example.com/services/T0/hidden-token\n")
    monkeypatch.setenv("SENTINEL_ALERTS__WEBHOOK_URL_FILE", str(path))
    settings = Settings(workspace=tmp_path)
    assert settings.alerts.webhook_url.get_secret_value().endswith("hidden-token")
    shown = [repr(settings), str(settings.model_dump()), settings.model_dump_json()]
    shown.append(dict(checks(settings))["alerts"]())  # what `sentinel doctor` says
    assert "the webhook at hooks.example.com" in shown[-1]
    assert not any("hidden-token" in text for text in shown)
    (tmp_path / "sentinel.toml").write_text('[alerts]\nwebhook_url = "ftp://a/hidden-token"\n')
    monkeypatch.delenv("SENTINEL_ALERTS__WEBHOOK_URL_FILE")
    done = CliRunner().invoke(app, ["alerts", "list", "--workspace", str(tmp_path)])
    assert done.exit_code == 1
    assert "alerts.webhook_url" in done.output
    assert "hidden-token" not in done.output
