"""How many entities a sender may add to feature state, and what happens when it is full.

A record of an entity stays for good, so a flood of made-up ids would fill any memory. Three things
together keep it within its budget, and none of them refuses a payment because of somebody else:

- A batch that would add more entities than its sender may is refused before any of it is recorded.
  What it would add counts as used from then on, until it is decided.
- Once half of the budget is used, payments of a sender that is beyond its quota make no records.
- At the budget no payment makes records.

A payment that makes no records is decided from those that exist, and the log says so: see
`sentinel.domain.PartlyTracked`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Final

from sentinel.domain import Overloaded
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.pending import Pending
from sentinel.scoring.reserved import Reserved
from sentinel.state.base import FeatureState

MINUTES_SAVED: Final = 100
"""What a sender did not use of its quota of so many minutes it may use at once."""

MINUTES_OF_BUDGET: Final = 1_000
"""By default one sender that uses all of its quota fills the budget in so many minutes."""

MOST_SENDERS: Final = 1_024
"""Senders whose use is remembered; the one that was seen longest ago makes room."""

log = logging.getLogger(__name__)


class NewEntities:
    """What senders may add. For the event loop.

    Args:
        per_minute: Entities that a sender may add a minute; 0: what fills the budget in
            `MINUTES_OF_BUDGET` minutes, and any number where the state has no budget.
        metrics: Counters.
        clock: Seconds, rising.
    """

    def __init__(
        self,
        per_minute: int,
        metrics: ScoringMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_minute = per_minute
        self._metrics = metrics
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        self._reserved: Counter[str] = Counter()
        self._full = False

    def per_minute(self, state: FeatureState) -> float:
        """Entities that a sender may add a minute; infinite if there is no bound."""
        if self._per_minute:
            return float(self._per_minute)
        if not state.budget_bytes:
            return float("inf")
        return max(1.0, state.budget_bytes / state.entity_bytes / MINUTES_OF_BUDGET)

    def left(self, sender: str, state: FeatureState) -> float:
        """How many entities a sender may add now beside what its batches that wait will add.

        Infinite if there is no bound.
        """
        return self._left_of(sender, self.per_minute(state)) - self._reserved[sender]

    def check(self, sender: str, entities: int, state: FeatureState) -> None:
        """See whether a batch may add so many entities.

        Raises:
            Overloaded: It may not; it says when to come again, and which setting it is.
        """
        rate = self.per_minute(state)
        left = self.left(sender, state)
        if entities <= left or not entities:
            return
        self._metrics.batches_over_quota += 1
        most = int(rate * MINUTES_SAVED)
        seconds = 60 * (min(entities, most) - left) / rate
        if entities > most:
            advice = f"Send at most {most:,} new entities at once."
        elif (kept := self._reserved[sender]) > 0:
            advice = f"Its batches that wait may add {kept:,}: send it again when they are decided."
            if entities <= left + kept:
                seconds = 1.0
        else:
            advice = "Send it again later, or in smaller batches."
        raise Overloaded(
            f"This batch names {entities:,} entities that no payment named before, and its sender "
            f"may add {max(0, int(left)):,} now and {rate:,.0f} a minute "
            f"(state.new_entities_per_minute). Nothing was recorded. {advice} Single payments are "
            "decided meanwhile.",
            retry_after_seconds=seconds,
        )

    def reserve(self, batch: Reserved) -> None:
        """Let count what a batch that was checked would add."""
        if batch.entities:
            self._reserved[batch.called_by] += batch.entities

    def give_back(self, batch: Reserved, entities: int) -> None:
        """Let so many of what a batch would add count no more: they were charged, or never came."""
        entities = min(entities, batch.entities)
        if not entities:
            return
        batch.entities -= entities
        self._reserved[batch.called_by] -= entities
        if not self._reserved[batch.called_by]:
            del self._reserved[batch.called_by]

    def known_only(self, group: Sequence[Pending], state: FeatureState) -> Collection[int]:
        """Rows of a group that may make no records."""
        budget = state.budget_bytes
        if not budget:
            return ()
        held = state.held_bytes
        if 2 * held < budget:
            return ()
        self._note_full(held >= budget, budget)
        if held >= budget:
            return range(len(group))
        rate = self.per_minute(state)
        over = {sender: self._left_of(sender, rate) <= 0 for sender in {p.called_by for p in group}}
        return {row for row, pending in enumerate(group) if over[pending.called_by]}

    def charge(
        self, group: Sequence[Pending], new_records: Sequence[int], state: FeatureState
    ) -> None:
        """Note what a group added: the row of each record that was made."""
        self._metrics.new_entities += len(new_records)
        rate = self.per_minute(state)
        made = Counter((group[row].called_by, group[row].batch) for row in new_records)
        for (sender, batch), entities in made.items():
            self._left[sender] = self._left_of(sender, rate) - entities, self._clock()
            if batch is not None:
                self.give_back(batch, entities)

    def _left_of(self, sender: str, rate: float) -> float:
        """What a sender may add now; below 0 if it has added more than that."""
        now = self._clock()
        most = rate * MINUTES_SAVED
        known = self._left.pop(sender, None)
        left = most if known is None else min(most, known[0] + rate * (now - known[1]) / 60)
        self._left[sender] = left, now
        if len(self._left) > MOST_SENDERS:
            del self._left[next(iter(self._left))]
        return left

    def _note_full(self, full: bool, budget: int) -> None:
        if full and not self._full:
            log.error(
                "Feature state has reached its budget of %s MB (state.max_mb): payments make no "
                "new records. Give it more memory, or find out who sends so many new ids.",
                f"{budget / 1e6:,.0f}",
            )
        self._full = full
