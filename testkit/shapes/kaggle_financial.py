"""Kaggle's "Financial Transactions": ``transactions_data.csv`` and what lies beside it.

Quirks: amounts such as ``$-77.00``; zip codes such as ``58523.0``; verdicts are in a file of their
own, ``train_fraud_labels.json``, one JSON object ``{"target": {"<id>": "No"}}`` that knows only a
part of the payments; ``cards_data.csv`` holds raw card numbers with their CVV.

Planted: what `testkit.shapes.tabformer` plants, whose payments these are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import TEST_SHARE, Drawing, Shape, moments, pick, utc, write_csv
from testkit.shapes.sparkov import card_numbers
from testkit.shapes.tabformer import CHANNELS, DAYS, ERRORS, Payments

START: Final = utc(2010, 1, 1)
LABELLED: Final = 0.85
"""Share of the history that the file of labels knows; of what is tested on it knows all."""


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 6])
    made = Payments(rng, rows)
    place = made.places()
    tested = np.arange(rows) >= int(rows * (1 - TEST_SHARE)) - rows // 50
    columns = {
        "id": pa.array(7_475_327 + np.cumsum(rng.integers(1, 4, rows))),
        "date": moments(START, made.seconds, "%Y-%m-%d %H:%M:%S"),
        "client_id": pa.array(made.key // 2),
        "card_id": pa.array(2_000 + made.key),
        "amount": made.dollars(),
        "use_chip": pick(CHANNELS, made.channel),
        "merchant_id": pa.array(10_000 + made.merchant * 37),
        "merchant_city": place["city"],
        "merchant_state": place["state"],
        "zip": place["zip"],
        "mcc": place["mcc"],
        "errors": pick(ERRORS, made.error),
    }
    return Drawing(
        columns=columns,
        seconds=made.seconds,
        fraud=made.fraud,
        chance=made.chance,
        keep={
            "labelled": (rng.random(rows) < LABELLED) | tested,
            "card": made.key,
        },
    )


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write payments, labels, cards and people; returns where, payments and labels first."""
    paths = [write_csv(folder / f"{stem}.csv", drawing.columns)]
    identifiers = next(iter(drawing.columns.values()))
    labels = {
        str(identifier): "Yes" if fraud else "No"
        for identifier, fraud, known in zip(
            identifiers.to_pylist(),
            drawing.fraud.tolist(),
            drawing.keep["labelled"].tolist(),
            strict=True,
        )
        if known
    }
    paths.append(folder / f"{'train_fraud' if stem == SHAPE.stem else stem}_labels.json")
    paths[-1].write_text(json.dumps({"target": labels}))
    cards = np.unique(drawing.keep["card"])
    paths.append(write_csv(folder / "cards_data.csv", _cards(cards)))
    paths.append(write_csv(folder / "users_data.csv", _people(np.unique(cards // 2))))
    return paths


def _cards(cards: np.ndarray) -> dict[str, pa.Array]:
    rng = np.random.default_rng(6)
    n = len(cards)
    return {
        "id": pa.array(2_000 + cards),
        "client_id": pa.array(cards // 2),
        "card_brand": pick(("Visa", "Mastercard", "Amex", "Discover"), rng.integers(0, 4, n)),
        "card_type": pick(("Debit", "Credit", "Debit (Prepaid)"), rng.integers(0, 3, n)),
        "card_number": pa.array(card_numbers(rng, n)),
        "expires": pick(("12/2022", "04/2020", "11/2024"), rng.integers(0, 3, n)),
        "cvv": pa.array(rng.integers(100, 1_000, n)),
        "has_chip": pick(("YES", "NO"), rng.integers(0, 2, n)),
        "num_cards_issued": pa.array(rng.integers(1, 4, n)),
        "credit_limit": pa.array([f"${v}" for v in rng.integers(1_000, 50_000, n).tolist()]),
        "acct_open_date": pick(("09/2002", "04/2014", "07/2003"), rng.integers(0, 3, n)),
        "year_pin_last_changed": pa.array(rng.integers(2_002, 2_010, n)),
        "card_on_dark_web": pick(("No",), np.zeros(n, dtype=np.int8)),
    }


def _people(people: np.ndarray) -> dict[str, pa.Array]:
    rng = np.random.default_rng(7)
    n = len(people)
    return {
        "id": pa.array(people),
        "current_age": pa.array(rng.integers(18, 90, n)),
        "retirement_age": pa.array(rng.integers(60, 70, n)),
        "birth_year": pa.array(rng.integers(1930, 2001, n)),
        "birth_month": pa.array(rng.integers(1, 13, n)),
        "gender": pick(("Female", "Male"), rng.integers(0, 2, n)),
        "address": pa.array([f"{v} Rose Lane" for v in rng.integers(1, 999, n).tolist()]),
        "latitude": pa.array(np.round(rng.uniform(25, 48, n), 2)),
        "longitude": pa.array(np.round(rng.uniform(-120, -75, n), 2)),
        "per_capita_income": pa.array([f"${v}" for v in rng.integers(0, 90_000, n).tolist()]),
        "yearly_income": pa.array([f"${v}" for v in rng.integers(0, 200_000, n).tolist()]),
        "total_debt": pa.array([f"${v}" for v in rng.integers(0, 300_000, n).tolist()]),
        "credit_score": pa.array(rng.integers(480, 850, n)),
        "num_credit_cards": pa.array(rng.integers(1, 9, n)),
    }


SHAPE: Final = Shape(
    name="kaggle_financial",
    draw=draw,
    write=write,
    label=None,
    truth={
        "--id": "id",
        "--time": "date",
        "--amount": "amount",
        "--customer": "client_id",
        "--card": "card_id",
        "--merchant": "merchant_id",
        "--label-values": "Yes",
    },
    days=DAYS,
    stem="transactions_data",
)
