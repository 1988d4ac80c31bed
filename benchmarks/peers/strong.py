"""A strong stack: FastAPI, fresh windows in Redis by Lua, LightGBM with exact reasons.

What a good team builds from the usual parts: one round trip to Redis in which a script reads 80
sliding-window features of five entities and adds the payment, `Booster.predict` on one thread,
`pred_contrib` for the reasons. No pandas, no feature store's SDK. It keeps nothing of what it
decides.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightgbm as lgb
import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel
from redis import Redis
from redis.commands.core import Script

from benchmarks.peers.payment import Answer, Payment, serve

ENTITIES = ("customer_id", "card_id", "merchant_id", "device_id", "ip_address")
WINDOWS = [
    f"{entity}_{function}_{window}"
    for entity in ENTITIES
    for window in ("1h", "1d", "7d", "30d")
    for function in ("count", "sum", "mean", "max")
]
PER_ENTITY = len(WINDOWS) // len(ENTITIES)
CATEGORIES = ("channel", "mcc", "merchant_country", "entry_mode", "card_type", "card_brand")
FEATURES = [*WINDOWS, "amount", "hour_of_day", "day_of_week", "account_age_days", *CATEGORIES]
N_REASONS = 4


class Reason(BaseModel):
    feature: str
    value: float | None
    contribution: float


class Explained(Answer):
    reasons: list[Reason]


def train(trees: int, leaves: int) -> lgb.Booster:
    """So many full trees, on made-up rows."""
    rng = np.random.default_rng(7)
    X = rng.lognormal(1.0, 1.5, (20_000, len(FEATURES)))
    X[rng.random(X.shape) < 0.1] = np.nan
    logit = np.nan_to_num(np.log1p(X)) @ rng.normal(0, 0.4, len(FEATURES))
    y = logit + rng.normal(0, 1, len(X)) > np.quantile(logit, 0.97)
    parameters = {
        "objective": "binary",
        "num_leaves": leaves,
        "min_data_in_leaf": 5,
        "learning_rate": 0.03,
        "num_threads": 1,
        "verbose": -1,
    }
    return lgb.train(parameters, lgb.Dataset(X, y, feature_name=FEATURES), trees)


class Features:
    """Makes a payment's vector; adds the payment to the windows of its entities.

    Args:
        redis: Where the windows are.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = Script(redis, Path(__file__).with_name("windows.lua").read_text())
        redis.script_load(self._script.script)
        self._codes: dict[str, float] = {}

    def vector(self, payment: Payment) -> NDArray[np.float64]:
        """float64 (1, n_features), NaN = unknown."""
        row = np.full((1, len(FEATURES)), np.nan)
        pipeline = self._redis.pipeline(transaction=False)
        places = []
        seconds = payment.event_time.timestamp()
        for place, entity in enumerate(ENTITIES):
            key = getattr(payment, entity)
            if key is not None:
                pipeline.evalsha(
                    self._script.sha, 1, f"{entity}:{key}", seconds, payment.amount_minor
                )
                places.append(place * PER_ENTITY)
        for start, packed in zip(places, pipeline.execute(), strict=True):
            row[0, start : start + PER_ENTITY] = np.frombuffer(packed)
        moment = payment.event_time
        row[0, len(WINDOWS) :] = (
            payment.amount_minor,
            moment.hour + moment.minute / 60,
            moment.weekday(),
            payment.account_age_days,
            *(self._code(getattr(payment, name)) for name in CATEGORIES),
        )
        return row

    def _code(self, text: str) -> float:
        return self._codes.setdefault(text, float(len(self._codes)))


def make_app(features: Features, booster: lgb.Booster) -> FastAPI:
    app = FastAPI()

    # Not a coroutine that awaits Redis: that costs more than waiting for it (redis.asyncio).
    @app.post("/predict")
    async def predict(payment: Payment) -> Explained:
        X = features.vector(payment)
        probability = float(np.asarray(booster.predict(X, num_threads=1))[0])
        explained = booster.predict(X, pred_contrib=True, num_threads=1)
        contributions = np.asarray(explained)[0, :-1]
        strongest = np.argsort(-contributions)[:N_REASONS].tolist()
        return Explained(
            transaction_id=payment.transaction_id,
            is_fraud=probability >= 0.5,
            fraud_probability=probability,
            reasons=[
                Reason(
                    feature=FEATURES[i],
                    value=None if np.isnan(X[0, i]) else X[0, i],
                    contribution=contributions[i],
                )
                for i in strongest
            ],
        )

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", type=int, required=True, help="port of a Redis of its own")
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--leaves", type=int, default=31)
    arguments = parser.parse_args()
    serve(
        make_app(Features(Redis(port=arguments.redis)), train(arguments.trees, arguments.leaves)),
        arguments.port,
    )
