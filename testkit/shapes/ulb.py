"""ULB's ``creditcard.csv``: two days of European card payments, columns rotated beyond recognition.

Quirks: no id and no entity; ``Time`` counts seconds from the first payment; the header and the
class are in quotes, the other values are not. Fraud is planted in the columns alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import Drawing, Shape, drawn, pick, write_csv
from testkit.shapes.streams import DAY

DAYS: Final = 3
COMPONENTS: Final = tuple(f"V{number}" for number in range(1, 29))


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 2])
    seconds = np.sort((rng.random(rows) * DAYS * DAY).astype(np.int64))
    seconds -= seconds[0]
    spread = np.linspace(1.95, 0.33, len(COMPONENTS))
    V = rng.normal(0, 1, (rows, len(COMPONENTS)))
    suspicious = np.maximum(-V[:, 13], -0.5) + 0.8 * np.maximum(V[:, 3], -0.5) - 0.7 * V[:, 11]
    suspicious += 0.5 * np.where(V[:, 16] < -1, 1.5, 0.0)
    threshold = np.quantile(suspicious, 0.945)
    chance = 1 / (1 + np.exp(-5.0 * (suspicious - threshold)))
    chance = 0.001 + 0.97 * chance
    fraud = drawn(rng, chance)
    columns: dict[str, pa.Array] = {"Time": pa.array(seconds)}
    columns |= {
        name: pa.array(np.round(V[:, place] * spread[place], 13))
        for place, name in enumerate(COMPONENTS)
    }
    columns["Amount"] = pa.array(np.round(rng.lognormal(3.1, 1.5, rows), 2))
    columns["Class"] = pick(('"0"', '"1"'), fraud.astype(np.int8))
    return Drawing(columns=columns, seconds=seconds, fraud=fraud, chance=chance)


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write the file; returns where."""
    header = ",".join(f'"{name}"' for name in drawing.columns)
    return [write_csv(folder / f"{stem}.csv", drawing.columns, header=header)]


SHAPE: Final = Shape(
    name="ulb",
    draw=draw,
    write=write,
    label="Class",
    truth={
        "--id": "row",
        "--time": "Time",
        "--time-unit": "s",
        "--amount": "Amount",
        "--label": "Class",
        "--label-values": "1",
    },
    days=DAYS,
    windowless=True,
    label_delay_days=0.0,
    stem="creditcard",
)
