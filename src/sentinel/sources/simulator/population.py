"""The people and shops of the simulated world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.sources.simulator.catalogue import (
    BRANDS,
    CATEGORIES,
    COUNTRIES,
    HABITS,
    SYSTEMS,
)
from sentinel.sources.simulator.config import SimulatorConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

FAVOURITES: Final = 10
_FAVOURITE_WEIGHTS: Final = 1.0 / np.arange(1, FAVOURITES + 1) ** 0.9
FAVOURITE_SHARES: Final[Floats] = np.cumsum(_FAVOURITE_WEIGHTS / _FAVOURITE_WEIGHTS.sum())

CATEGORY_PRICE: Final = np.log([category.price for category in CATEGORIES])
CATEGORY_SPREAD: Final = np.array([category.spread for category in CATEGORIES])
CATEGORY_ONLINE: Final = np.array([category.online for category in CATEGORIES])
CATEGORY_APPEAL: Final = np.array([category.appeal for category in CATEGORIES])
CASH: Final = next(i for i, category in enumerate(CATEGORIES) if category.name == "cash")


@dataclass(frozen=True)
class Merchants:
    """All merchants, sorted by country. Arrays of length ``merchants``.

    Attributes:
        country, category: Codes of the catalogue.
        price: Level of prices, added to the logarithm of an amount.
        online: Share of payments made online.
        reach: Cumulative share of traffic over all merchants.
        borders: First merchant of each country, and the number of merchants.
        opens: Day (from the start of the history) of opening; before it, the ``earlier``
            merchant has the customers.
        earlier: An older merchant of the same country.
    """

    country: Ints
    category: Ints
    price: Floats
    online: Floats
    reach: Floats
    borders: Ints
    opens: Ints
    earlier: Ints

    def pick(self, country: Ints, u: Floats) -> Ints:
        """A merchant of each country, by traffic. ``u`` is uniform in [0, 1)."""
        low = np.where(country > 0, self.reach[self.borders[country] - 1], 0.0)
        high = self.reach[self.borders[country + 1] - 1]
        found = np.searchsorted(self.reach, low + u * (high - low), side="right")
        return np.clip(found, self.borders[country], self.borders[country + 1] - 1)


@dataclass(frozen=True)
class Customers:
    """All card holders. Arrays of length ``customers``.

    Attributes:
        country, habit: Codes of the catalogue.
        rate: Mean payments a day.
        spend, spread: Added to the logarithm of an amount, and its scatter.
        online: Bent towards online payments, added to their log-odds.
        favourites: (customers, FAVOURITES) merchants, the first the dearest.
        cards: Number of cards, 1 or 2.
        brand, card_type: (customers, 2) codes of each card.
        systems: (customers, 2) operating systems of the two devices.
        household: Customers of one household share an IP address at home.
        joined: Day (from the start of the history) of the account; mostly negative.
        phase: Random phase, 0 to 1, for what happens to each now and then.
    """

    country: Ints
    habit: Ints
    rate: Floats
    spend: Floats
    spread: Floats
    online: Floats
    favourites: Ints
    cards: Ints
    brand: Ints
    card_type: Ints
    systems: Ints
    household: Ints
    joined: Ints
    phase: Floats


@dataclass(frozen=True)
class Population:
    """Everybody in the simulated world."""

    customers: Customers
    merchants: Merchants


def populate(config: SimulatorConfig) -> Population:
    """The population of a config."""
    rng = np.random.default_rng([config.seed, 1])
    merchants = _merchants(config, rng)
    return Population(_customers(config, merchants, rng), merchants)


def _merchants(config: SimulatorConfig, rng: np.random.Generator) -> Merchants:
    count = config.merchants
    weights = np.array([country.weight for country in COUNTRIES])
    # Two in each country at least: there is always somewhere to go.
    country = np.sort(
        np.concatenate(
            [
                np.repeat(np.arange(len(COUNTRIES)), 2),
                rng.choice(len(COUNTRIES), count - 2 * len(COUNTRIES), p=_shares(weights + 0.02)),
            ]
        )
    )
    traffic = np.array([category.traffic for category in CATEGORIES])
    category = rng.choice(len(CATEGORIES), count, p=_shares(np.sqrt(traffic)))
    size = rng.pareto(1.6, count) + 0.3
    size *= traffic[category] / np.bincount(category, size, len(CATEGORIES))[category]
    borders = np.searchsorted(country, np.arange(len(COUNTRIES) + 1))
    opens = np.where(rng.random(count) < 0.25, rng.integers(-60, 900, count), -1_000)
    opens[borders[:-1]] = -1_000
    mixed = np.clip(CATEGORY_ONLINE[category] + rng.normal(0, 0.15, count), 0.0, 1.0)
    online = np.where(
        CATEGORY_ONLINE[category] >= 0.95, 1.0, np.where(CATEGORY_ONLINE[category] > 0, mixed, 0.0)
    )
    return Merchants(
        country=country,
        category=category,
        price=rng.normal(0, 0.35, count),
        online=online,
        reach=np.cumsum(size / size.sum()),
        borders=borders,
        opens=opens,
        earlier=borders[country],
    )


def _customers(
    config: SimulatorConfig, merchants: Merchants, rng: np.random.Generator
) -> Customers:
    count = config.customers
    country = rng.choice(
        len(COUNTRIES), count, p=_shares(np.array([country.weight for country in COUNTRIES]))
    )
    # Households: neighbours in number and country.
    order = np.argsort(country, kind="stable")
    household = np.empty(count, np.int64)
    new_home = (rng.random(count) < 0.5) | (np.diff(country[order], prepend=-1) != 0)
    household[order] = np.cumsum(new_home)
    rate = rng.gamma(1.4, 1 / 1.4, count) + 0.08
    favourites = np.stack(
        [merchants.pick(country, rng.random(count)) for _ in range(FAVOURITES)], axis=1
    )
    abroad = rng.integers(0, config.merchants, (count, FAVOURITES))
    web = (rng.random((count, FAVOURITES)) < 0.15) & (merchants.online[abroad] > 0.9)
    return Customers(
        country=country,
        habit=rng.choice(HABITS, count, p=[0.45, 0.25, 0.2, 0.1]),
        rate=rate / rate.mean() * config.daily_rate,
        spend=rng.normal(0, 0.40, count),
        spread=rng.uniform(0.55, 1.15, count),
        online=rng.normal(0, 0.8, count),
        favourites=np.where(web, abroad, favourites),
        cards=1 + (rng.random(count) < 0.3),
        brand=rng.choice(len(BRANDS), (count, 2), p=[0.5, 0.44, 0.06]),
        card_type=rng.choice(3, (count, 2), p=[0.6, 0.35, 0.05]),
        systems=rng.choice(len(SYSTEMS), (count, 2), p=[0.42, 0.3, 0.2, 0.07, 0.01]),
        household=household,
        joined=np.where(
            rng.random(count) < 0.12,
            rng.integers(-60, 500, count),
            -(60 + rng.gamma(1.5, 700, count)).astype(np.int64),
        ),
        phase=rng.random(count),
    )


def _shares(weights: Floats) -> Floats:
    shares: Floats = weights / weights.sum()
    return shares
