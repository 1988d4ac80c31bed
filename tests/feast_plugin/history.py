"""A made-up log with what makes features hard: ties, late events, gaps and labels of all kinds."""

from __future__ import annotations

import random

from sentinel.domain import AttributeValue, Label, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US, HOUR_US

Entry = Transaction | Label

START_US = 1_704_067_200_000_000  # 2024-01-01
_CHANNELS = ("pos", "web", "web", "web", None)


def history(transactions: int = 1_500, seed: int = 3) -> list[Entry]:
    """A log in log order over about fifty days.

    Every tenth payment shares its time with the one before, every twentieth comes hours or weeks
    late. Labels come days later, some twice, some before their transaction, some about nothing.
    """
    draw = random.Random(seed)
    entries: list[tuple[int, Entry]] = []
    now = START_US
    for n in range(transactions):
        if n % 10:
            now += draw.choice([0, 1, 30 * 60_000_000, draw.randrange(2 * HOUR_US)])
        late = draw.choice([HOUR_US, 3 * DAY_US, 40 * DAY_US]) if n % 20 == 19 else 0
        attributes: dict[str, AttributeValue] = {
            "mcc": float(draw.choice([5411, 5812, 0.5])),
            "account_age_days": float(draw.randrange(400)),
        }
        channel = draw.choice(_CHANNELS)
        if channel is not None:
            attributes["channel"] = channel
        transaction = Transaction(
            transaction_id=f"t{n}",
            event_time_us=now - late,
            received_at_us=now,
            amount_minor=draw.choice([0, 1, -500, draw.randrange(20_000), 10**12]),
            customer_id=draw.choice([None, *(f"c{i}" for i in range(8))]),
            card_id=f"k{draw.randrange(12)}",
            merchant_id=draw.choice([None, *(f"m{i}" for i in range(6))]),
            device_id=draw.choice([None, "d1", "d2"]),
            ip_address=draw.choice(["10.0.0.1", "10.0.0.2"]),
            attributes=attributes,
        )
        entries.append((now, transaction))
        if draw.random() < 0.2:
            entries += _labels(draw, n, now)
    entries.append((now, _label("nothing", 0, "never-seen", now, Verdict.FRAUD)))
    entries.sort(key=lambda entry: entry[0])
    return [entry for _, entry in entries]


def _labels(draw: random.Random, n: int, now: int) -> list[tuple[int, Entry]]:
    arrival = now + draw.choice([-2 * HOUR_US, 0, DAY_US, 9 * DAY_US])
    arrival = max(arrival, START_US)
    first = draw.choice([Verdict.FRAUD, Verdict.FRAUD, Verdict.LEGITIMATE])
    labels: list[tuple[int, Entry]] = [(arrival, _label(f"l{n}", 0, f"t{n}", arrival, first))]
    if draw.random() < 0.3:
        again = arrival + draw.randrange(5 * DAY_US)
        other = Verdict.LEGITIMATE if first is Verdict.FRAUD else Verdict.FRAUD
        labels.append((again, _label(f"l{n}", 1, f"t{n}", again, other)))
    return labels


def _label(name: str, turn: int, about: str, received: int, verdict: Verdict) -> Label:
    return Label(
        label_id=f"{name}-{turn}", transaction_id=about, verdict=verdict, received_at_us=received
    )
