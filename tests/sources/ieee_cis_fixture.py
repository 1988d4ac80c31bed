"""Generated files in the form of the IEEE-CIS data: its column names, types and missingness.

Not its values: clients are made up, with one card1, one address and one first day each, so that
D1 grows by a day per day as in the real data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sentinel.sources.ieee_cis import COUNTS, DELTAS, IDENTITY_COLUMNS, MATCHES, TRANSACTION_COLUMNS

# Share of rows without a value, as in the real files (rounded).
MISSING = {
    "card2": 0.015, "card3": 0.003, "card4": 0.003, "card5": 0.007, "card6": 0.003,
    "addr1": 0.11, "addr2": 0.11, "dist1": 0.60, "dist2": 0.94,
    "P_emaildomain": 0.16, "R_emaildomain": 0.77,
    "D1": 0.002, "D2": 0.48, "D3": 0.45, "D4": 0.29, "D5": 0.52, "D6": 0.88, "D7": 0.93,
    "D8": 0.87, "D9": 0.87, "D10": 0.13, "D11": 0.47, "D12": 0.89, "D13": 0.90, "D14": 0.89,
    "D15": 0.15,
    "M1": 0.46, "M2": 0.46, "M3": 0.46, "M4": 0.48, "M5": 0.59, "M6": 0.29, "M7": 0.59,
    "M8": 0.59, "M9": 0.59,
}  # fmt: skip
IDENTITY_MISSING = {
    "id_03": 0.54, "id_04": 0.54, "id_07": 0.96, "id_08": 0.96, "id_13": 0.12, "id_14": 0.45,
    "id_18": 0.69, "id_21": 0.96, "id_30": 0.46, "id_31": 0.03, "id_33": 0.49, "DeviceInfo": 0.18,
}  # fmt: skip
IDENTITY_SHARE = 0.244


def write_ieee_cis(folder: Path, rows: int = 3_000, seed: int = 5) -> pd.DataFrame:
    """Write ``train_transaction.csv`` and ``train_identity.csv``; returns the transactions."""
    rng = np.random.default_rng(seed)
    clients = max(rows // 6, 1)
    card1 = rng.integers(1_000, 18_397, clients)
    addr1 = rng.integers(100, 541, clients).astype(float)
    begun = rng.integers(-200, 20, clients)
    client = rng.integers(0, clients, rows)
    seconds = np.sort(rng.integers(86_400, 15_811_131, rows))
    day = seconds / 86_400
    data: dict[str, object] = {
        "TransactionID": np.arange(2_987_000, 2_987_000 + rows),
        "isFraud": (rng.random(rows) < 0.035).astype(int),
        "TransactionDT": seconds,
        "TransactionAmt": np.round(np.exp(rng.normal(4.2, 1.0, rows)), rng.choice([0, 1, 2, 3])),
        "ProductCD": rng.choice(list("WHCSR"), rows, p=[0.74, 0.06, 0.12, 0.02, 0.06]),
        "card1": card1[client],
        "card2": (card1[client] % 500 + 100).astype(float),
        "card3": np.full(rows, 150.0),
        "card4": rng.choice(["visa", "mastercard", "american express", "discover"], rows),
        "card5": rng.choice([102.0, 117.0, 226.0], rows),
        "card6": rng.choice(["debit", "credit"], rows),
        "addr1": addr1[client],
        "addr2": np.full(rows, 87.0),
        "dist1": rng.integers(0, 400, rows).astype(float),
        "dist2": rng.integers(0, 400, rows).astype(float),
        "P_emaildomain": rng.choice(["gmail.com", "yahoo.com", "anonymous.com"], rows),
        "R_emaildomain": rng.choice(["gmail.com", "hotmail.com"], rows),
    }
    for name in COUNTS:
        data[name] = rng.poisson(1.5, rows).astype(float)
    for name in DELTAS:
        data[name] = np.floor(rng.exponential(90, rows))
    data["D1"] = np.maximum(np.floor(day - begun[client]), 0.0)
    for name in MATCHES:
        data[name] = rng.choice(["M0", "M1", "M2"] if name == "M4" else ["T", "F"], rows)
    counts = rng.poisson(0.6, (rows, 339)).astype(float)
    for start in range(0, 339, 40):  # the V columns are missing in blocks
        counts[rng.random(rows) < 0.3, start : start + 40] = np.nan
    vesta = pd.DataFrame(counts, columns=[f"V{n}" for n in range(1, 340)])
    frame = pd.concat([pd.DataFrame(data), vesta], axis=1)
    for name, share in MISSING.items():
        frame.loc[rng.random(rows) < share, name] = np.nan
    frame = frame[list(TRANSACTION_COLUMNS)]
    identity = _identity(frame, rng)
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "train_transaction.csv", index=False)
    identity.to_csv(folder / "train_identity.csv", index=False)
    return frame


def _identity(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    ids = frame["TransactionID"][rng.random(len(frame)) < IDENTITY_SHARE].to_numpy()
    count = len(ids)
    words = {
        "id_12": ["NotFound", "Found"], "id_15": ["Found", "New", "Unknown"],
        "id_16": ["NotFound", "Found"], "id_23": ["IP_PROXY:TRANSPARENT", "IP_PROXY:ANONYMOUS"],
        "id_27": ["Found"], "id_28": ["Found", "New"], "id_29": ["Found", "NotFound"],
        "id_30": ["Windows 10", "iOS 11.1.2", "Android 7.0"],
        "id_31": ["chrome 63.0", "mobile safari 11.0"], "id_33": ["1920x1080", "2208x1242"],
        "id_34": ["match_status:2", "match_status:1"],
        "id_35": ["T", "F"], "id_36": ["T", "F"], "id_37": ["T", "F"], "id_38": ["T", "F"],
        "DeviceType": ["desktop", "mobile"],
        "DeviceInfo": ["Windows", "iOS Device", "SAMSUNG SM-G892A Build/NRD90M"],
    }  # fmt: skip
    data: dict[str, object] = {"TransactionID": ids}
    for name in IDENTITY_COLUMNS[1:]:
        data[name] = (
            rng.choice(words[name], count)
            if name in words
            else rng.integers(-20, 600, count).astype(float)
        )
    identity = pd.DataFrame(data)[list(IDENTITY_COLUMNS)]
    for name, share in IDENTITY_MISSING.items():
        identity.loc[rng.random(count) < share, name] = np.nan
    return identity
