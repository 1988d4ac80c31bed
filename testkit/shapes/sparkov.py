"""Sparkov, Kaggle's ``fraudTrain.csv``: simulated card payments in the United States.

Quirks: the first column is a row number without a name; ``cc_num`` holds raw card numbers, of
Maestro cards with 12 digits, too; every merchant is called ``fraud_...``; ``unix_time`` is seven
years before ``trans_date_trans_time``; names and addresses of people are in the clear.

Planted: sprees of a card, amounts unusual for the card, merchants that lose their customers' cards
for some weeks, and expensive nights online (in the attributes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from testkit.shapes.base import Drawing, Shape, digits, drawn, moments, pick, utc, write_csv
from testkit.shapes.streams import DAY, HOUR, Windows, amounts, either, stream, unusual

START: Final = utc(2019, 1, 1)
DAYS: Final = 200
_UNIX_START: Final = 1_325_376_018
"""What the file gives for its first second: 2012-01-01 00:00:18."""

CATEGORIES: Final = (
    *("entertainment", "food_dining", "gas_transport", "grocery_net", "grocery_pos"),
    *("health_fitness", "home", "kids_pets", "misc_net", "misc_pos"),
    *("personal_care", "shopping_net", "shopping_pos", "travel"),
)
_ONLINE: Final = np.array([name.endswith("_net") or name == "travel" for name in CATEGORIES])
_STATES: Final = ("AL", "AR", "CA", "CO", "FL", "GA", "IA", "ID", "IL", "KS", "MI", "MN", "MO")
_JOBS: Final = (
    *("Mechanical engineer", "Psychologist, counselling", "Nature conservation officer"),
    *("Film/video editor", "Surveyor, land/geomatics", "Materials engineer", "Librarian, public"),
    *("Exhibition designer", "Naval architect", "Systems developer", "Chartered accountant"),
)
_FIRST: Final = ("Jennifer", "Stephanie", "Edward", "Jeremy", "Tyler", "Kelsey", "Ann", "Craig")
_LAST: Final = ("Banks", "Gill", "Sanchez", "White", "Garcia", "Conner", "Bailey", "Martinez")
_CITIES: Final = ("Moravian Falls", "Orient", "Malad City", "Boulder", "Doe Hill", "Dublin")
_FIRMS: Final = ("Rippin", "Kub", "Heller", "Lind", "Kutch", "Keeling", "Stroman", "Rowe")


def draw(rows: int, seed: int) -> Drawing:
    """Draw a file's content."""
    rng = np.random.default_rng([seed, 1])
    cards, merchants = max(20, rows // 200), max(40, rows // 100)
    key, seconds, _ = stream(
        rng, rows, entities=cards, days=DAYS,
        spree_share=0.07, spree_rows=(6, 12), spree_seconds=0.7 * HOUR,
    )  # fmt: skip
    amount = amounts(rng, key, typical=45)
    merchant = rng.integers(0, merchants, rows)
    category = (merchant * 7) % len(CATEGORIES)
    by_card = Windows(key, seconds)
    online, night = _ONLINE[category], (seconds % DAY < 4 * HOUR) | (seconds % DAY >= 22 * HOUR)
    spree = by_card.count(HOUR) >= 3
    far = unusual(by_card, amount)
    lost_from = rng.uniform(-0.5, 1, merchants) * DAYS * DAY
    lost = (rng.random(merchants) < 0.06)[merchant]
    lost &= (seconds >= lost_from[merchant]) & (seconds < lost_from[merchant] + 60 * DAY)
    chance = either(
        0.002,
        spree * np.where(online, 0.95, 0.8),
        far * np.where(online | night, 0.9, 0.6),
        lost * 0.3,
        (night & online & (amount > 150)) * 0.12,
    )
    fraud = drawn(rng, chance)
    return Drawing(
        columns=_columns(rng, key, seconds, amount, merchant, category, fraud),
        seconds=seconds,
        fraud=fraud,
        chance=chance,
    )


def _columns(
    rng: np.random.Generator,
    key: np.ndarray,
    seconds: np.ndarray,
    amount: np.ndarray,
    merchant: np.ndarray,
    category: np.ndarray,
    fraud: np.ndarray,
) -> dict[str, pa.Array]:
    rows, cards = len(key), int(key.max()) + 1
    numbers = card_numbers(rng, cards)
    firms = [
        f'"fraud_{_FIRMS[i % 8]}, {_FIRMS[(i // 8) % 8]} and {_LAST[i % 7]}{i}"' if i % 3 else
        f"fraud_{_FIRMS[i % 8]}-{_LAST[i % 8]}{i}"
        for i in range(int(merchant.max()) + 1)
    ]  # fmt: skip
    latitude = np.round(rng.uniform(28, 48, cards), 4)
    longitude = np.round(rng.uniform(-120, -75, cards), 4)
    born = rng.integers(-20_000, -7_000, cards) * DAY
    person = rng.integers(0, 1 << 30, cards)
    quoted_jobs = [f'"{job}"' if "," in job else job for job in _JOBS]
    return {
        "": pa.array(np.arange(rows)),
        "trans_date_trans_time": moments(START, seconds, "%Y-%m-%d %H:%M:%S"),
        "cc_num": pick(numbers, key),
        "merchant": pick(firms, merchant),
        "category": pick(CATEGORIES, category),
        "amt": pa.array(amount),
        "first": pick(_FIRST, (person % 8)[key]),
        "last": pick(_LAST, (person // 8 % 8)[key]),
        "gender": pick(("F", "M"), (person % 2)[key]),
        "street": pick([f"{100 + p % 9000} {_LAST[p % 8]} Cove" for p in person.tolist()], key),
        "city": pick(_CITIES, (person // 64 % 6)[key]),
        "state": pick(_STATES, (person // 512 % 13)[key]),
        "zip": pa.array((10_000 + person % 89_000)[key]),
        "lat": pa.array(latitude[key]),
        "long": pa.array(longitude[key]),
        "city_pop": pa.array((23 + person % 300_000)[key]),
        "job": pick(quoted_jobs, (person // 4096 % 11)[key]),
        "dob": moments(START, born[key], "%Y-%m-%d"),
        "trans_num": pa.array(digits(rng, rows, 32)),
        "unix_time": pa.array(_UNIX_START + seconds),
        "merch_lat": pa.array(np.round(latitude[key] + rng.uniform(-1, 1, rows), 6)),
        "merch_long": pa.array(np.round(longitude[key] + rng.uniform(-1, 1, rows), 6)),
        "is_fraud": pa.array(fraud.astype(np.int8)),
    }


def card_numbers(rng: np.random.Generator, cards: int) -> list[str]:
    """Numbers with a correct check digit, each once: of 16, 15 and, for Maestro, 12 digits."""
    made: dict[str, None] = {}
    while len(made) < cards:
        kind = len(made) % 4
        start, length = (("4", 16), ("27031", 16), ("3402", 15), ("6304", 12))[kind]
        middle = "".join(map(str, rng.integers(0, 10, length - len(start) - 1)))
        made[start + middle + _check_digit(start + middle)] = None
    return list(made)


def _check_digit(number: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def write(drawing: Drawing, folder: Path, stem: str) -> list[Path]:
    """Write the file; returns where."""
    return [write_csv(folder / f"{stem}.csv", drawing.columns)]


SHAPE: Final = Shape(
    name="sparkov",
    draw=draw,
    write=write,
    label="is_fraud",
    truth={
        "--id": "trans_num",
        "--time": "trans_date_trans_time",
        "--amount": "amt",
        "--label": "is_fraud",
        "--card": "cc_num",
        "--merchant": "merchant",
        "--label-values": "1",
    },
    days=DAYS,
    stem="fraudTrain",
)
