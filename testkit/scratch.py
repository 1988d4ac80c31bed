"""Throw-away deployments for benchmarks and tests: a workspace with a model, and its server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import msgspec
import numpy as np
import pyarrow as pa
import xgboost
from sklearn.ensemble import RandomForestClassifier

from sentinel.domain import Verdict
from sentinel.feast_plugin.compile import category_columns, compile_definitions
from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.booster import from_sklearn_forest
from sentinel.models.calibration import Calibration
from sentinel.models.champion import Champion
from sentinel.models.ensemble import TreeEnsemble
from sentinel.models.thresholds import Thresholds
from sentinel.models.xgboost_format import parse_xgboost
from sentinel.settings import Settings
from testkit.ports import free_port
from testkit.signed_models import sign_folder

REPOSITORY = Path(__file__).resolve().parent.parent
QUICK_TRAINING = {
    "SENTINEL_TRAINING__BOOTSTRAP_ROUNDS": "50",
    "SENTINEL_TRAINING__MAX_ROWS": "10000",
    "SENTINEL_TRAINING__WINDOW_DAYS": "365",
}
"""Variables for tests of what comes before and after a training: few rows, one length of history,
few resamplings."""


def default_plan() -> Plan:
    """The plan of the default definitions, with dictionaries of the simulator's usual values."""
    repo = REPOSITORY / "feature_store"
    values: dict[str, tuple[str, ...]] = {
        "channel": ("pos", "online"),
        "merchant_country": ("DE", "FR", "US"),
        "mcc": ("5411", "5812", "5732"),
    }
    return compile_definitions(
        repo, {column: values.get(column, ("a", "b", "c")) for column in category_columns(repo)}
    )


def synthetic_booster(plan: Plan, *, trees: int, leaves: int, seed: int = 7) -> str:
    """A LightGBM model with so many full trees over a plan's features, on made-up vectors."""
    rng = np.random.default_rng(seed)
    rows, width = 20_000, len(plan.feature_names)
    X = rng.lognormal(1.0, 1.5, size=(rows, width)).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    filled = np.nan_to_num(np.log1p(X))
    logit = filled @ rng.normal(0, 0.4, width) + rng.normal(0, 1, rows)
    y = logit > np.quantile(logit, 0.97)
    booster = lgb.train(
        {
            "objective": "binary",
            "num_leaves": leaves,
            "min_data_in_leaf": 5,
            "learning_rate": 0.03,
            "verbose": -1,
            "num_threads": 1,
            "seed": seed,
            "deterministic": True,
        },
        lgb.Dataset(X, y, feature_name=list(plan.feature_names)),
        trees,
    )
    return booster.model_to_string()


def synthetic_forest(plan: Plan, *, trees: int = 20, depth: int = 8, seed: int = 3) -> TreeEnsemble:
    """A random forest over a plan's features, on made-up vectors."""
    rng = np.random.default_rng(seed)
    X = rng.lognormal(1.0, 1.5, size=(3_000, len(plan.feature_names))).astype(np.float32)
    X[rng.random(X.shape) < 0.1] = np.nan
    logit = np.nan_to_num(np.log1p(X)) @ rng.normal(0, 0.4, X.shape[1])
    forest = RandomForestClassifier(trees, max_depth=depth, random_state=seed)
    fitted = forest.fit(X, logit > np.quantile(logit, 0.95))
    return replace(from_sklearn_forest(fitted), feature_names=plan.feature_names)


def synthetic_xgboost(plan: Plan, *, trees: int = 20, seed: int = 5) -> TreeEnsemble:
    """An XGBoost model over a plan's features, on made-up vectors."""
    rng = np.random.default_rng(seed)
    X = rng.lognormal(1.0, 1.5, size=(3_000, len(plan.feature_names))).astype(np.float32)
    logit = np.log1p(X) @ rng.normal(0, 0.4, X.shape[1])
    rows = xgboost.DMatrix(X, logit > np.quantile(logit, 0.95))
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1}, rows, trees)
    return parse_xgboost(bytes(booster.save_raw("json")), plan.feature_names)


