"""The rows that `backfill` runs over, and the features every engine computes of them.

A row's time is later than that of all rows before it, so that "earlier in the log" and "earlier in
time" are the same and a range window can say it. Entities grow with the rows, the days do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.features.plan.functions import AMOUNT, Function
from sentinel.features.plan.parts import Aggregate, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan, default_hop_us

Key = Literal["card", "merchant"]

KEYS: Final[tuple[Key, ...]] = ("card", "merchant")
WINDOWS: Final = {"1h": HOUR_US, "1d": DAY_US, "7d": 7 * DAY_US, "30d": 30 * DAY_US}
FUNCTIONS: Final[tuple[Function, ...]] = ("count", "sum", "mean", "max")
FEATURES: Final = tuple(f"{function}_{window}" for window in WINDOWS for function in FUNCTIONS)
COLUMNS: Final = ("kind", "event_time_us", "amount_minor")

ROWS_PER_CARD: Final = 40
ROWS_PER_MERCHANT: Final = 10_000
_DAYS: Final = 90
_START_US: Final = 1_750_000_000_000_000
_CHUNK: Final = 250_000


def plan(key: Key) -> Plan:
    """The features by one key, over windows with their default hops."""
    aggregates = tuple(
        Aggregate(
            name=f"{function}_{window}",
            function=function,
            window_us=window_us,
            hop_us=default_hop_us(window_us),
            column="" if function == "count" else AMOUNT,
        )
        for window, window_us in WINDOWS.items()
        for function in FUNCTIONS
    )
    return Plan(views=(View(key, (f"{key}_id",), aggregates),), request=())


def write_rows(path: Path, rows: int, seed: int = 1) -> None:
    """Write a Parquet file of transactions in log order.

    A card has 40 rows on average, a merchant 10,000; the hottest merchant takes a fifth of all.
    """
    rng = np.random.default_rng(seed)
    cards, merchants = max(rows // ROWS_PER_CARD, 1), max(rows // ROWS_PER_MERCHANT, 2)
    gap_us = _DAYS * DAY_US // rows
    with pq.ParquetWriter(path, _SCHEMA) as writer:
        for start in range(0, rows, _CHUNK):
            n = min(_CHUNK, rows - start)
            steps = np.arange(start, start + n, dtype=np.int64) * gap_us
            card = (rng.random(n) ** 1.5 * cards).astype(np.int64)
            merchant = rng.integers(1, merchants, n)
            merchant[rng.random(n) < 0.2] = 0
            columns = [
                np.zeros(n, dtype=np.int8),
                _START_US + steps + rng.integers(0, gap_us, n),
                rng.lognormal(8, 1.1, n).astype(np.int64),
                _names("K", card),
                _names("M", merchant),
            ]
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))


_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.int8()),
        pa.field("event_time_us", pa.int64()),
        pa.field("amount_minor", pa.int64()),
        pa.field("card_id", pa.string()),
        pa.field("merchant_id", pa.string()),
    ]
)


def _names(letter: str, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    unique, places = np.unique(numbers, return_inverse=True)
    return pa.array([f"{letter}{n:08d}" for n in unique.tolist()]).take(pa.array(places))
