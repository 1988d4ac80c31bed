"""PaySim: simulated mobile money, thirty-one days of steps of one hour.

Quirks: no id; ``step`` counts hours; payers (``nameOrig``) hardly ever return, receivers do; some
receivers are shops (``M...``) whose balances are always 0. ``newbalanceOrig`` and
``newbalanceDest`` are balances *after* the payment: nobody knows them when it is to be decided.

Planted: accounts that receive many payments within hours, amounts unusual for the receiver, both
by transfer or cash-out; and in the balances after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import Drawing, Shape, drawn, pick, write_csv
from testkit.shapes.streams import DAY, HOUR, Windows, amounts, either, stream, unusual

DAYS: Final = 31
TYPES: Final = ("PAYMENT", "TRANSFER", "CASH_OUT", "CASH_IN", "DEBIT")


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 3])
    accounts = max(40, rows // 22)
    key, seconds, _ = stream(
        rng, rows, entities=accounts, days=DAYS,
        spree_share=0.12, spree_rows=(7, 15), spree_seconds=8 * HOUR, unevenness=0.4,
    )  # fmt: skip
    step = 1 + seconds // HOUR
    seconds = step * HOUR
    shop = key % 5 == 0
    kind = rng.choice([1, 2, 3, 4], rows, p=[0.35, 0.4, 0.2, 0.05])
    kind[shop] = 0
    amount = amounts(rng, key, typical=9_000, outliers=0.03)
    received = Windows(key, seconds)
    many = received.count(DAY) >= 5
    far = unusual(received, amount)
    sent_away = (kind == 1) | (kind == 2)
    chance = either(
        0.0008,
        many * np.where(kind == 1, 0.9, np.where(kind == 2, 0.75, 0.01)),
        far * np.where(sent_away, 0.65, 0.01),
    )
    fraud = drawn(rng, chance)
    columns = {
        "step": pa.array(step),
        "type": pick(TYPES, kind),
        "amount": pa.array(amount),
        "nameOrig": pa.array([f"C{n}" for n in rng.integers(10**8, 2 * 10**9, rows).tolist()]),
        **_balances(rng, key, kind, amount, fraud),
        "isFraud": pa.array(fraud.astype(np.int8)),
        "isFlaggedFraud": pa.array(((kind == 1) & (amount > 600_000) & fraud).astype(np.int8)),
    }
    order = (*COLUMNS, "isFraud", "isFlaggedFraud")
    return Drawing(
        columns={name: columns[name] for name in order},
        seconds=seconds,
        fraud=fraud,
        chance=chance,
    )


COLUMNS: Final = (
    *("step", "type", "amount", "nameOrig", "oldbalanceOrg", "newbalanceOrig"),
    *("nameDest", "oldbalanceDest", "newbalanceDest"),
)


def _balances(
    rng: np.random.Generator,
    key: np.ndarray,
    kind: np.ndarray,
    amount: np.ndarray,
    fraud: np.ndarray,
) -> dict[str, pa.Array]:
    rows = len(key)
    shop, incoming = kind == 0, kind == 3
    before = np.round(amount * rng.uniform(1.0, 9.0, rows), 2)
    before[rng.random(rows) < 0.02] = 0.0
    emptied = rng.random(rows) < 0.25
    before[emptied] = amount[emptied]
    after = np.where(incoming, before + amount, np.maximum(before - amount, 0.0))
    there = np.where(shop, 0.0, np.round(rng.lognormal(10, 1.2, rows), 2))
    then = np.where(shop, 0.0, np.where(incoming, np.maximum(there - amount, 0), there + amount))
    kept_back = fraud & (rng.random(rows) < 0.5)  # a fraud's receiver often shows no change
    then = np.where(kept_back, there, then)
    names = [
        f"{'M' if n % 5 == 0 else 'C'}{500_000_000 + 7919 * n}" for n in range(int(key.max()) + 1)
    ]
    return {
        "oldbalanceOrg": pa.array(before),
        "newbalanceOrig": pa.array(np.round(after, 2)),
        "nameDest": pick(names, key),
        "oldbalanceDest": pa.array(there),
        "newbalanceDest": pa.array(np.round(then, 2)),
    }


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write the file; returns where."""
    return [write_csv(folder / f"{stem}.csv", drawing.columns)]


SHAPE: Final = Shape(
    name="paysim",
    draw=draw,
    write=write,
    label="isFraud",
    truth={
        "--id": "row",
        "--time": "step",
        "--time-unit": "h",
        "--amount": "amount",
        "--label": "isFraud",
        "--merchant": "nameDest",
        "--customer": "nameOrig",
        "--label-values": "1",
    },
    leaks=("newbalanceOrig", "newbalanceDest"),
    days=DAYS,
    label_delay_days=1.0,
    stem="PS_20174392719_1491204439457_log",
)