def make_workspace(
    folder: Path,
    *,
    plan: Plan | None = None,
    trees: int = 20,
    leaves: int = 15,
    version: str = "1",
    seed: int = 7,
) -> Settings:
    """A workspace with a plan and a champion, but no history."""
    plan = plan or default_plan()
    settings = Settings(workspace=folder, feature_store=REPOSITORY / "feature_store")
    folder.mkdir(parents=True, exist_ok=True)
    plan.save(settings.plan_path)
    install_champion(
        settings, plan, synthetic_booster(plan, trees=trees, leaves=leaves, seed=seed), version
    )
    return settings


def install_champion(
    settings: Settings, plan: Plan, model: str | TreeEnsemble, version: str, kind: str | None = None
) -> None:
    """Put a model where the scorer looks for its champion, as the registry's follower does."""
    folder = install_model(settings, plan, model, version, kind)
    target = settings.models_dir / "champion.json"
    partial = target.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(Champion(version=version, folder=folder)))
    partial.replace(target)


def install_model(
    settings: Settings, plan: Plan, model: str | TreeEnsemble, version: str, kind: str | None = None
) -> str:
    """Put a signed model of a family beside the champion; returns the name of its folder."""
    folder = f"scratch-{version}"
    save_artifact(
        settings.models_dir / folder,
        name="scratch",
        plan=plan,
        model=model,
        kind=kind,
        calibration=Calibration(x=np.array([-6.0, 6.0]), y=np.array([0.002, 0.998])),
        thresholds=Thresholds(fraud=0.5, review=0.4, decline=0.8),
        metrics={},
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=1, frauds=0),
        data_hash="scratch",
        created_at_us=1,
        version=version,
    )
    sign_folder(settings, settings.models_dir / folder)
    return folder


class Server:
    """A scoring server in a process of its own.

    Args:
        settings: Its workspace.
        environment: Further environment variables.
        wrapper: Command to run it under, e.g. a tracer.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str] | None = None,
        wrapper: tuple[str, ...] = (),
        port: int | None = None,
    ) -> None:
        self.settings = settings
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = settings.workspace / "server.log"
        self._command = [*wrapper, sys.executable, "-m", "sentinel", "serve"]
        self._environment = {
            **os.environ,
            "SENTINEL_WORKSPACE": str(settings.workspace),
            "SENTINEL_FEATURE_STORE": str(settings.feature_store),
            "SENTINEL_API__PORT": str(self.port),
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float = 300.0) -> None:
        """Start it and wait until it can score; raises RuntimeError with its log otherwise."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/livez", timeout=2).status_code == 200:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"The server did not start:\n{self.log.read_text()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL to it and its children."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM to it (and to what it runs under) and wait; its exit status."""
        if self.process is None:
            raise RuntimeError("The server was not started.")
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        finally:
            self.kill()

    @property
    def pid(self) -> int:
        if self.process is None:
            raise RuntimeError("The server was not started.")
        return self.process.pid


@contextlib.contextmanager
def serving(settings: Settings, **options: Any) -> Iterator[Server]:
    """A started server, killed at the end of the block if it still runs."""
    server = Server(settings, **options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def fraud_label(transaction_id: str) -> dict[str, str]:
    """The body of a chargeback."""
    return {"transaction_id": transaction_id, "verdict": Verdict.FRAUD}


def payments_again(rows: pa.Table, mark: str, now_us: int) -> pa.Table:
    """Payments of a log once more, as new ones: ids of their own, all at one time.

    Args:
        rows: Payments, as the log has them.
        mark: Begins their ids.
        now_us: When they happen and are received.
    """
    for name, values in (
        ("transaction_id", [f"{mark}-{i}" for i in range(rows.num_rows)]),
        ("event_time_us", [now_us] * rows.num_rows),
        ("received_at_us", [now_us] * rows.num_rows),
    ):
        at = rows.schema.get_field_index(name)
        field = rows.schema.field(at)
        rows = rows.set_column(at, field, pa.array(values, field.type))
    return rows
