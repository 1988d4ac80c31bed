"""TabFormer, IBM's ``card_transaction.v1.csv``: simulated payments of American card holders.

Quirks: no id; Year, Month, Day and Time in columns of their own, to the minute; amounts such as
``$134.09`` and ``$-99.00`` for refunds; a card is ``User`` and ``Card`` together; merchants are
numbers of 19 digits, some negative; rows are sorted by user, not by time; ``Errors?`` ends in a
comma within quotes; ``Is Fraud?`` says Yes or No.

Planted: sprees of a card, amounts unusual for the card, more of them online or after an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import Drawing, Shape, drawn, moments, pick, utc, write_csv
from testkit.shapes.streams import (
    HOUR,
    MINUTE,
    Flags,
    Floats,
    Ints,
    Windows,
    amounts,
    either,
    stream,
    unusual,
)

START: Final = utc(2018, 3, 1)
DAYS: Final = 400
CHANNELS: Final = ("Swipe Transaction", "Chip Transaction", "Online Transaction")
ERRORS: Final = (
    *("Insufficient Balance", "Bad PIN", "Technical Glitch", "Bad CVV", "Bad Expiration"),
    "Bad Card Number",
)
STATES: Final = ("CA", "NY", "TX", "FL", "OH", "IL", "PA", "NJ", "Italy", "Mexico")
CITIES: Final = ("La Verne", "Monterey Park", "Beulah", "Rome", "Houston", "Strasburg")
MCCS: Final = ("5411", "5499", "5812", "5541", "4829", "5300", "7538", "5311", "3640", "4784")


class Payments:
    """What TabFormer and its twin on Kaggle have in common. All arrays are (n,).

    Attributes:
        key: int64, number of the card; a card's holder is ``key // 2``.
        seconds: int64, whole minutes.
        amount: float64, negative for a refund.
        merchant, channel: int64.
        error: int64, negative = none.
        chance: float64.
        fraud: bool.
    """

    key: Ints
    seconds: Ints
    amount: Floats
    merchant: Ints
    channel: Ints
    error: Ints
    chance: Floats
    fraud: Flags

    def __init__(self, rng: np.random.Generator, rows: int) -> None:
        cards = 2 * max(20, rows // 240)
        key, seconds, _ = stream(
            rng, rows, entities=cards, days=DAYS,
            spree_share=0.085, spree_rows=(7, 14), spree_seconds=3 * HOUR, unevenness=0.5,
        )  # fmt: skip
        seconds -= seconds % MINUTE
        amount = amounts(rng, key, typical=38)
        self.merchant = rng.integers(0, max(60, rows // 80), rows)
        self.channel = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
        self.error = np.where(rng.random(rows) < 0.03, rng.integers(0, len(ERRORS), rows), -1)
        paid = Windows(key, seconds)
        spree, far = paid.count(3 * HOUR) >= 3, unusual(paid, amount)
        online, stolen = self.channel == 2, self.error >= 3
        self.chance = either(
            0.0015,
            spree * np.where(online, 0.97, 0.8),
            far * np.where(online, 0.95, 0.6),
            stolen * np.where(online, 0.6, 0.1),
        )
        self.fraud = drawn(rng, self.chance)
        refund = ~self.fraud & (rng.random(rows) < 0.03) & (self.chance < 0.01)
        self.key, self.seconds = key, seconds
        self.amount = np.where(refund, -amount, amount)

    def places(self) -> dict[str, pa.Array]:
        """City, state, zip and merchant category: those of the shop, none of an online one."""
        online = self.channel == 2
        where = np.where(online, -1, self.merchant)
        cities, states = len(CITIES), len(STATES)
        abroad = where % states >= states - 2
        return {
            "city": pick([*CITIES, "ONLINE"], np.where(online, cities, where % cities)),
            "state": pick(STATES, np.where(online, -1, where % states)),
            "zip": pick(
                [f"{10_000 + 37 * n}.0" for n in range(1_000)],
                np.where(online | abroad, -1, where % 1_000),
            ),
            "mcc": pick(MCCS, self.merchant % len(MCCS)),
        }

    def dollars(self) -> pa.Array:
        """Amounts as text."""
        return pa.array([f"${value:.2f}" for value in self.amount.tolist()])


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 5])
    made = Payments(rng, rows)
    seconds, place = made.seconds, made.places()
    merchants = rng.integers(-(2**63), 2**63 - 1, int(made.merchant.max()) + 1)
    columns = {
        "User": pa.array(made.key // 2),
        "Card": pa.array(made.key % 2),
        "Year": moments(START, seconds, "%Y"),
        "Month": moments(START, seconds, "%m").cast(pa.int64()),
        "Day": moments(START, seconds, "%d").cast(pa.int64()),
        "Time": moments(START, seconds, "%H:%M"),
        "Amount": made.dollars(),
        "Use Chip": pick(CHANNELS, made.channel),
        "Merchant Name": pa.array(merchants[made.merchant]),
        "Merchant City": place["city"],
        "Merchant State": place["state"],
        "Zip": place["zip"],
        "MCC": place["mcc"],
        "Errors?": pick([f'"{error},"' for error in ERRORS], made.error),
        "Is Fraud?": pick(("No", "Yes"), made.fraud.astype(np.int8)),
    }
    return Drawing(
        columns=columns,
        seconds=seconds,
        fraud=made.fraud,
        chance=made.chance,
        keep={"card": made.key},
    )


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write the file, sorted by card as the real one; returns where."""
    order = pa.array(np.argsort(drawing.keep["card"], kind="stable"))
    columns = {name: values.take(order) for name, values in drawing.columns.items()}
    return [write_csv(folder / f"{stem}.csv", columns)]


SHAPE: Final = Shape(
    name="tabformer",
    draw=draw,
    write=write,
    label="Is Fraud?",
    truth={
        "--id": "row",
        "--amount": "Amount",
        "--label": "Is Fraud?",
        "--customer": "User",
        "--merchant": "Merchant Name",
        "--label-values": "Yes",
    },
    days=DAYS,
    stem="card_transaction.v1",
)
