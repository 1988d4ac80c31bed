"""`sentinel keys`, and the product's own clients where there are keys."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner, Result

from sentinel.access.keys import id_of_key
from sentinel.access.open_store import open_store
from sentinel.access.own_key import OWN_KEY_FILE, OwnKey
from sentinel.cli.main import app
from sentinel.cli.traffic import _send
from sentinel.cli.up import up
from sentinel.dashboard.client import ScoringApi
from sentinel.domain import (
    ConfigurationError,
    Label,
    StateUnavailable,
    Transaction,
    Unavailable,
    Verdict,
)
from sentinel.pipeline.health import check_services
from sentinel.retrieval.scorer_reader import ScorerReader
from sentinel.settings import ApiSettings, Settings
from testkit.scratch import make_workspace, serving
from testkit.servers import wait_until


class Keys:
    """`sentinel keys` on one workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str, code: int = 0) -> Result:
        command = ["keys", *words, "--workspace", str(self.folder)]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == code, done.output
        return done

    @property
    def held(self) -> str:
        return (self.folder / OWN_KEY_FILE).read_text().strip()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "w")


def test_a_key_is_shown_once_and_never_listed(keys: Keys) -> None:
    assert "There is no key" in keys.run("list").stdout
    made = keys.run("create", "shop-a", "--scope", "score,dry-run", "--name", "Shop A")
    key = made.stdout.strip()
    assert id_of_key(key) == "shop-a"
    assert "keys create tools --for-tools" in made.stderr, "the tools would be locked out"
    listed = json.loads(keys.run("list", "--json").stdout)
    assert [(entry["key_id"], entry["name"]) for entry in listed] == [("shop-a", "Shop A")]
    assert listed[0]["scopes"] == ["dry_run", "score"]
    assert listed[0]["state"] == "live"
    assert listed[0]["last_used_at_us"] is None
    kept = (keys.folder / "keys.db").read_bytes() + keys.run("list", "--json").stdout.encode()
    assert key.partition(".")[2].encode() not in kept
    assert all(len(line) <= 80 for line in keys.run("list").stdout.splitlines())


def test_what_cannot_be_done_is_said_with_what_can(keys: Keys) -> None:
    assert "the scopes are score" in keys.run("create", "a", "--scope", "all", code=1).output
    assert "needs a scope" in keys.run("create", "a", code=1).output
    assert "shop-a" in keys.run("create", "Shop A", "--scope", "score", code=1).output
    keys.run("create", "a", "--scope", "score")
    assert "rotate a" in keys.run("create", "a", "--scope", "score", code=1).output
    assert "the keys are: a" in keys.run("revoke", "b", code=1).output


def test_the_key_of_the_tools_stays_in_its_file_over_rotations(keys: Keys) -> None:
    keys.run("create", "tools", "--for-tools")
    first = keys.held
    assert (keys.folder / OWN_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert first not in keys.run("rotate", "tools").output
    assert keys.held != first
    assert id_of_key(keys.held) == "tools"
    assert "revoked" in keys.run("revoke", "tools").output.lower()
    assert json.loads(keys.run("list", "--json").stdout)[0]["state"] == "revoked"


def test_a_deployments_secrets_may_be_made_first(keys: Keys, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    keys.run("create", "follower", "--scope", "models", "--key-file", str(file))
    made = file.read_text()
    again = ("create", "follower", "--scope", "models,metrics", "--key-file", str(file))
    for _ in range(2):
        assert "The key is in" in keys.run(*again).stdout.replace("\n", " ")
    assert file.read_text() == made
    (listed,) = json.loads(keys.run("list", "--json").stdout)
    assert listed["scopes"] == ["metrics", "models"]
    keys.run("rotate", "follower", "--key-file", str(file))
    assert file.read_text() != made


def test_up_does_not_open_a_workspace_without_keys_to_others(tmp_path: Path) -> None:
    beyond = Settings(workspace=tmp_path / "w", api=ApiSettings(host="0.0.0.0"))
    with pytest.raises(ConfigurationError, match="keys create tools --for-tools"):
        up(beyond)
    assert not (tmp_path / "w" / "up.json").exists()


def test_own_clients_send_the_key_of_the_workspace(tmp_path: Path) -> None:
    scratch = make_workspace(tmp_path / "w")
    keys = Keys(scratch.workspace)
    keys.run("create", "shop", "--scope", "score")
    with serving(scratch) as server:
        api = ApiSettings(port=server.port)
        settings = scratch.model_copy(update={"api": api})
        with (
            closing(ScoringApi(server.url, own_key=OwnKey(settings))) as dashboard,
            pytest.raises(Unavailable, match="keys create tools --for-tools"),
        ):
            dashboard.health()
        with pytest.raises(StateUnavailable, match="keys create tools --for-tools"):
            ask_for_features(settings)
        assert "wants a key" in doctor(settings)

        keys.run("create", "tools", "--for-tools")
        wait_until(lambda: "ready to score" in doctor(settings), 30, "the key to act")
        with closing(ScoringApi(server.url, own_key=OwnKey(settings))) as dashboard:
            assert dashboard.health().status == "ok"
            assert dashboard.decisions().decisions == ()
            assert dashboard.totals().review == 0
        ask_for_features(settings)
        assert "ready to score" in doctor(settings)
        hooks = {"request": [OwnKey(settings).sign]}
        with httpx.Client(base_url=server.url, timeout=60, event_hooks=hooks) as traffic:
            now_us = time.time_ns() // 1000
            entry = Transaction(
                transaction_id="t1", event_time_us=now_us, received_at_us=now_us, amount_minor=1
            )
            label = Label(
                label_id="l1", transaction_id="t1", verdict=Verdict.FRAUD, received_at_us=now_us
            )
            _send(traffic, entry, lambda: False)
            _send(traffic, label, lambda: False)
            assert traffic.get("/predict/t1").status_code == 200
    assert open_store(scratch).version() == 2


def ask_for_features(settings: Settings) -> None:
    reader = ScorerReader.find(settings.workspace, OwnKey(settings))
    assert reader is not None
    reader.read([{"customer_id": "C1"}], [], None)


def doctor(settings: Settings) -> str:
    """What it finds of the scoring API."""
    return next(f.detail for f in check_services(settings) if f.name.startswith("scoring API"))
