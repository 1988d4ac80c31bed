"""What a shop exports: orders of a year with what became of them.

Quirks: a byte order mark, semicolons and line ends of Windows; amounts such as ``1.234,56``; times
such as ``31.12.2024 23:59``; e-mail addresses in the clear; and columns of what happened later:
status, refund and its date, and the day of the chargeback.

Planted: addresses from which many customers order within hours, amounts unusual for the customer,
shipping to another country than the bill's (in the attributes); and in the columns of later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from testkit.shapes.base import Drawing, Shape, drawn, moments, pick, utc, write_csv
from testkit.shapes.streams import DAY, HOUR, Floats, Windows, amounts, either, stream, unusual

START: Final = utc(2024, 1, 1)
DAYS: Final = 360
COUNTRIES: Final = ("DE", "AT", "CH", "NL", "FR", "PL")
METHODS: Final = ("Card", "PayPal", "Invoice", "Apple Pay")
STATUSES: Final = ("completed", "returned", "cancelled", "chargeback")


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 8])
    addresses = max(40, rows // 12)
    address, seconds, spree = stream(
        rng, rows, entities=addresses, days=DAYS,
        spree_share=0.095, spree_rows=(6, 12), spree_seconds=5 * HOUR, unevenness=0.4,
    )  # fmt: skip
    seconds -= seconds % 60
    customers = addresses
    customer = np.where(spree, rng.integers(0, customers, rows), address)
    amount = amounts(rng, customer, typical=70, outliers=0.04)
    method = rng.choice(4, rows, p=[0.5, 0.3, 0.15, 0.05])
    billed = rng.choice(6, rows, p=[0.7, 0.1, 0.08, 0.05, 0.04, 0.03])
    elsewhere = rng.random(rows) < 0.06
    shipped = np.where(elsewhere, (billed + rng.integers(1, 6, rows)) % 6, billed)
    crowd = Windows(address, seconds).count(6 * HOUR) >= 2
    far = unusual(Windows(customer, seconds), amount, days=90)
    voucher = np.where(rng.random(rows) < 0.2, rng.integers(0, 3, rows), -1)
    mails = [f"customer{n * 7919 % 99_991}.{n}@example.com" for n in range(customers)]
    card = method == 0
    chance = either(
        0.0015,
        crowd * np.where(card | elsewhere, 0.9, 0.6),
        far * np.where(card | elsewhere, 0.85, 0.5),
        (elsewhere & card & (amount > 150)) * 0.25,
    )
    fraud = drawn(rng, chance)
    return Drawing(
        columns={
            "Order Number": pa.array([f"SO-{100_000 + n}" for n in range(rows)]),
            "Order Date": moments(START, seconds, "%d.%m.%Y %H:%M"),
            "Customer Number": pa.array(40_000 + customer),
            "E-Mail": pick(mails, customer),
            "IP Address": pick([_address(n) for n in range(addresses)], address),
            "Payment Method": pick(METHODS, method),
            "Currency": pick(("EUR",), np.zeros(rows, dtype=np.int8)),
            "Order Total": pa.array(list(map(german, amount.tolist()))),
            "Items": pa.array(rng.integers(1, 7, rows)),
            "Billing Country": pick(COUNTRIES, billed),
            "Shipping Country": pick(COUNTRIES, shipped),
            "Voucher": pick(("WELCOME10", "SUMMER", "VIP"), voucher),
            **_later(rng, seconds, amount, fraud),
        },
        seconds=seconds,
        fraud=fraud,
        chance=chance,
    )


def _later(
    rng: np.random.Generator, seconds: np.ndarray, amount: Floats, fraud: np.ndarray
) -> dict[str, pa.Array]:
    """What the export says of each order after it happened."""
    rows = len(fraud)
    status = np.where(fraud, 3, rng.choice(3, rows, p=[0.92, 0.05, 0.03]))
    refunded = np.where(fraud, rng.random(rows) < 0.9, rng.random(rows) < 0.002)
    later = seconds + rng.integers(2 * DAY, 20 * DAY, rows)
    back = seconds + rng.integers(3 * DAY, 25 * DAY, rows)
    days = moments(START, later, "%d.%m.%Y")
    nothing = pa.scalar(None, pa.string())
    money = pa.array(list(map(german, amount.tolist())))
    return {
        "Status": pick(STATUSES, status),
        "Refund Amount": pc.if_else(pa.array(refunded), money, nothing),
        "Refund Date": pc.if_else(pa.array(refunded), days, nothing),
        "Chargeback": pick(("no", "yes"), fraud.astype(np.int8)),
        "Chargeback Date": pc.if_else(pa.array(fraud), moments(START, back, "%d.%m.%Y"), nothing),
    }


def german(value: float) -> str:
    """An amount with a decimal comma and points between thousands.

    >>> german(1234.5)
    '1.234,50'
    """
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def _address(number: int) -> str:
    return f"{80 + number % 100}.{number // 100 % 250}.{number // 25_000}.{1 + number * 7 % 250}"


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write the file; returns where."""
    path = write_csv(folder / f"{stem}.csv", drawing.columns, delimiter=";")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    return [path]


SHAPE: Final = Shape(
    name="shop",
    draw=draw,
    write=write,
    label="Chargeback",
    truth={
        "--id": "Order Number",
        "--time": "Order Date",
        "--amount": "Order Total",
        "--label": "Chargeback",
        "--customer": "Customer Number",
        "--ip": "IP Address",
        "--label-values": "yes",
    },
    late=("Chargeback Date",),
    leaks=("Status", "Refund Amount", "Refund Date"),
    days=DAYS,
    label_delay_days=25.0,
    stem="orders",
)
