"""Fraud in e-commerce, ``Fraud_Data.csv`` (FDB calls it fraudecom): first purchases of new users.

Quirks: no id; a user buys once; the address is a number with decimals (``732758368.79972``);
sign-up and purchase are both times.

Planted: devices and addresses from which many new users buy within days, and purchases right
after the sign-up (in the attributes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import Drawing, Shape, drawn, moments, pick, utc, write_csv
from testkit.shapes.streams import DAY, Windows, either, stream

START: Final = utc(2015, 1, 1)
DAYS: Final = 300


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 7])
    devices = max(50, rows // 3)
    device, seconds, spree = stream(
        rng, rows, entities=devices, days=DAYS,
        spree_share=0.12, spree_rows=(5, 12), spree_seconds=1.5 * DAY, unevenness=0.3,
    )  # fmt: skip
    address = np.where(spree | (rng.random(rows) < 0.8), device, rng.integers(0, devices, rows))
    source = rng.integers(0, 3, rows)
    hasty = rng.random(rows) < 0.02
    crowd = Windows(device, seconds).count(3 * DAY) >= 2
    chance = either(
        0.004,
        crowd * np.array([0.95, 0.85, 0.7])[source],
        hasty * np.array([0.5, 0.3, 0.2])[source],
    )
    fraud = drawn(rng, chance)
    before = np.where(hasty, 1, rng.integers(DAY // 24, 60 * DAY, rows))
    letters = rng.integers(0, 26, (devices, 13))
    names = ["".join(chr(65 + letter) for letter in row) for row in letters.tolist()]
    addresses = np.round(rng.uniform(5e4, 4.29e9, devices), 5)
    columns = {
        "user_id": pa.array(rng.permutation(rows * 3)[:rows]),
        "signup_time": moments(START, seconds - before, "%Y-%m-%d %H:%M:%S"),
        "purchase_time": moments(START, seconds, "%Y-%m-%d %H:%M:%S"),
        "purchase_value": pa.array(np.clip(rng.normal(37, 18, rows).round(), 9, 154).astype(int)),
        "device_id": pick(names, device),
        "source": pick(("Direct", "SEO", "Ads"), source),
        "browser": pick(("Chrome", "IE", "Safari", "FireFox", "Opera"), rng.integers(0, 5, rows)),
        "sex": pick(("M", "F"), rng.integers(0, 2, rows)),
        "age": pa.array(np.clip(rng.normal(33, 9, rows), 18, 76).astype(int)),
        "ip_address": pick([repr(value) for value in addresses.tolist()], address),
        "class": pa.array(fraud.astype(np.int8)),
    }
    return Drawing(columns=columns, seconds=seconds, fraud=fraud, chance=chance)


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write the file; returns where."""
    return [write_csv(folder / f"{stem}.csv", drawing.columns)]


SHAPE: Final = Shape(
    name="fraudecom",
    draw=draw,
    write=write,
    label="class",
    truth={
        "--id": "user_id",
        "--time": "purchase_time",
        "--amount": "purchase_value",
        "--label": "class",
        "--device": "device_id",
        "--ip": "ip_address",
        "--label-values": "1",
    },
    days=DAYS,
    stem="Fraud_Data",
)
