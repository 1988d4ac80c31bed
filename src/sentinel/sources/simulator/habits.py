"""What customers do on a day of their own will."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from sentinel.sources.base import DAY_US
from sentinel.sources.simulator.catalogue import (
    ATM,
    CARD_ON_FILE,
    CHALLENGE,
    CHIP,
    CONTACTLESS,
    COUNTRIES,
    FRICTIONLESS,
    HABITS,
    HOURS,
    LEGITIMATE,
    MAGSTRIPE,
    MANUAL,
    MONTHS,
    NO_AUTH,
    NO_SYSTEM,
    NOBODY,
    ONLINE,
    PIN,
    POS,
    SIGNATURE,
    WALLET,
    WEEKDAYS,
)
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.events import (
    GUEST_DEVICE,
    OTHER_ADDRESS,
    Events,
    carrier_address,
    home_address,
    lognormal_delay_us,
    own_device,
)
from sentinel.sources.simulator.population import (
    CASH,
    CATEGORY_PRICE,
    CATEGORY_SPREAD,
    FAVOURITE_SHARES,
    Bools,
    Floats,
    Ints,
    Population,
)

_HOUR_SHARES = np.cumsum(HOURS, axis=1)
_OFFSETS = np.array([country.utc_offset_hours for country in COUNTRIES])


def season(day_number: int) -> float:
    """Payments of a day relative to the mean, by month, blended from one to the next.

    Args:
        day_number: Days since 1970-01-01.
    """
    moment = datetime.fromtimestamp(day_number * 86_400, UTC)
    month, share = moment.month - 1, (moment.day - 1) / 31
    payday = 0.06 if moment.day >= 28 or moment.day <= 2 else 0.0
    return float(MONTHS[month] * (1 - share) + MONTHS[(month + 1) % 12] * share + payday)


def inflation(day: int) -> float:
    """Logarithm of the price level, ``day`` days after the start of the history."""
    return 0.04 * day / 365


def honest_day(
    config: SimulatorConfig, population: Population, day: int, rng: np.random.Generator
) -> Events:
    """All legitimate payments of a day, in no order.

    Args:
        config: The world.
        population: Its people.
        day: Days since the start of the history.
        rng: Of this day.
    """
    people, shops = population.customers, population.merchants
    number, calendar = config.first_day + day, config.calendar_day + day
    weekday = (number + 3) % 7
    rate = people.rate * WEEKDAYS[people.habit, weekday] * season(calendar)
    # Now and then somebody has a shopping day.
    rate = rate * np.where(rng.random(len(rate)) < 0.012, rng.uniform(3, 9, len(rate)), 1.0)
    counts = rng.poisson(np.where(people.joined <= day, rate, 0.0))
    who = np.repeat(np.arange(len(counts)), counts)
    count = len(who)
    travels = _travels(people.phase[who], calendar)
    merchant = _merchants(population, who, travels, day, rng)
    drift = 0.35 * day / 365
    odds = np.log(
        np.clip(shops.online[merchant], 1e-9, 1) / np.clip(1 - shops.online[merchant], 1e-9, 1)
    )
    online = rng.random(count) < 1 / (1 + np.exp(-(odds + people.online[who] * 0.7 + drift)))
    online &= shops.online[merchant] > 0
    channel = np.where(online, ONLINE, np.where(shops.category[merchant] == CASH, ATM, POS))
    amount = _amounts(population, who, merchant, day, rng)
    slot = ((rng.random(count) < 0.22) & (people.cards[who] == 2)).astype(np.int64)
    device, address, system = _places(config, population, who, online, travels, day, number, rng)
    amount, entry, authentication = _manners(amount, channel, rng)
    time_us = number * DAY_US + _times(population, who, weekday, rng)
    claimed, corrected = _mistaken_claims(config, time_us, rng)
    return Events(
        time_us=time_us,
        customer=who,
        card=who * 2 + slot,
        merchant=merchant,
        device=device,
        address=address,
        system=system,
        amount_minor=amount,
        channel=channel,
        entry=entry,
        authentication=authentication,
        scenario=np.full(count, LEGITIMATE),
        claimed_us=claimed,
        corrected_us=corrected,
    )


def _travels(phase: Floats, day_number: int) -> Ints:
    """The country somebody travels in; -1 = at home. Two weeks about twice a year."""
    cycle = 150 + (phase * 7717).astype(np.int64) % 100
    since = (day_number + (phase * 99_991).astype(np.int64)) % cycle
    target = ((phase * 31_337).astype(np.int64) + day_number // 365) % len(COUNTRIES)
    return np.where(since < 11, target, -1)


def _merchants(
    population: Population, who: Ints, travels: Ints, day: int, rng: np.random.Generator
) -> Ints:
    people, shops = population.customers, population.merchants
    count = len(who)
    slot = np.searchsorted(FAVOURITE_SHARES, rng.random(count) * FAVOURITE_SHARES[-1])
    favourite = people.favourites[who, np.minimum(slot, len(FAVOURITE_SHARES) - 1)]
    abroad = rng.random(count) < 0.07
    country = np.where(abroad, rng.integers(0, len(COUNTRIES), count), people.country[who])
    country = np.where(travels >= 0, travels, country)
    explored = shops.pick(country, rng.random(count))
    # A favourite shop on the web is as near on a journey as at home.
    loyal = rng.random(count) < np.where(
        (travels >= 0) & (shops.online[favourite] < 0.9), 0.05, 0.68
    )
    merchant = np.where(loyal, favourite, explored)
    return np.where(shops.opens[merchant] > day, shops.earlier[merchant], merchant)


def _amounts(
    population: Population, who: Ints, merchant: Ints, day: int, rng: np.random.Generator
) -> Ints:
    people, shops = population.customers, population.merchants
    category = shops.category[merchant]
    level = CATEGORY_PRICE[category] + shops.price[merchant] + people.spend[who] + inflation(day)
    scatter = CATEGORY_SPREAD[category] * people.spread[who] * rng.standard_normal(len(who))
    cents = np.rint(np.exp(np.clip(level + scatter, -1.0, 10.5)) * 100).astype(np.int64)
    return priced(cents, category, rng)


def priced(cents: Ints, category: Ints, rng: np.random.Generator) -> Ints:
    """Amounts as shops ask for them: some round, some ending in .99, cash in tens."""
    habit = rng.random(len(cents))
    whole = np.maximum(cents // 100, 1) * 100
    cents = np.where(habit < 0.22, whole - 1, np.where(habit < 0.38, whole, cents))
    return np.where(
        category == CASH, np.maximum((cents + 500) // 1000, 1) * 1000, np.maximum(cents, 1)
    )


def _times(population: Population, who: Ints, weekday: int, rng: np.random.Generator) -> Ints:
    people = population.customers
    profile = people.habit[who] + (HABITS if weekday >= 5 else 0)
    u = rng.random(len(who))
    hour = (_HOUR_SHARES[profile] <= u[:, None]).sum(axis=1).clip(max=23)
    hour = (hour - _OFFSETS[people.country[who]]) % 24
    within = rng.integers(0, 3_600_000, len(who))
    times: Ints = (hour * 3_600_000 + within) * 1_000
    return times


def _manners(amount: Ints, channel: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """How the card is read and its holder known; refunds and checks of zero amount."""
    count = len(amount)
    u, v, w = rng.random(count), rng.random(count), rng.random(count)
    online = channel == ONLINE
    amount = np.where(w < 0.008, -amount, amount)
    amount = np.where((w > 0.995) & online, 0, amount)
    tap = (np.abs(amount) <= 5_000) & (u < 0.78)
    entry = np.where(tap, CONTACTLESS, np.where(u > 0.985, MAGSTRIPE, CHIP))
    entry = np.where(channel == ATM, np.where(u > 0.985, MAGSTRIPE, CHIP), entry)
    web = np.where(u < 0.45, CARD_ON_FILE, np.where(u < 0.62, WALLET, MANUAL))
    entry = np.where(online, web, entry)
    shop = np.where(tap | (v < 0.04), NO_AUTH, np.where(v < 0.10, SIGNATURE, PIN))
    shop = np.where(channel == ATM, PIN, shop)
    secure = np.where(v < 0.42, FRICTIONLESS, np.where(v < 0.60, CHALLENGE, NO_AUTH))
    return amount, entry, np.where(online, secure, shop)


def _places(
    config: SimulatorConfig,
    population: Population,
    who: Ints,
    online: Bools,
    travels: Ints,
    day: int,
    number: int,
    rng: np.random.Generator,
) -> tuple[Ints, Ints, Ints]:
    people = population.customers
    count = len(who)
    u, v = rng.random(count), rng.random(count)
    slot = (u < 0.25).astype(np.int64)
    device = own_device(population, who, slot, day)
    system = people.systems[who, slot]
    serial = (number * 10_000_000 + np.arange(count)) % (1 << 39)
    guest = u > 0.955
    device = np.where(guest, GUEST_DEVICE + serial, device)
    system = np.where(guest, rng.choice(5, count, p=[0.42, 0.3, 0.2, 0.07, 0.01]), system)
    country = np.where(travels >= 0, travels, people.country[who])
    at_home = (v < 0.58) & (travels < 0)
    mobile = carrier_address(country, config.customers, rng.random(count), day)
    address = np.where(at_home, home_address(population, who, day), mobile)
    address = np.where(v > 0.92, OTHER_ADDRESS + serial, address)
    return (
        np.where(online, device, NOBODY),
        np.where(online, address, NOBODY),
        np.where(online, system, NO_SYSTEM),
    )


def _mistaken_claims(
    config: SimulatorConfig, time_us: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    mistaken = rng.random(len(time_us)) < config.false_claim_rate
    claimed = time_us + lognormal_delay_us(rng, len(time_us), 12.0)
    corrected = claimed + lognormal_delay_us(rng, len(time_us), 18.0)
    return np.where(mistaken, claimed, 0), np.where(mistaken, corrected, 0)
