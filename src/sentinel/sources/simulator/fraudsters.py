"""Where fraudsters spend, whom they rob, and what all their campaigns have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sentinel.sources.base import DAY_US
from sentinel.sources.simulator.catalogue import FRAUD_HOURS
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.events import (
    FRAUD_ADDRESS,
    FRAUD_DEVICE,
    Events,
    lognormal_delay_us,
)
from sentinel.sources.simulator.habits import inflation, priced
from sentinel.sources.simulator.population import (
    CASH,
    CATEGORY_APPEAL,
    CATEGORY_PRICE,
    CATEGORY_SPREAD,
    Floats,
    Ints,
    Population,
)

HOUR_US: Final = 3_600_000_000
_HOURS: Final = np.cumsum(FRAUD_HOURS)


class Fraudsters:
    """What fraudsters know: where to spend, online and in the streets.

    Args:
        config: The world.
        population: Its people.
    """

    def __init__(self, config: SimulatorConfig, population: Population) -> None:
        self.config = config
        self.population = population
        shops = population.merchants
        traffic = np.diff(shops.reach, prepend=0.0)
        old = shops.opens < 0
        appeal = traffic**0.7 * CATEGORY_APPEAL[shops.category] * old
        self._online = np.cumsum(appeal * shops.online)
        street = old & (shops.online < 0.5)
        self._street = np.cumsum(appeal * street)
        self._terminals = np.cumsum(traffic**0.25 * street * (shops.category != CASH))
        cheap = old & (shops.online > 0.5) & (CATEGORY_PRICE[shops.category] < np.log(35))
        self._cheap = np.cumsum(traffic**0.5 * cheap)

    def shops(self, kind: str, rng: np.random.Generator, count: int) -> Ints:
        """Merchants to be used: "online", "street", "terminals" or "cheap" ones."""
        reach: Floats = getattr(self, f"_{kind}")
        if not reach[-1] > 0:  # a world too small to have any
            return rng.integers(0, len(reach), count)
        found: Ints = np.searchsorted(reach, rng.random(count) * reach[-1], side="right")
        return found

    def shop(self, kind: str, share: float) -> int:
        """The merchant of a kind at a share of its traffic, 0 to 1; see `shops`."""
        reach: Floats = getattr(self, f"_{kind}")
        if not reach[-1] > 0:
            return int(share * len(reach))
        return int(np.searchsorted(reach, share * reach[-1], side="right"))

    def near(self, country: Ints, kind: str, rng: np.random.Generator) -> Ints:
        """The same in given countries, where a few tries find one; else anywhere."""
        found = self.shops(kind, rng, len(country))
        for _ in range(12):
            away = self.population.merchants.country[found] != country
            if not away.any():
                break
            found[away] = self.shops(kind, rng, int(away.sum()))
        return found

    def victims(self, rng: np.random.Generator, count: int, day: int) -> Ints:
        """Customers, each once where there are enough."""
        people = self.population.customers
        there = len(people.joined)
        found = rng.choice(there, min(count, there), replace=False)
        return found[people.joined[found] <= day] if count > 1 else found


@dataclass(frozen=True)
class Campaign:
    """Where and when a campaign begins."""

    fraudsters: Fraudsters
    day: int
    serial: int
    rng: np.random.Generator

    @property
    def start_us(self) -> int:
        """A moment of the day that suits fraudsters."""
        hour = int(np.searchsorted(_HOURS, self.rng.random()))
        midnight = (self.fraudsters.config.first_day + self.day) * DAY_US
        return midnight + min(hour, 23) * HOUR_US + int(self.rng.integers(0, 3_600_000)) * 1_000

    def amounts(self, merchant: Ints, lift: float, customer: Ints | None = None) -> Ints:
        """Amounts as the shops have them, times e^lift."""
        population = self.fraudsters.population
        category = population.merchants.category[merchant]
        level = CATEGORY_PRICE[category] + population.merchants.price[merchant] + lift
        level += inflation(self.day)
        if customer is not None:
            level = level + 0.6 * population.customers.spend[customer]
        scatter = 0.85 * CATEGORY_SPREAD[category] * self.rng.standard_normal(len(merchant))
        cents = np.rint(np.exp(np.clip(level + scatter, -0.5, 9.2)) * 100).astype(np.int64)
        return priced(cents, category, self.rng)

    def devices(self, count: int) -> Ints:
        """Numbers of devices that only this campaign has."""
        return FRAUD_DEVICE + self.serial * 512 + np.arange(count) % 512

    def addresses(self, count: int) -> Ints:
        """Numbers of addresses that only this campaign has."""
        return FRAUD_ADDRESS + self.serial * 512 + np.arange(count) % 512

    def events(self, scenario: int, median_delay_days: float, **columns: Any) -> Events:
        """The campaign's payments, with the time each victim notices."""
        config, rng = self.fraudsters.config, self.rng
        count = len(columns["customer"])
        slot = (columns["customer"] * 31 + self.serial) % 3 // 2
        second = self.fraudsters.population.customers.cards[columns["customer"]] == 2
        card = columns["customer"] * 2 + slot * second
        time_us = np.asarray(columns.pop("time_us"), np.int64) // 1_000 * 1_000
        cards, of = np.unique(card, return_inverse=True)
        first = np.full(len(cards), np.iinfo(np.int64).max)
        np.minimum.at(first, of, time_us)
        noticed = first + lognormal_delay_us(rng, len(cards), median_delay_days)
        reported = rng.random(len(cards)) < config.reported_share
        at = np.maximum(noticed[of], time_us + 2 * HOUR_US)
        given = {name: np.broadcast_to(np.asarray(v), count) for name, v in columns.items()}
        return Events(
            time_us=time_us,
            card=card,
            scenario=np.full(count, scenario),
            claimed_us=np.where(reported[of], at, 0),
            corrected_us=np.zeros(count, np.int64),
            **given,
        )
