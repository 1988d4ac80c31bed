"""The simulated world, day by day: each day is computed by itself, from the seed and its number."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np

from sentinel.sources.base import DAY_US
from sentinel.sources.simulator.catalogue import (
    CARD_TESTING,
    COMPROMISED,
    RING,
    STOLEN_CARD,
    TAKEOVER,
)
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.events import Events, concat, empty_events
from sentinel.sources.simulator.fraudsters import Campaign, Fraudsters
from sentinel.sources.simulator.habits import honest_day, season
from sentinel.sources.simulator.population import populate
from sentinel.sources.simulator.scenarios import SCENARIO_OF

CAMPAIGN_DAYS: Final = 40
"""No campaign is longer, from its first day to its last payment."""

LABEL_DAYS: Final = 150
"""No label arrives later after its payment."""

_HONEST, _CRIME = 2, 3  # streams of random numbers
_DAY_ORIGIN: Final = 1_000  # campaigns begin before the history does

# Share of frauds by scenario, how far it swings over the years, and its frauds per campaign.
_MIX: Final = {
    CARD_TESTING: (0.27, 0.5, 22.5),
    STOLEN_CARD: (0.22, 0.3, 5.0),
    COMPROMISED: (0.20, 0.4, 17.0),
    TAKEOVER: (0.17, 0.4, 4.5),
    RING: (0.14, 0.6, 22.5),
}


class World:
    """Population, habits and campaigns of a config.

    Days before the history are quiet, days after it go on for ever.

    Args:
        config: What to simulate.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        self.population = populate(config)
        self._fraudsters = Fraudsters(config, self.population)
        self._campaigns: OrderedDict[int, Events] = OrderedDict()

    def day(self, day: int) -> Events:
        """All payments of a day in order of time.

        Args:
            day: Days since the start of the history.
        """
        rng = np.random.default_rng([self.config.seed, _HONEST, day + _DAY_ORIGIN])
        parts = [honest_day(self.config, self.population, day, rng)]
        low = (self.config.first_day + day) * DAY_US
        for start in range(day - CAMPAIGN_DAYS, day + 1):
            campaign = self._campaigns_of(start)
            if len(campaign):
                today = (campaign.time_us >= low) & (campaign.time_us < low + DAY_US)
                if today.any():
                    parts.append(campaign.take(today))
        events = concat(parts)
        return events.take(np.lexsort((events.amount_minor, events.card, events.time_us)))

    def _campaigns_of(self, day: int) -> Events:
        """Payments of all campaigns that begin on a day."""
        known = self._campaigns.get(day)
        if known is None:
            known = self._begin_campaigns(day)
            self._campaigns[day] = known
            while len(self._campaigns) > 2 * CAMPAIGN_DAYS:
                self._campaigns.popitem(last=False)
        return known

    def _begin_campaigns(self, day: int) -> Events:
        config = self.config
        rng = np.random.default_rng([config.seed, _CRIME, day + _DAY_ORIGIN])
        number = config.calendar_day + day
        frauds = config.customers * config.daily_rate * season(number) * config.fraud_rate
        parts = []
        serial = (day + _DAY_ORIGIN) * 65_536 % (1 << 30)
        for scenario, (share, swing, size) in _MIX.items():
            wave = np.exp(swing * np.sin(2 * np.pi * number / (330 + 60 * scenario) + 2 * scenario))
            for _ in range(rng.poisson(frauds * share * wave / size)):
                serial += 1
                parts.append(SCENARIO_OF[scenario](Campaign(self._fraudsters, day, serial, rng)))
        return concat(parts) if parts else empty_events()
