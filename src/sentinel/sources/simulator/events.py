"""Payments of the simulated world as arrays, and the devices and addresses they come from."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from sentinel.sources.base import DAY_US
from sentinel.sources.simulator.population import Bools, Floats, Ints, Population

# Devices and addresses are numbered by kind, so that no two kinds ever collide.
_KIND: Final = 1 << 40
OWN_DEVICE, GUEST_DEVICE, FRAUD_DEVICE = 0 * _KIND, 1 * _KIND, 2 * _KIND
HOME_ADDRESS, CARRIER_ADDRESS, OTHER_ADDRESS, FRAUD_ADDRESS = (kind * _KIND for kind in range(4))


@dataclass(frozen=True)
class Events:
    """Payments, arrays of one length.

    Attributes:
        time_us: Microseconds UTC.
        customer, card, merchant: Numbers in the population; card is 2 x customer + slot.
        device, address: Numbers, ``NOBODY`` where the card was present.
        system: Of the device.
        amount_minor: Euro cents.
        channel, entry, authentication, scenario: Codes of the catalogue.
        claimed_us: When the payment is claimed as fraud; 0 = never.
        corrected_us: When a mistaken claim is taken back; 0 = never.
    """

    time_us: Ints
    customer: Ints
    card: Ints
    merchant: Ints
    device: Ints
    address: Ints
    system: Ints
    amount_minor: Ints
    channel: Ints
    entry: Ints
    authentication: Ints
    scenario: Ints
    claimed_us: Ints
    corrected_us: Ints

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, rows: Bools | Ints) -> Events:
        """Some of the payments, by mask or by number."""
        return Events(*(getattr(self, item.name)[rows] for item in fields(self)))


def concat(parts: list[Events]) -> Events:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    return Events(
        *(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Events))
    )


def empty_events() -> Events:
    """No payments."""
    return Events(*(np.empty(0, np.int64) for _ in fields(Events)))


def own_device(population: Population, customer: Ints, slot: Ints, day: Ints | int) -> Ints:
    """A customer's device; it is replaced every one to three years."""
    life = 350 + (population.customers.phase[customer] * 7919 * (slot + 1)).astype(np.int64) % 700
    offset = (population.customers.phase[customer] * 104_729).astype(np.int64) % life
    generation = (day + 20_000 + offset) // life
    return OWN_DEVICE + (customer * 2 + slot) * 256 + generation % 256


def home_address(population: Population, customer: Ints, day: Ints | int) -> Ints:
    """The household's address; the provider changes it every few weeks."""
    household = population.customers.household[customer]
    lease = 20 + household * 7919 % 120
    return HOME_ADDRESS + household * 4096 + ((day + 20_000 + household * 31) // lease) % 4096


def carrier_address(country: Ints, customers: int, u: Floats, day: Ints | int) -> Ints:
    """A mobile carrier's address: some dozens of strangers share one."""
    pool = max(4, customers // 40)
    spot = (u * pool).astype(np.int64)
    return CARRIER_ADDRESS + (country * 100_000 + spot) * 64 + (day + spot) // 30 % 64


def lognormal_delay_us(rng: np.random.Generator, count: int, median_days: float) -> Ints:
    """Days to weeks until a fraud is reported: lognormal, half a day to ten weeks."""
    days = np.exp(rng.normal(np.log(median_days), 0.75, count))
    return (np.clip(days, 0.5, 70.0) * DAY_US).astype(np.int64)
