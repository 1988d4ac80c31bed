"""How the five kinds of fraud happen. Each function is one campaign, from first to last payment.

Every scenario leaves a trace in some window and hides in the single payment: amounts, shops and
hours overlap with those of honest customers.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sentinel.sources.simulator.catalogue import (
    ATM,
    CARD_ON_FILE,
    CARD_TESTING,
    CHALLENGE,
    CHIP,
    COMPROMISED,
    CONTACTLESS,
    COUNTRIES,
    FRICTIONLESS,
    MAGSTRIPE,
    MANUAL,
    NO_AUTH,
    NO_SYSTEM,
    NOBODY,
    ONLINE,
    PIN,
    POS,
    RING,
    SIGNATURE,
    STOLEN_CARD,
    TAKEOVER,
    WALLET,
)
from sentinel.sources.simulator.events import (
    FRAUD_ADDRESS,
    FRAUD_DEVICE,
    Events,
    carrier_address,
    concat,
    own_device,
)
from sentinel.sources.simulator.fraudsters import HOUR_US, Campaign
from sentinel.sources.simulator.population import CASH, Ints


def card_testing(campaign: Campaign) -> Events:
    """A batch of stolen card numbers is tried with small payments; the good ones are emptied."""
    fraudsters, rng = campaign.fraudsters, campaign.rng
    cards = fraudsters.victims(rng, int(rng.integers(4, 15)), campaign.day)
    start, hours = campaign.start_us, rng.uniform(2, 40)
    tests = np.repeat(cards, rng.choice([1, 2, 3], len(cards), p=[0.6, 0.3, 0.1]))
    count = len(tests)
    shops = fraudsters.shops("cheap", rng, int(rng.integers(1, 5)))
    device, address = _gang(campaign, count, machines=3, hidden=0.35)
    small = np.rint(np.exp(rng.uniform(np.log(30), np.log(900), count))).astype(np.int64)
    testing = campaign.events(
        CARD_TESTING,
        14.0,
        time_us=start + (rng.random(count) * hours * HOUR_US).astype(np.int64),
        customer=tests,
        merchant=rng.choice(shops, count),
        device=device,
        address=address,
        system=rng.choice([0, 2, 4], count, p=[0.5, 0.4, 0.1]),
        amount_minor=np.where(rng.random(count) < 0.2, 0, small),
        channel=ONLINE,
        entry=np.where(rng.random(count) < 0.8, MANUAL, CARD_ON_FILE),
        authentication=np.where(rng.random(count) < 0.25, FRICTIONLESS, NO_AUTH),
    )
    good = cards[rng.random(len(cards)) < 0.45]
    spends = np.repeat(good, rng.integers(1, 5, len(good)))
    if not len(spends):
        return testing
    count = len(spends)
    delay = np.exp(rng.uniform(np.log(1), np.log(120), len(fraudsters.population.customers.rate)))
    merchant = fraudsters.shops("online", rng, count)
    device, address = _gang(campaign, count, machines=3, hidden=0.5)
    cash_out = campaign.events(
        CARD_TESTING,
        9.0,
        time_us=start
        + (hours * HOUR_US)
        + ((delay[spends] + rng.exponential(2.5, count)) * HOUR_US).astype(np.int64),
        customer=spends,
        merchant=merchant,
        device=device,
        address=address,
        system=rng.choice([0, 1, 2, 3], count, p=[0.4, 0.2, 0.3, 0.1]),
        amount_minor=campaign.amounts(merchant, 0.45),
        channel=ONLINE,
        entry=np.where(rng.random(count) < 0.7, MANUAL, CARD_ON_FILE),
        authentication=_secured(rng, count, 0.35, 0.04),
    )
    return concat([testing, cash_out])


def stolen_card(campaign: Campaign) -> Events:
    """A lost or stolen card is used in unfamiliar shops until it is blocked."""
    fraudsters, rng = campaign.fraudsters, campaign.rng
    count = int(rng.integers(2, 9))
    victim = np.repeat(fraudsters.victims(rng, 1, campaign.day), count)
    country = fraudsters.population.customers.country[victim]
    merchant = fraudsters.near(country, "street", rng)
    amount = campaign.amounts(merchant, 0.15)
    tap = (amount <= 5_000) & (rng.random(count) < 0.85)
    cash = fraudsters.population.merchants.category[merchant] == CASH
    seen = rng.random(count) < 0.25  # the thief has seen the PIN
    return campaign.events(
        STOLEN_CARD,
        5.0,
        time_us=campaign.start_us
        + np.cumsum(rng.exponential(rng.uniform(0.3, 3.0), count) * HOUR_US).astype(np.int64),
        customer=victim,
        merchant=merchant,
        device=NOBODY,
        address=NOBODY,
        system=NO_SYSTEM,
        amount_minor=amount,
        channel=np.where(cash, ATM, POS),
        entry=np.where(tap, CONTACTLESS, np.where(rng.random(count) < 0.12, MAGSTRIPE, CHIP)),
        authentication=np.where(
            cash | (seen & ~tap), PIN, np.where(tap | (rng.random(count) < 0.4), NO_AUTH, SIGNATURE)
        ),
    )


def compromised_terminal(campaign: Campaign) -> Events:
    """For weeks, copied cards are charged at one merchant, between its honest payments."""
    fraudsters, rng = campaign.fraudsters, campaign.rng
    merchant = fraudsters.shops("terminals", rng, 1)
    country = fraudsters.population.merchants.country[merchant][0]
    found = fraudsters.victims(rng, 300, campaign.day)
    local = found[fraudsters.population.customers.country[found] == country]
    victims = (local if len(local) >= 5 else found)[: int(rng.integers(8, 27))]
    count = len(victims)
    days = rng.uniform(8, 28)
    shop = np.repeat(merchant, count)
    entry = rng.choice([MAGSTRIPE, CHIP, CONTACTLESS], count, p=[0.2, 0.4, 0.4])
    amount = campaign.amounts(shop, 0.60)
    entry = np.where((entry == CONTACTLESS) & (amount > 5_000), CHIP, entry)
    return campaign.events(
        COMPROMISED,
        5.0,
        time_us=campaign.start_us + _in_opening_hours(rng, count, days),
        customer=victims,
        merchant=shop,
        device=NOBODY,
        address=NOBODY,
        system=NO_SYSTEM,
        amount_minor=amount,
        channel=POS,
        entry=entry,
        authentication=np.where(
            entry == CONTACTLESS,
            NO_AUTH,
            rng.choice([PIN, SIGNATURE, NO_AUTH], count, p=[0.55, 0.3, 0.15]),
        ),
    )


def account_takeover(campaign: Campaign) -> Events:
    """Somebody else signs in to a customer's account, from a device it has never seen."""
    fraudsters, rng = campaign.fraudsters, campaign.rng
    count = int(rng.integers(2, 8))
    victim = np.repeat(fraudsters.victims(rng, 1, campaign.day), count)
    people = fraudsters.population.customers
    familiar = people.favourites[victim, rng.integers(0, people.favourites.shape[1], count)]
    usable = (rng.random(count) < 0.3) & (fraudsters.population.merchants.online[familiar] > 0.5)
    merchant = np.where(usable, familiar, fraudsters.shops("online", rng, count))
    local = rng.random() < 0.55
    country = people.country[victim] if local else rng.integers(0, len(COUNTRIES), 1).repeat(count)
    mobile = carrier_address(country, fraudsters.config.customers, rng.random(1), campaign.day)
    address = mobile if rng.random() < 0.5 else campaign.addresses(1).repeat(count)
    amount = campaign.amounts(merchant, 0.50, victim)
    if rng.random() < 0.25:
        amount[0] = 0  # a look whether the card still works
    return campaign.events(
        TAKEOVER,
        6.0,
        time_us=campaign.start_us
        + np.cumsum(rng.exponential(rng.uniform(0.3, 12.0), count) * HOUR_US).astype(np.int64),
        customer=victim,
        merchant=merchant,
        device=campaign.devices(1).repeat(count),
        address=address,
        system=rng.choice(5, p=[0.45, 0.2, 0.27, 0.06, 0.02]),
        amount_minor=amount,
        channel=ONLINE,
        entry=rng.choice([CARD_ON_FILE, WALLET, MANUAL], count, p=[0.55, 0.2, 0.25]),
        authentication=_secured(rng, count, 0.35, 0.12),
    )


