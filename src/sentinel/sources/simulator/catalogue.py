"""The fixed facts of the simulated world: countries, kinds of shops, habits and devices."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt


class Country(NamedTuple):
    """A country with its weight as a home, its time zone and its currency."""

    code: str
    weight: float
    utc_offset_hours: int
    currency: str
    per_euro: float


class Category(NamedTuple):
    """A kind of shop.

    ``price`` is the median payment in euros, ``spread`` the standard deviation of its logarithm,
    ``online`` the share of payments made online, ``traffic`` its share of all payments, and
    ``appeal`` how much fraudsters like it.
    """

    name: str
    mcc: str
    price: float
    spread: float
    online: float
    traffic: float
    appeal: float


COUNTRIES: Final = (
    Country("DE", 0.27, 1, "EUR", 1.0),
    Country("FR", 0.20, 1, "EUR", 1.0),
    Country("ES", 0.13, 1, "EUR", 1.0),
    Country("IT", 0.13, 1, "EUR", 1.0),
    Country("NL", 0.08, 1, "EUR", 1.0),
    Country("PL", 0.07, 1, "PLN", 4.3),
    Country("GB", 0.08, 0, "GBP", 0.86),
    Country("US", 0.03, -5, "USD", 1.08),
    Country("TR", 0.005, 3, "TRY", 34.0),
    Country("BR", 0.005, -3, "BRL", 5.6),
)

CATEGORIES: Final = (
    Category("groceries", "5411", 24.0, 0.75, 0.04, 0.24, 0.3),
    Category("restaurants", "5812", 21.0, 0.65, 0.08, 0.13, 0.3),
    Category("fast food", "5814", 9.0, 0.50, 0.12, 0.10, 0.3),
    Category("fuel", "5541", 46.0, 0.45, 0.00, 0.07, 0.6),
    Category("transit", "4111", 3.6, 0.60, 0.25, 0.08, 0.1),
    Category("clothing", "5651", 48.0, 0.70, 0.45, 0.07, 1.2),
    Category("pharmacies", "5912", 14.0, 0.70, 0.15, 0.05, 0.3),
    Category("electronics", "5732", 110.0, 0.95, 0.60, 0.035, 3.0),
    Category("digital goods", "5816", 7.5, 0.90, 1.00, 0.06, 2.6),
    Category("subscriptions", "5968", 11.0, 0.40, 1.00, 0.05, 0.8),
    Category("travel", "4722", 190.0, 0.85, 0.80, 0.02, 1.8),
    Category("marketplaces", "5999", 29.0, 0.95, 0.95, 0.06, 1.8),
    Category("gift cards", "5947", 38.0, 0.70, 0.70, 0.01, 3.2),
    Category("home and garden", "5200", 42.0, 0.85, 0.30, 0.035, 0.9),
    Category("cash", "6011", 70.0, 0.60, 0.00, 0.03, 1.5),
)

CHANNELS: Final = ("pos", "online", "atm")
POS, ONLINE, ATM = range(3)

ENTRY_MODES: Final = ("chip", "contactless", "magstripe", "manual", "card_on_file", "wallet")
CHIP, CONTACTLESS, MAGSTRIPE, MANUAL, CARD_ON_FILE, WALLET = range(6)

AUTHENTICATIONS: Final = ("none", "pin", "signature", "3ds_frictionless", "3ds_challenge")
NO_AUTH, PIN, SIGNATURE, FRICTIONLESS, CHALLENGE = range(5)

SYSTEMS: Final = ("android", "ios", "windows", "macos", "linux")
NO_SYSTEM: Final = -1

BRANDS: Final = ("visa", "mastercard", "amex")
CARD_TYPES: Final = ("debit", "credit", "prepaid")

SCENARIOS: Final = (
    "legitimate",
    "card_testing",
    "stolen_card",
    "compromised_terminal",
    "account_takeover",
    "ring",
)
LEGITIMATE, CARD_TESTING, STOLEN_CARD, COMPROMISED, TAKEOVER, RING = range(6)

NOBODY: Final = -1
"""Stands for no device and no IP address."""


def _hours(*peaks: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Weights of the 24 local hours: a floor, and bumps (centre, width, height)."""
    hours = np.arange(24)
    weights = np.full(24, 0.04)
    for centre, width, height in peaks:
        distance = np.minimum(np.abs(hours - centre), 24 - np.abs(hours - centre))
        weights += height * np.exp(-0.5 * (distance / width) ** 2)
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


# Four ways to spend a day: office, family, student, night shift; then the same at weekends.
HOURS: Final = np.stack(
    [
        _hours((8, 1.2, 0.7), (12.5, 1.2, 1.0), (18.5, 2.0, 1.2)),
        _hours((10, 2.0, 1.2), (16, 2.5, 1.0)),
        _hours((13, 2.5, 0.8), (20, 3.0, 1.2), (0, 1.5, 0.4)),
        _hours((6, 2.0, 0.8), (22, 3.0, 1.0), (3, 2.0, 0.5)),
        _hours((11, 2.0, 1.0), (19, 3.0, 1.0)),
        _hours((11, 2.5, 1.3), (16, 2.0, 0.8)),
        _hours((15, 3.0, 0.9), (22, 2.5, 1.2), (1, 1.5, 0.6)),
        _hours((14, 4.0, 1.0), (23, 2.5, 0.9)),
    ]
)
HABITS: Final = 4
FRAUD_HOURS: Final = _hours((3, 3.5, 0.55), (14, 5.0, 0.6), (21, 3.0, 0.7))

# Payments by weekday (Monday first) for the same four.
WEEKDAYS: Final = np.array(
    [
        [1.0, 1.0, 1.0, 1.05, 1.2, 1.05, 0.7],
        [0.9, 0.9, 0.95, 1.0, 1.2, 1.35, 0.7],
        [0.8, 0.85, 0.95, 1.05, 1.3, 1.25, 0.8],
        [1.05, 1.0, 1.0, 1.0, 1.0, 1.0, 0.95],
    ]
)

# Relative payments by month: the quiet of February, summer travel, Black Friday, Christmas.
MONTHS: Final = np.array([0.93, 0.90, 0.96, 0.98, 1.00, 1.02, 1.04, 1.00, 0.98, 1.00, 1.08, 1.14])
