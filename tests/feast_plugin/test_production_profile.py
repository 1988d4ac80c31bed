"""``feature_store/production.yaml``: Feast's own programs on the registry that `sentinel` wrote."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from feast import FeatureStore

from sentinel.feast_plugin.repo import load_repo
from sentinel.feast_plugin.store import close_connections
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.materialize import materialize
from sentinel.settings import FeastSettings, Settings
from testkit.servers import LocalServer, Postgres, Redis, all_started
from tests.feast_plugin.conftest import Deployment
from tests.feast_plugin.expected import SERVICE

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Profile:
    """A deployment with its registry in PostgreSQL and its online values in Redis."""

    settings: Settings

    @property
    def environment(self) -> dict[str, str]:
        """What Feast's own programs need."""
        return {
            "SENTINEL_WORKSPACE": str(self.settings.workspace),
            "SENTINEL_FEAST__REGISTRY_URL": self.settings.feast.registry_url,
            "SENTINEL_FEAST__ONLINE_URL": self.settings.feast.online_url,
            "FEAST_FS_YAML_FILE_PATH": str(self.settings.feature_store / "production.yaml"),
        }


class FeastUi(LocalServer):
    """``feast ui`` in a folder of definitions."""

    start_seconds = 240.0  # imports

    def __init__(self, folder: Path, repo: Path, environment: Mapping[str, str]) -> None:
        super().__init__(folder)
        self._repo, self._environment = repo, environment

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        feast = str(Path(sys.executable).with_name("feast"))
        return [
            *(feast, "--chdir", str(self._repo), "ui"),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        ]

    def environment(self) -> Mapping[str, str]:
        return self._environment

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/health", timeout=30).status_code == 200


@pytest.fixture(scope="module")
def profile(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    folder = tmp_path_factory.mktemp("profile")
    shutil.copytree(deployment.repo, folder / "feature_store")
    (folder / "feature_store" / "limits.py").unlink()
    shutil.copytree(deployment.workspace, folder / "workspace")
    postgres, redis = Postgres(folder / "postgres"), Redis(folder / "redis")
    with all_started(postgres, redis):
        postgres.make_database("feast_registry")
        settings = Settings(
            workspace=folder / "workspace",
            feature_store=folder / "feature_store",
            feast=FeastSettings(registry_url=postgres.url("feast_registry"), online_url=redis.url),
        )
        applied = apply_definitions(settings)
        assert applied.registry.startswith("postgresql")
        yield Profile(settings)


def test_feast_ui_shows_the_registry_in_postgresql(profile: Profile, tmp_path: Path) -> None:
    definitions = load_repo(profile.settings.feature_store)
    with (
        FeastUi(tmp_path, profile.settings.feature_store, profile.environment) as ui,
        httpx.Client(base_url=ui.url, timeout=60) as client,
    ):
        page = client.get("/p/sentinel/feature-view")
        assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
        script = page.text.partition('src="')[2].partition('"')[0]
        assert client.get(script).headers["content-type"].startswith(("text/javascript", "appl"))
        (project,) = client.get("/projects-list.json").json()["projects"]
        assert project["id"] == "sentinel"

        def asked(what: str) -> dict[str, Any]:
            # What the page itself asks for.
            answer = client.get(f"{project['registryPath']}/{what}", params={"project": "sentinel"})
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            return found

        views = {
            view["spec"]["name"]: view["spec"] for view in asked("feature_views")["featureViews"]
        }
        assert set(views) == set(definitions.views)
        assert {"card", "customer", "customer_profile", "transaction_history"} <= set(views)
        shown = {feature["name"] for feature in views["card"]["features"]}
        windows = {field.name for field in definitions.views["card"].features}
        assert shown == windows | {"card_id"}
        (service,) = asked("feature_services")["featureServices"]
        assert service["spec"]["name"] == SERVICE
        edges = asked("lineage/complete")["relationships"]
        assert len(edges) > len(views)


def test_an_offline_address_that_is_empty_means_the_workspace(
    profile: Profile, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {view.view: view.rows for view in materialize(profile.settings).views}[
        "customer_profile"
    ]
    views = profile.settings.offline_dir / "views"
    assert (views / "customer_profiles" / "manifest.json").is_file()
    for name, value in profile.environment.items():
        monkeypatch.setenv(name, value)
    asked = pd.DataFrame(
        {"customer_id": ["c1", "nobody"], "event_timestamp": pd.Timestamp.now("UTC").floor("us")}
    )
    features = ["customer_profile:customer_transactions"]
    repo = profile.settings.feature_store
    file = repo / "production.yaml"
    unquoted = repo / "unquoted.yaml"
    unquoted.write_text(file.read_text().replace('"${', "${").replace('}"', "}"))
    answers = []
    settings: list[tuple[str | None, Path]] = [(None, file), ("", file), ("", unquoted)]
    for offline, config in settings:
        if offline is None:
            monkeypatch.delenv("SENTINEL_FEAST__OFFLINE_URL", raising=False)
        else:
            monkeypatch.setenv("SENTINEL_FEAST__OFFLINE_URL", offline)
        store = FeatureStore(repo_path=str(repo), fs_yaml_file=config)
        answers.append(store.get_historical_features(asked, features).to_df())
        close_connections(store)
    known = answers[0]["customer_transactions"].tolist()
    paid = sum(getattr(entry, "customer_id", None) == "c1" for entry in deployment.entries)
    assert known[0] == paid
    assert pd.isna(known[1])
    for answer in answers[1:]:
        pd.testing.assert_frame_equal(answer, answers[0])
