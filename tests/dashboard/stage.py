"""A scorer with realistic payments, and a dashboard beside it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import msgspec
import numpy as np

from sentinel.domain import Transaction
from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.calibration import Calibration
from sentinel.models.champion import Champion
from sentinel.models.intervals import Estimate
from sentinel.models.thresholds import Thresholds
from sentinel.settings import Settings
from sentinel.sources.simulator import SimulatorConfig, SimulatorSource
from testkit.browsing import dashboard_of
from testkit.scratch import Server, default_plan
from testkit.signed_models import sign_folder

MODEL_VERSION = "12"
METRICS = {
    "average_precision": Estimate(0.71, 0.66, 0.76),
    "roc_auc": Estimate(0.97, 0.96, 0.98),
    "brier": Estimate(0.0021, 0.0018, 0.0024),
}


def make_stage(folder: Path) -> Settings:
    """A workspace whose model has metrics, and thinks little of large amounts and quick repeats."""
    plan = default_plan()
    settings = Settings(workspace=folder, feature_store=Path("feature_store").resolve())
    folder.mkdir(parents=True, exist_ok=True)
    plan.save(settings.plan_path)
    save_artifact(
        settings.models_dir / "stage",
        name="stage-model",
        plan=plan,
        model=_booster(plan),
        calibration=Calibration(x=np.array([-6.0, 6.0]), y=np.array([0.002, 0.998])),
        thresholds=Thresholds(fraud=0.4, review=0.4, decline=0.585),
        metrics=METRICS,
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=1, frauds=0),
        data_hash="stage",
        created_at_us=1_780_000_000_000_000,
        version=MODEL_VERSION,
    )
    sign_folder(settings, settings.models_dir / "stage")
    champion = Champion(version=MODEL_VERSION, folder="stage")
    (settings.models_dir / "champion.json").write_bytes(msgspec.json.encode(champion))
    return settings


def _booster(plan: Plan) -> str:
    rng = np.random.default_rng(7)
    X = np.zeros((4_000, len(plan.feature_names)), dtype=np.float32)
    amount, repeats = (plan.feature_names.index(name) for name in ("amount", "card_count_1h"))
    X[:, amount] = rng.lognormal(8.0, 1.2, len(X))
    X[:, repeats] = rng.poisson(0.3, len(X))
    suspicion = (X[:, amount] > 15_000).astype(int) + (X[:, repeats] >= 2)
    y = rng.random(len(X)) < np.array([0.1, 0.75, 0.98])[suspicion]
    options = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1, "seed": 7}
    rows = lgb.Dataset(X, y, feature_name=list(plan.feature_names))
    return lgb.train(options, rows, 30).model_to_string()


def payments(customers: int = 200) -> Iterator[dict[str, Any]]:
    """Bodies of the simulator's payments of the last days, in order, without end."""
    config = SimulatorConfig.ending(time.time_ns() // 1000, days=20, customers=customers)
    for event in SimulatorSource(config).stream_from(config.end_us - 10 * 86_400_000_000):
        if isinstance(event.entry, Transaction):
            yield body(event.entry)


def body(payment: Transaction) -> dict[str, Any]:
    """A payment as `POST /predict` takes it."""
    fields = msgspec.structs.asdict(payment)
    del fields["received_at_us"]
    seconds, rest = divmod(fields.pop("event_time_us"), 1_000_000)
    shown = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fields["event_time"] = f"{shown}.{rest:06d}Z"
    return fields


def send(url: str, bodies: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Score so many payments; their answers."""
    answer = httpx.post(
        f"{url}/predict/batch", json={"transactions": list(islice(bodies, count))}, timeout=300
    )
    answer.raise_for_status()
    return [result["answer"] for result in answer.json()["results"]]


@contextlib.contextmanager
def dashboard(server: Server) -> Iterator[str]:
    """The `sentinel dashboard` command beside a scorer, just started; its address."""
    with dashboard_of(server.settings.workspace, SENTINEL_API__PORT=str(server.port)) as url:
        yield url
