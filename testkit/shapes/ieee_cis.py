"""IEEE-CIS, Kaggle's competition of 2019: ``train_transaction.csv`` and ``train_identity.csv``.

Quirks: ``TransactionDT`` counts seconds from a day that nobody named, the first is 86400; there
is no merchant; a client is ``card1`` ... ``card6``, ``addr1`` and the day ``D1`` counts from;
amounts of product C have three decimals; V1 to V339 come in groups that are empty together; a
quarter of the payments has an identity.

Planted: days on which a client pays far more often than usual, amounts unusual for the client,
more of them for product C or with a mismatch in M4. V and C columns hold noise here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import Drawing, Shape, drawn, pick, write_csv
from testkit.shapes.streams import DAY, HOUR, Windows, amounts, either, stream, unusual

DAYS: Final = 182
FIRST_ID: Final = 2_987_000
V_COLUMNS: Final = 339
_DOMAINS: Final = ("gmail.com", "yahoo.com", "hotmail.com", "anonymous.com", "aol.com")
_DEVICES: Final = ("Windows", "iOS Device", "MacOS", "SM-G960U Build/R16NW", "Trident/7.0")


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 9])
    clients = max(30, min(rows // 25, 15_000))
    key, seconds, _ = stream(
        rng, rows, entities=clients, days=DAYS,
        spree_share=0.085, spree_rows=(7, 13), spree_seconds=5 * HOUR, unevenness=0.5,
    )  # fmt: skip
    amount = amounts(rng, key, typical=70, between=0.9, outliers=0.035)
    product = rng.choice(5, rows, p=[0.72, 0.12, 0.07, 0.06, 0.03])
    amount = np.where(product == 1, np.round(amount * 1.0137, 3), amount)  # a converted currency
    match = np.where(rng.random(rows) < 0.45, -1, rng.choice(3, rows, p=[0.65, 0.2, 0.15]))
    paid = Windows(key, seconds)
    often, far = paid.count(12 * HOUR) >= 3, unusual(paid, amount)
    odd = (product == 1) | (match == 2)
    chance = either(
        0.0025,
        often * np.where(odd, 0.97, 0.8),
        far * np.where(odd, 0.95, 0.65),
        ((product == 1) & (match == 2)) * 0.25,
    )
    fraud = drawn(rng, chance)
    columns: dict[str, pa.Array] = {
        "TransactionID": pa.array(FIRST_ID + np.arange(rows)),
        "isFraud": pa.array(fraud.astype(np.int8)),
        "TransactionDT": pa.array(DAY + seconds),
        "TransactionAmt": pa.array(amount),
        "ProductCD": pick(("W", "C", "R", "H", "S"), product),
        **_client(rng, key),
        **_details(rng, key, seconds, match),
    }
    return Drawing(
        columns=columns | _v_columns(rng, rows) | _identity(rng, rows, product),
        seconds=seconds,
        fraud=fraud,
        chance=chance,
        keep={"identified": rng.random(rows) < 0.25},
    )


def _client(rng: np.random.Generator, key: np.ndarray) -> dict[str, pa.Array]:
    clients = int(key.max()) + 1
    card1 = rng.permutation(np.arange(1_000, 18_397))[:clients]
    brand = rng.choice(4, clients, p=[0.65, 0.3, 0.03, 0.02])
    return {
        "card1": pa.array(card1[key]),
        "card2": _floats(rng.integers(100, 601, clients)[key]),
        "card3": _floats(np.where(rng.random(clients) < 0.88, 150, 185)[key]),
        "card4": pick(("visa", "mastercard", "american express", "discover"), brand[key]),
        "card5": _floats(rng.choice([226, 224, 166, 102, 117], clients)[key]),
        "card6": pick(("debit", "credit"), rng.integers(0, 2, clients)[key]),
        "addr1": _floats(rng.integers(100, 541, clients)[key]),
        "addr2": _floats(np.full(len(key), 87)),
    }


def _details(
    rng: np.random.Generator, key: np.ndarray, seconds: np.ndarray, match: np.ndarray
) -> dict[str, pa.Array]:
    rows = len(key)
    since = rng.integers(-600, 1, int(key.max()) + 1)[key]
    receiver = np.where(rng.random(rows) < 0.77, -1, rng.integers(0, 5, rows))
    columns = {
        "dist1": _floats(rng.integers(0, 900, rows), rng.random(rows) < 0.6),
        "dist2": _floats(rng.integers(0, 900, rows), rng.random(rows) < 0.94),
        "P_emaildomain": pick(_DOMAINS, rng.integers(-1, 5, rows)),
        "R_emaildomain": pick(_DOMAINS, receiver),
    }
    for number in range(1, 15):
        columns[f"C{number}"] = _floats(rng.geometric(0.45, rows) - 1)
    for number in range(1, 16):
        age = seconds // DAY - since
        if number == 1:
            columns["D1"] = _floats(age)
        else:
            columns[f"D{number}"] = _floats(
                np.maximum(age - rng.integers(0, 200, rows), 0), rng.random(rows) < 0.5
            )
    truths = rng.integers(-1, 2, (9, rows))
    for number in range(1, 10):
        columns[f"M{number}"] = (
            pick(("M0", "M1", "M2"), match) if number == 4 else pick(("F", "T"), truths[number - 1])
        )
    return columns


def _v_columns(rng: np.random.Generator, rows: int) -> dict[str, pa.Array]:
    """Columns that count small things, empty by groups of about thirty."""
    columns = {}
    values = pa.array([f"{value}.0" for value in range(8)], pa.string())
    for first in range(1, V_COLUMNS + 1, 30):
        empty = rng.random(rows) < rng.choice([0.0, 0.15, 0.5, 0.85])
        pool = [np.minimum(rng.geometric(0.6, rows) - 1, 7).astype(np.int32) for _ in range(3)]
        for number in range(first, min(first + 30, V_COLUMNS + 1)):
            codes = np.roll(pool[number % 3], 911 * number)
            indices = pa.array(codes, mask=empty)
            columns[f"V{number}"] = pa.DictionaryArray.from_arrays(indices, values).cast(
                pa.string()
            )
    return columns


def _identity(rng: np.random.Generator, rows: int, product: np.ndarray) -> dict[str, pa.Array]:
    columns: dict[str, pa.Array] = {}
    texts = {
        12: ("NotFound", "Found"), 15: ("Found", "New", "Unknown"), 16: ("Found", "NotFound"),
        23: ("IP_PROXY:TRANSPARENT", "IP_PROXY:ANONYMOUS"), 27: ("Found", "NotFound"),
        28: ("Found", "New"), 29: ("Found", "NotFound"),
        30: ("Windows 10", "iOS 11.1.2", "Android 7.0", "Mac OS X 10_12_6"),
        31: ("chrome 63.0", "mobile safari 11.0", "firefox 57.0", "samsung browser 6.2"),
        33: ("1920x1080", "1334x750", "2208x1242"), 34: ("match_status:2", "match_status:1"),
        35: ("T", "F"), 36: ("T", "F"), 37: ("T", "F"), 38: ("T", "F"),
    }  # fmt: skip
    for number in range(1, 39):
        empty = rng.random(rows) < 0.3
        name = f"id_{number:02d}"
        if number in texts:
            codes = rng.integers(0, len(texts[number]), rows)
            columns[name] = pick(texts[number], np.where(empty, -1, codes))
        else:
            columns[name] = _floats(rng.integers(-100, 600, rows), empty)
    columns["DeviceType"] = pick(("desktop", "mobile"), (product > 0) & (rng.random(rows) < 0.6))
    columns["DeviceInfo"] = pick(_DEVICES, rng.integers(-1, len(_DEVICES), rows))
    return columns


def _floats(values: np.ndarray, empty: np.ndarray | None = None) -> pa.Array:
    """Whole numbers as pandas wrote them: with ``.0``, or nothing."""
    low = int(values.min())
    texts = [f"{value}.0" for value in range(low, int(values.max()) + 1)]
    codes = values - low
    return pick(texts, codes if empty is None else np.where(empty, -1, codes))


IDENTITY_COLUMNS: Final = 40


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write payments and identities; returns where."""
    names = list(drawing.columns)
    main = {name: drawing.columns[name] for name in names[:-IDENTITY_COLUMNS]}
    some = pa.array(drawing.keep["identified"])
    beside = {
        name: drawing.columns[name].filter(some) for name in (names[0], *names[-IDENTITY_COLUMNS:])
    }
    other = stem.replace("transaction", "identity") if "transaction" in stem else f"{stem}_more"
    return [
        write_csv(folder / f"{stem}.csv", main),
        write_csv(folder / f"{other}.csv", beside),
    ]


SHAPE: Final = Shape(
    name="ieee_cis",
    draw=draw,
    write=write,
    label="isFraud",
    truth={
        "--id": "TransactionID",
        "--time": "TransactionDT",
        "--time-unit": "s",
        "--amount": "TransactionAmt",
        "--label": "isFraud",
        "--card": "card1",
        "--label-values": "1",
    },
    rows=50_000,
    days=DAYS,
    stem="train_transaction",
)
