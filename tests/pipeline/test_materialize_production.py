"""The feature store in production: registry in PostgreSQL, values in Redis, tables in S3.

Real servers. The tests run in order on one deployment.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from pydantic import SecretStr
from redis import Redis as RedisClient

from sentinel.domain import ConfigurationError, ModelNotSigned, SentinelError, StateUnavailable
from sentinel.feast_plugin.store import feast_on
from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.calibration import fit_calibration
from sentinel.models.intervals import Estimate
from sentinel.models.thresholds import Thresholds
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.materialize import MaterializeReport, materialize
from sentinel.pipeline.verify_sample import verify_sample
from sentinel.scoring.historic import OnlineHistoryScores
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import FeastSettings, S3Settings, Settings
from sentinel.state.online_history import OnlineHistory, entity_key
from testkit.redis_users import url_as, users_of_the_deployment
from testkit.servers import S3, Postgres, Redis, all_started
from testkit.signed_models import sign_folder
from testkit.small_models import PLAN
from tests.pipeline.conftest import history_settings
from tests.pipeline.test_materialize import more_payments, online, rows_of

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

WATERMARKS = "sentinel:materialized:sentinel"


@dataclass(frozen=True)
class Production:
    settings: Settings
    redis: Redis
    s3: S3

    @property
    def environment(self) -> dict[str, str]:
        """What a container of this deployment has."""
        feast, s3 = self.settings.feast, self.settings.s3
        return os.environ | {
            "SENTINEL_WORKSPACE": str(self.settings.workspace),
            "SENTINEL_FEATURE_STORE": str(self.settings.feature_store),
            "SENTINEL_FEAST__REGISTRY_URL": feast.registry_url,
            "SENTINEL_FEAST__ONLINE_URL": feast.online_url,
            "SENTINEL_FEAST__OFFLINE_URL": feast.offline_url,
            "SENTINEL_S3__ENDPOINT_URL": s3.endpoint_url,
            "SENTINEL_S3__ACCESS_KEY_ID": s3.access_key_id,
            "SENTINEL_S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
            "FEAST_FS_YAML_FILE_PATH": "production.yaml",
            "COLUMNS": "160",
        }

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        program = str(Path(sys.executable).with_name(command[0]))
        return subprocess.run(
            [program, *command[1:]],
            cwd=cwd or self.settings.workspace,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=850,
        )

    def transactions(self) -> int:
        """Hashes of the per-transaction view in Redis."""
        with RedisClient(port=self.redis.port) as client:
            prefix = entity_key("")[:-4] + b"*"
            return sum(1 for _ in client.scan_iter(prefix, count=5_000))


@pytest.fixture(scope="module")
def production(
    imported_workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("production")
    shutil.copytree(imported_workspace, folder / "workspace")
    (folder / "workspace" / "registry.db").unlink()
    postgres, redis, s3 = (
        Postgres(folder / "postgres"),
        Redis(folder / "redis", options=users_of_the_deployment(folder)),
        S3(folder / "s3"),
    )
    with all_started(postgres, redis, s3):
        postgres.make_database("feast_registry")
        settings = history_settings(folder / "workspace").model_copy(
            update={
                "feast": FeastSettings(
                    registry_url=postgres.url("feast_registry", "postgresql+psycopg"),
                    online_url=url_as(redis, "feast"),
                    offline_url="s3://features/offline",
                ),
                "s3": S3Settings(
                    endpoint_url=s3.url,
                    access_key_id=s3.access_key,
                    secret_access_key=SecretStr(s3.secret_key),
                    timeout_seconds=5,
                ),
            }
        )
        yield Production(settings, redis, s3)


@pytest.fixture(scope="module")
def first(production: Production) -> tuple[MaterializeReport, float]:
    """The first materialization, and the seconds that one without a kill takes."""
    apply_definitions(production.settings)
    backfill(production.settings)  # compiles kernels, which is not what is timed here
    started = time.monotonic()
    killed = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "features", "materialize"],
        env={k: v for k, v in production.environment.items() if k != "FEAST_FS_YAML_FILE_PATH"},
        cwd=production.settings.workspace,
        stdout=(production.settings.workspace / "killed.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    with RedisClient(port=production.redis.port) as client:
        while time.monotonic() < started + 400 and killed.poll() is None:
            mark = client.hget(WATERMARKS, "transaction_history")
            if mark and json.loads(mark)["rows"]:
                break
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        written = client.hget(WATERMARKS, "transaction_history")
    assert written, (production.settings.workspace / "killed.log").read_text()
    half = json.loads(written)
    seconds = time.monotonic() - started
    assert not half["complete"]
    assert half["rows"] > 0
    return materialize(production.settings), seconds


def test_the_definitions_are_in_postgresql(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    again = apply_definitions(production.settings)
    assert again.registry.startswith("postgresql+psycopg://127.0.0.1:")
    with feast_on(production.settings) as store:
        views = {view.name: view for view in store.list_feature_views()}
    assert {"customer_profile", "merchant_profile", "transaction_history"} <= set(views)
    assert views["transaction_history"].most_recent_end_time is not None
    assert not (production.settings.workspace / "registry.db").exists()


def test_a_run_that_was_killed_is_gone_on_with_and_no_row_is_missing(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    report, _ = first
    parts = backfill(production.settings).parts
    (history,) = (view for view in report.views if view.view == "transaction_history")
    assert history.mode == report.mode == "full"
    assert 0 < history.rows < parts.manifest.rows
    assert production.transactions() == parts.manifest.rows
    files = {
        info["Key"]
        for info in production.s3.client().list_objects_v2(Bucket="features")["Contents"]
    }
    assert "offline/views/transaction_history/manifest.json" in files
    assert any(name.startswith("offline/views/customer_profiles/part-") for name in files)


def test_serving_reads_what_feast_wrote(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    settings = production.settings
    plan = Plan.load(settings.plan_path)
    history = OnlineHistory(settings.feast.online_url)
    for table in backfill(settings).parts.tables(["transaction_id", *plan.feature_names]):
        for row in table.take(list(range(0, table.num_rows, 997))).to_pylist():
            found = history.find(row.pop("transaction_id"))
            assert found is not None
            assert found.plan_hash == plan.hash
            expected = np.array(list(row.values()), dtype=np.float32)
            assert np.array_equal(found.vector, expected, equal_nan=True)
            assert (found.fraud_probability, found.is_fraud, found.model_version) == (None,) * 3
    assert history.find("unheard-of") is None
    assert history.find("") is None
    history.close()


def test_an_empty_run_writes_nothing_and_an_increment_what_is_new(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    empty = materialize(production.settings)
    assert (empty.mode, empty.rows) == ("incremental", 0)
    batch = more_payments(production.settings, 40, "later")
    more = materialize(production.settings)
    assert more.mode == "incremental"
    assert rows_of(more)["transaction_history"] == batch.num_rows
    history = OnlineHistory(production.settings.feast.online_url)
    assert history.find(f"later-{batch.num_rows - 1}") is not None
    history.close()


def test_a_sample_of_what_is_served_agrees(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    result = verify_sample(production.settings, 300, seed=1)
    rows = {part.what: part.rows for part in result.checked}
    assert rows["transaction_history"] > 250
    assert rows["windows"] > 250
    assert rows["customer_profile"] > 50
    assert (result.mismatches, result.rate) == (0, 0.0)
    assert 0 < result.interval[1] < 0.01


def test_a_changed_value_is_found_and_the_command_fails(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    with RedisClient(port=production.redis.port) as client:
        for key in list(client.scan_iter(entity_key("")[:-4] + b"*", count=5_000))[::20]:
            fields = client.hgetall(key)
            (vector,) = (name for name, value in fields.items() if len(value) > 300)
            client.hset(key, vector, fields[vector][:-1] + b"\x7e")
    done = production.run("sentinel", "features", "verify", "--sample", "400")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "transaction_history" in done.stdout
    assert "95 % interval" in done.stdout
    whole = materialize(production.settings, full=True)
    assert whole.mode == "full"
    assert verify_sample(production.settings, 400).mismatches == 0


def small_model(plan: Plan, folder: Path, version: str) -> None:
    """A model of a plan, as promotion leaves it for serving."""
    random = np.random.default_rng(int(version))
    rows = random.normal(size=(1_000, len(plan.feature_names))).astype(np.float32)
    fraud = (rows[:, 0] + random.normal(size=1_000) > 2).astype(np.int64)
    booster = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 7},
        lightgbm.Dataset(rows, fraud, feature_name=list(plan.feature_names)),
        num_boost_round=5,
    )
    save_artifact(
        folder,
        name="small",
        plan=plan,
        model=booster.model_to_string(),
        calibration=fit_calibration(np.asarray(booster.predict(rows, raw_score=True)), fraud),
        thresholds=Thresholds(fraud=0.5, review=0.3, decline=0.8),
        metrics={"average_precision": Estimate(0.5, 0.4, 0.6)},
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=1_000, frauds=9),
        data_hash="data",
        created_at_us=1,
        run_id="run",
        version=version,
    )


def test_the_model_in_charge_scores_history(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    settings = production.settings
    plan = Plan.load(settings.plan_path)
    for version in ("1", "2"):
        small_model(plan, settings.models_dir / f"small-{version}", version)
    champion = {"version": "1", "folder": "small-1"}
    (settings.models_dir / "champion.json").write_text(json.dumps(champion))
    more_payments(settings, 10, "scored")
    with pytest.raises(ModelNotSigned, match="is not signed"):
        materialize(settings)
    assert OnlineHistory(settings.feast.online_url).find("scored-3") is None
    sign_folder(settings, settings.models_dir / "small-1")
    assert materialize(settings).mode == "incremental"
    models = [
        ServingModel.load(settings.models_dir / f"small-{version}", settings.money)
        for version in ("1", "2")
    ]
    online_history = OnlineHistory(settings.feast.online_url)
    row = online_history.find("scored-3")
    assert row is not None
    for model in models:
        scored = OnlineHistoryScores(online_history, itertools.repeat(model).__next__).find(
            "scored-3"
        )
        _, probabilities = model.score(row.vector.reshape(1, -1))
        assert scored is not None
        assert scored.fraud_probability == float(probabilities[0])
        assert scored.model_version == model.version
    # A champion with another plan cannot score this vector: what was said then is the answer.
    other = ServingModel.load(settings.models_dir / "small-2", settings.money)
    other.plan = PLAN
    then = OnlineHistoryScores(online_history, lambda: other).find("scored-3")
    assert then is not None
    assert (then.model_version, then.fraud_probability) == ("1", row.fraud_probability)
    before = OnlineHistoryScores(online_history, lambda: other).find("later-3")
    assert before is None
    assert OnlineHistoryScores(online_history, lambda: models[0]).find("unheard-of") is None
    online_history.close()
    (settings.models_dir / "champion.json").unlink()


def test_an_emptied_redis_is_filled_again(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    with RedisClient(port=production.redis.port) as client:
        client.flushall()
    report = materialize(production.settings)
    assert report.mode == "full"
    assert production.transactions() == rows_of(report)["transaction_history"]
    answer = online(
        production.settings,
        ["customer_profile:customer_transactions", "customer:customer_count_30d"],
        [{"customer_id": "c1"}],
    )
    assert set(answer) == {"customer_id", "customer_transactions", "customer_count_30d"}


def test_what_is_away_or_set_wrongly_is_named(
    production: Production, first: tuple[MaterializeReport, float]
) -> None:
    settings = production.settings

    def change(part: str, **values: object) -> Settings:
        changed = getattr(settings, part).model_copy(update=values)
        return settings.model_copy(update={part: changed})

    with pytest.raises(ConfigurationError, match="SENTINEL_FEAST__REGISTRY_URL"):
        materialize(change("feast", registry_url=""))
    with pytest.raises(SentinelError, match="secret_access_key"):
        materialize(change("s3", secret_access_key=SecretStr("wrong")))
    production.redis.stop()
    history = OnlineHistory(settings.feast.online_url)
    with pytest.raises(StateUnavailable, match="does not answer"):
        history.find("x")
    with pytest.raises(StateUnavailable, match="SENTINEL_FEAST__ONLINE_URL"):
        materialize(settings)