def ring(campaign: Campaign) -> Events:
    """A ring buys with many customers' cards from a few devices and addresses, for weeks."""
    fraudsters, rng = campaign.fraudsters, campaign.rng
    members = fraudsters.victims(rng, int(rng.integers(4, 12)), campaign.day)
    customer = np.repeat(members, rng.integers(1, 6, len(members)))
    count = len(customer)
    merchant = fraudsters.shops("online", rng, count)
    device, address = _gang(campaign, count, machines=int(rng.integers(2, 6)), hidden=0.15)
    people = fraudsters.population.customers
    own = own_device(fraudsters.population, customer, np.zeros(count, np.int64), campaign.day)
    borrowed = rng.random(count) < 0.12
    return campaign.events(
        RING,
        16.0,
        time_us=campaign.start_us + _in_opening_hours(rng, count, rng.uniform(6, 34)),
        customer=customer,
        merchant=merchant,
        device=np.where(borrowed, own, device),
        address=address,
        system=np.where(borrowed, people.systems[customer, 0], rng.choice([0, 1, 2], count)),
        amount_minor=campaign.amounts(merchant, 0.20),
        channel=ONLINE,
        entry=rng.choice([CARD_ON_FILE, WALLET, MANUAL], count, p=[0.35, 0.15, 0.5]),
        authentication=_secured(rng, count, 0.42, 0.12),
    )


def _gang(campaign: Campaign, count: int, *, machines: int, hidden: float) -> tuple[Ints, Ints]:
    """A few shared devices and addresses; a share of payments hides behind fresh ones."""
    rng = campaign.rng
    fresh = np.arange(count) % 480 + 32
    device = campaign.devices(32)[rng.integers(0, machines, count)]
    address = campaign.addresses(32)[rng.integers(0, machines + 2, count)]
    device = np.where(
        rng.random(count) < hidden, FRAUD_DEVICE + campaign.serial * 512 + fresh, device
    )
    hide = rng.random(count) < hidden + 0.2
    return device, np.where(hide, FRAUD_ADDRESS + campaign.serial * 512 + fresh, address)


def _secured(rng: np.random.Generator, count: int, easy: float, hard: float) -> Ints:
    u = rng.random(count)
    return np.where(u < easy, FRICTIONLESS, np.where(u < easy + hard, CHALLENGE, NO_AUTH))


def _in_opening_hours(rng: np.random.Generator, count: int, days: float) -> Ints:
    """Moments spread over some days, in daytime more than at night (relative to the start)."""
    day = np.floor(rng.random(count) * days)
    hour = rng.normal(0, 4.0, count) % 24
    return ((day * 24 + hour) * HOUR_US).astype(np.int64)


SCENARIO_OF: Final = {
    CARD_TESTING: card_testing,
    STOLEN_CARD: stolen_card,
    COMPROMISED: compromised_terminal,
    TAKEOVER: account_takeover,
    RING: ring,
}
