"""Payments for load: fresh ids and a realistic spread of entities, the same for a seed."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from typing import Any

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def payments(
    seed: int = 1,
    *,
    prefix: str = "p",
    customers: int = 5_000,
    merchants: int = 800,
    start_us: int = 1_750_000_000_000_000,
    gap_us: int = 700_000,
    late: float = 0.05,
    tied: float = 0.01,
) -> Iterator[dict[str, Any]]:
    """Bodies of `POST /predict`, without end.

    Args:
        seed: Of everything random.
        prefix: Of transaction ids.
        customers, merchants: Sizes; a few merchants take most payments.
        start_us: First event time, microseconds UTC.
        gap_us: Mean time between two payments.
        late: Share of payments whose event time lies up to two days back.
        tied: Share of payments at exactly the time of the one before.
    """
    rng = random.Random(seed)
    now = start_us
    number = 0
    while True:
        number += 1
        if rng.random() >= tied:
            now += int(rng.expovariate(1 / gap_us)) + 1
        moment = now - int(rng.random() * 2 * 86_400_000_000) if rng.random() < late else now
        customer = int(rng.random() ** 1.5 * customers)
        online = rng.random() < 0.45
        body: dict[str, Any] = {
            "transaction_id": f"{prefix}-{number}",
            "amount_minor": int(rng.lognormvariate(8, 1.1)),
            "event_time": (_EPOCH + dt.timedelta(microseconds=moment)).isoformat(),
            "customer_id": f"C{customer}",
            "card_id": f"K{customer * 2 + (rng.random() < 0.2)}",
            "merchant_id": f"M{int(rng.paretovariate(1.1)) % merchants}",
            "attributes": {
                "channel": "online" if online else "pos",
                "mcc": rng.choice(("5411", "5812", "5732", "4111", "5999")),
                "merchant_country": rng.choice(("DE", "DE", "DE", "FR", "US", "NG")),
                "entry_mode": "ecom" if online else rng.choice(("chip", "contactless")),
                "card_type": rng.choice(("debit", "credit")),
                "currency": "EUR",
                "merchant_category": rng.choice(("grocery", "dining", "travel")),
                "recurring": rng.random() < 0.1,
                "installments": rng.randrange(1, 4),
            },
        }
        if online:
            body["device_id"] = f"D{customer * 3 + rng.randrange(3)}"
            body["ip_address"] = f"10.{customer % 200}.{customer % 250}.{rng.randrange(4)}"
        yield body
