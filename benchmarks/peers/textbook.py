"""The textbook stack: FastAPI, Feast's SDK on Redis, a scikit-learn forest fed by pandas.

This is how tutorials build a fraud API, and how the first Sentinel was built: four
features that a batch job wrote to the online store some time ago, a random forest of 100 trees of
depth 10, a DataFrame a request. It keeps nothing of what it decides and gives no reasons.
"""

from __future__ import annotations

import argparse
import os
import warnings
from datetime import timedelta
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"

import numpy as np
import pandas as pd
from fastapi import FastAPI
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.repo_config import RepoConfig
from feast.types import Float32
from feast.value_type import ValueType
from sklearn.ensemble import RandomForestClassifier

from benchmarks.peers.payment import Answer, Payment, serve

CUSTOMERS = 5_000
FEATURES = ["transaction_count_30d", "average_amount_30d", "days_since_last", "amount_to_average"]
STORED = FEATURES[:3]
REFERENCES = [f"customer_statistics:{name}" for name in STORED]


def customer_statistics() -> pd.DataFrame:
    """What a nightly job knows of each customer."""
    rng = np.random.default_rng(3)
    now = pd.Timestamp.now(tz="UTC")
    return pd.DataFrame(
        {
            "customer_id": [f"C{i}" for i in range(CUSTOMERS)],
            "transaction_count_30d": rng.poisson(20, CUSTOMERS).astype(np.float32),
            "average_amount_30d": rng.lognormal(8, 1, CUSTOMERS).astype(np.float32),
            "days_since_last": rng.exponential(2, CUSTOMERS).astype(np.float32),
            "event_timestamp": now,
            "created": now,
        }
    )


def open_store(folder: Path, redis_port: int) -> FeatureStore:
    """A Feast repository with one view, its values written to Redis."""
    statistics = customer_statistics()
    statistics.to_parquet(folder / "statistics.parquet")
    store = FeatureStore(
        config=RepoConfig(
            project="textbook",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{redis_port}"},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
    )
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    view = FeatureView(
        name="customer_statistics",
        entities=[customer],
        ttl=timedelta(days=30),
        schema=[Field(name=name, dtype=Float32) for name in STORED],
        source=FileSource(
            path=str(folder / "statistics.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created",
        ),
    )
    store.apply([customer, view])
    store.write_to_online_store("customer_statistics", statistics)
    return store


def train() -> RandomForestClassifier:
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.lognormal(1, 1, (20_000, len(FEATURES))), columns=FEATURES)
    risk = np.log(X).sum(axis=1) + rng.normal(0, 1, len(X))
    y = (risk > np.quantile(risk, 0.97)).astype(int)
    return RandomForestClassifier(100, max_depth=10, random_state=7).fit(X, y)


def make_app(store: FeatureStore, model: RandomForestClassifier) -> FastAPI:
    app = FastAPI()

    @app.post("/predict")
    async def predict(payment: Payment) -> Answer:
        found = store.get_online_features(
            features=REFERENCES, entity_rows=[{"customer_id": payment.customer_id}]
        ).to_dict()
        row = pd.DataFrame({name: found[name] for name in STORED}).fillna(0.0)
        row["amount_to_average"] = payment.amount_minor / (row["average_amount_30d"] + 1.0)
        probability = float(model.predict_proba(row[FEATURES])[0, 1])
        return Answer(
            transaction_id=payment.transaction_id,
            is_fraud=probability >= 0.5,
            fraud_probability=probability,
        )

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", type=int, required=True, help="port of a Redis of its own")
    parser.add_argument("--folder", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    serve(make_app(open_store(arguments.folder, arguments.redis), train()), arguments.port)
