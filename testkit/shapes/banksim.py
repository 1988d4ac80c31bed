"""BankSim, ``bs140513_032310.csv``: half a year of simulated payments at a Spanish bank.

Quirks: no id; ``step`` counts days; texts are in single quotes; both zip codes are constant; age
is a group from '0' to '6' or 'U'.

Planted: days on which a customer pays far more often than usual, amounts unusual for the customer,
and a few shops of leisure and travel that are fraudulent for some weeks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import Drawing, Shape, drawn, pick, write_csv
from testkit.shapes.streams import DAY, Windows, amounts, either, stream, unusual

DAYS: Final = 180
CATEGORIES: Final = (
    *("es_transportation", "es_food", "es_health", "es_wellnessandbeauty", "es_fashion"),
    *("es_barsandrestaurants", "es_hyper", "es_sportsandtoys", "es_tech", "es_home"),
    *("es_hotelservices", "es_otherservices", "es_contents", "es_travel", "es_leisure"),
)
_RISKY: Final = np.array(
    [name in ("es_sportsandtoys", "es_travel", "es_leisure") for name in CATEGORIES]
)


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 4])
    customers, merchants = max(30, rows // 66), 50
    key, seconds, _ = stream(
        rng, rows, entities=customers, days=DAYS,
        spree_share=0.085, spree_rows=(8, 14), spree_seconds=1.0, unevenness=0.4,
    )  # fmt: skip
    step = seconds // DAY
    seconds = step * DAY
    amount = amounts(rng, key, typical=28, between=0.9)
    merchant = rng.integers(0, merchants, rows)
    category = merchant % len(CATEGORIES)
    paid = Windows(key, seconds)
    often, far, risky = paid.count(DAY) >= 4, unusual(paid, amount), _RISKY[category]
    false_from = rng.uniform(-0.3, 1, merchants) * DAYS
    false = (rng.random(merchants) < 0.12)[merchant]
    false &= (step >= false_from[merchant]) & (step < false_from[merchant] + 45)
    chance = either(
        0.002,
        often * np.where(risky, 0.97, 0.8),
        far * np.where(risky, 0.95, 0.65),
        false * np.where(risky, 0.4, 0.15),
        (risky & (amount > 120)) * 0.1,
    )
    fraud = drawn(rng, chance)
    person = rng.integers(0, 1 << 20, customers)
    age = [f"'{value}'" for value in (*range(7), "U")]
    one = pick(["'28007'"], np.zeros(rows, dtype=np.int8))
    columns = {
        "step": pa.array(step),
        "customer": pick([f"'C{10**8 + 7919 * n}'" for n in range(customers)], key),
        "age": pick(age, (person % 8)[key]),
        "gender": pick(("'M'", "'F'", "'E'", "'U'"), np.minimum(person // 8 % 32, 65)[key] % 4),
        "zipcodeOri": one,
        "merchant": pick([f"'M{34 * 10**6 + 104729 * n}'" for n in range(merchants)], merchant),
        "zipMerchant": one,
        "category": pick([f"'{name}'" for name in CATEGORIES], category),
        "amount": pa.array(amount),
        "fraud": pa.array(fraud.astype(np.int8)),
    }
    return Drawing(columns=columns, seconds=seconds, fraud=fraud, chance=chance)


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write the file; returns where."""
    return [write_csv(folder / f"{stem}.csv", drawing.columns)]


SHAPE: Final = Shape(
    name="banksim",
    draw=draw,
    write=write,
    label="fraud",
    truth={
        "--id": "row",
        "--time": "step",
        "--time-unit": "d",
        "--amount": "amount",
        "--label": "fraud",
        "--customer": "customer",
        "--merchant": "merchant",
        "--label-values": "1",
    },
    days=DAYS,
    stem="bs140513_032310",
)
