"""What is asked of Feast, and the oracle's answers to it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sentinel.domain import ENTITY_COLUMNS, Transaction
from sentinel.features.plan.plan import DAY_US
from testkit.oracle import Oracle
from tests.feast_plugin.conftest import Deployment
from tests.feast_plugin.history import START_US, Entry
from tests.features.logs import bits_of_values

SERVICE = "fraud_detection_v1"

ROWS: list[dict[str, str | None]] = [
    {
        "customer_id": "c1",
        "card_id": "k1",
        "merchant_id": "m1",
        "device_id": "d1",
        "ip_address": "10.0.0.1",
    },
    {
        "customer_id": None,
        "card_id": "k1",
        "merchant_id": "m2",
        "device_id": None,
        "ip_address": "192.0.2.1",
    },
    {
        "customer_id": "nobody",
        "card_id": "new",
        "merchant_id": "m1",
        "device_id": "d2",
        "ip_address": "10.0.0.2",
    },
]


def oracle_now(deployment: Deployment, now_us: int) -> list[list[float | None]]:
    oracle = Oracle(deployment.plan)
    for entry in deployment.entries:
        oracle.tell(entry)
    rows = [{key: value for key, value in row.items() if value is not None} for row in ROWS]
    return [oracle.ask_now(row, now_us) for row in rows]


def same_bits(
    answer: dict[str, list[Any]], names: list[str], wanted: list[list[float | None]]
) -> bool:
    found = [[answer[name][row] for name in names] for row in range(len(wanted))]
    return bool(
        np.array_equal(bits_of_values(found, len(names)), bits_of_values(wanted, len(names)))
    )


def questions(entries: Sequence[Entry], n: int) -> Any:
    """Rows at times that matter: of entries, a microsecond beside them, before and after all."""
    draw = random.Random(5)
    last = entries[-1].received_at_us
    rows = []
    for i in range(n):
        entry = draw.choice(entries)
        time = entry.received_at_us + draw.choice([-1, 0, 0, 1, 40 * DAY_US * (i % 2)])
        time = draw.choice([time, time, START_US - DAY_US]) if i % 7 == 0 else time
        rows.append(
            {
                "event_timestamp": pd.Timestamp(min(time, last + DAY_US), unit="us", tz="UTC"),
                "customer_id": draw.choice([None, "c1", "c2", "nobody"]),
                "card_id": draw.choice(["k1", "k2", "new"]),
                "merchant_id": draw.choice([None, "m1", "m2"]),
                "device_id": draw.choice([None, "d1"]),
                "ip_address": draw.choice(["10.0.0.1", "192.0.2.1"]),
                "amount_minor": draw.choice([None, 0, 1234]),
                "attributes.channel": draw.choice([None, "web", "unheard of"]),
                "attributes.mcc": draw.choice([None, 5411.0, 1.0]),
                "attributes.account_age_days": draw.choice([None, 0.0, 2.5]),
            }
        )
    frame = pd.DataFrame(rows).sample(frac=1, random_state=1)  # neither sorted nor indexed 0..n
    return frame.astype({"amount_minor": "Int64"})


def told_before(deployment: Deployment, frame: Any) -> list[list[float | None]]:
    """The oracle's answers, question by question."""
    answers: dict[int, list[float | None]] = {}
    oracle = Oracle(deployment.plan)
    log = iter(deployment.entries)
    entry = next(log, None)
    times = [int(t.value // 1000) for t in frame["event_timestamp"]]
    for row in sorted(range(len(frame)), key=lambda row: times[row]):
        while entry is not None and entry.received_at_us < times[row]:
            oracle.tell(entry)
            entry = next(log, None)
        asked = frame.iloc[row]
        keys = {key: asked[key] for key in ENTITY_COLUMNS if asked[key] is not None}
        if asked["amount_minor"] is None or asked.isna()["amount_minor"]:
            answers[row] = oracle.ask_now(keys, times[row])
            continue
        given: dict[str, Any] = {"channel": asked["attributes.channel"]}
        for name in ("mcc", "account_age_days"):
            if not np.isnan(asked[f"attributes.{name}"]):
                given[name] = float(asked[f"attributes.{name}"])
        payment = Transaction(
            transaction_id="?",
            event_time_us=times[row],
            received_at_us=times[row],
            amount_minor=int(asked["amount_minor"]),
            attributes={name: value for name, value in given.items() if value is not None},
            **keys,
        )
        answers[row] = oracle.ask(payment)
    return [answers[row] for row in range(len(frame))]
