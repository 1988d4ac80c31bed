"""A simulated world that answers: what happens next depends on what was decided.

The world is asked for the next event; where that is a payment, it is told what was decided before
it is asked again. If every payment is approved, its payments and labels are those of the history
(`sentinel.sources.simulator.source`). Otherwise:

- A declined fraud brings no chargeback. It is tried again, at another merchant or for less, or its
  card is stopped: then the fraudster's further payments with it do not come.
- A payment held for review waits for an analyst, who takes hours and errs now and then. What the
  analyst lets pass is made and can be charged back; what is called fraud is not made, and its card
  is stopped.
- A customer whose legitimate payment was declined tries again, leaves for good, or lets it be; some
  complain, which is a label.

Everything random in an answer is drawn from the seed and the number of the planned payment, so that
the same decisions give the same world, and another decision changes nothing but what follows it.
"""

from __future__ import annotations

import heapq
from typing import Final

import numpy as np

from sentinel.domain import Label, Outcome, Transaction, Verdict
from sentinel.sources.base import DAY_US
from sentinel.sources.simulator.arrow import transaction_ids
from sentinel.sources.simulator.behaviour import Behaviour, Chance
from sentinel.sources.simulator.catalogue import (
    CHALLENGE,
    LEGITIMATE,
    ONLINE,
    POS,
    SCENARIOS,
)
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.events import Events
from sentinel.sources.simulator.fraudsters import HOUR_US, Fraudsters
from sentinel.sources.simulator.live import LiveEvent, live_labels, live_payments
from sentinel.sources.simulator.memory import COLUMNS, Attempt, Coming, Memory
from sentinel.sources.simulator.world import CAMPAIGN_DAYS, LABEL_DAYS, World

STOPPED_DAYS: Final = CAMPAIGN_DAYS + 20
"""A stopped card is of no use to fraudsters for so long; no campaign lasts longer."""

_CLAIM_AFTER_US: Final = 2 * HOUR_US  # a victim notices no sooner


class AnsweringWorld:
    """The people of a config from a moment on, who react to what is decided on their payments.

    Args:
        config: The world; its history up to ``from_us`` was approved, but for what the memory says.
        behaviour: How everybody reacts.
        from_us: The first moment, microseconds UTC; default: the start of the history.
        memory: What earlier decisions had changed when a world before this one ended there.

    >>> world = AnsweringWorld(SimulatorConfig(customers=50, days=3))
    >>> payment = world.next()
    >>> world.answer(Outcome.DECLINE)
    >>> world.next().due_us >= payment.due_us
    True
    """

    def __init__(
        self,
        config: SimulatorConfig,
        behaviour: Behaviour | None = None,
        *,
        from_us: int | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.config = config
        self.behaviour = behaviour or Behaviour()
        self._world = World(config)
        self._fraudsters = Fraudsters(config, self._world.population)
        self._from_us = config.start_us if from_us is None else from_us
        memory = memory or Memory()
        self._withheld = dict(memory.withheld)
        self._stopped: dict[int, list[int]] = {}
        for card, since in memory.stopped:
            self._stopped.setdefault(card, []).append(since)
        self._left = dict(memory.left)
        # Due, a key that breaks ties, and what comes. Labels of planned payments that were approved
        # are events already: a world that goes on later finds them anew.
        self._heap: list[tuple[int, str, LiveEvent | Coming]] = []
        self._taken: LiveEvent | Coming | None = None
        for item in memory.coming:
            self._push(item, item.key)
        self._day = (self._from_us - config.start_us) // DAY_US
        for day in range(max(0, self._day - LABEL_DAYS), self._day + 1):
            self._promise_labels(day)
        self._begin_day()
        self._undecided: Attempt | None = None

    @property
    def memory(self) -> Memory:
        """What decisions have changed so far.

        The last event is among what still comes, unless it was answered.
        """
        return Memory(
            withheld=dict(self._withheld),
            stopped=[(card, since) for card, many in self._stopped.items() for since in many],
            left=dict(self._left),
            coming=[
                item
                for item in (*(item for _, _, item in self._heap), self._taken)
                if isinstance(item, Coming)
            ],
        )

    def next(self) -> LiveEvent:
        """The next event: a payment, which has to be answered, or a label. There is no end.

        Raises:
            RuntimeError: The payment before was not answered.
        """
        if self._undecided is not None:
            raise RuntimeError(
                f"Payment {self._undecided.transaction_id} was not answered; call answer() first."
            )
        self._taken = None
        while True:
            planned = self._planned()
            if self._heap and self._heap[0][0] < planned.due_us:
                event = self._take_coming()
                if event is not None:
                    return event
                continue
            row = self._row
            self._row += 1
            if not self._is_quiet(self._cards[row], self._customers[row], planned):
                self._undecided = self._planned_attempt(row)
                return planned

    def answer(self, outcome: Outcome | None) -> None:
        """Say what was decided on the last payment.

        Args:
            outcome: None if nobody decided: the payment is not made, and nothing follows.

        Raises:
            RuntimeError: The last event was no payment, or was answered before.
        """
        payment = self._undecided
        if payment is None:
            raise RuntimeError("There is no payment to answer; call next() first.")
        self._undecided = self._taken = None
        if outcome is Outcome.APPROVE:
            if payment.get("claimed_us"):
                self._promise(payment, as_planned=not payment.tries)
            return
        if not payment.tries:
            if payment.planned in self._withheld:
                return  # what follows it is in the memory that this world began with
            self._withheld[payment.planned] = payment.get("time_us")
        if outcome is None:
            return
        chance = Chance.of(self.config.seed, payment.planned, payment.tries)
        if outcome is Outcome.REVIEW:
            self._review(payment, chance)
        elif payment.get("scenario") == LEGITIMATE:
            self._turn_away(payment, chance, payment.get("time_us"))
            if chance.retry < self.behaviour.customers_retry and not payment.tries:
                self._try_again(self._customers_next(payment, chance))
        else:
            self._defeat(payment, chance)

    def recovered_minor(self, payment: LiveEvent) -> int:
        """What of a payment's amount comes back if it is fraud, is approved, and is reported."""
        entry = payment.entry
        if not payment.is_fraud or not isinstance(entry, Transaction):
            return 0
        planned, _, tries = entry.transaction_id.partition("r")
        chance = Chance.of(self.config.seed, int(planned), int(tries or 0))
        share = min(1.0, 2 * self.behaviour.recovered * chance.recovered)
        return round(share * max(entry.amount_minor, 0))

    # What was planned

    def _begin_day(self) -> None:
        events, ids = self._events_of(self._day)
        live = events.time_us >= self._from_us
        self._events, self._ids = events.take(live), ids[live]
        self._cards = self._events.card.tolist()
        self._customers = self._events.customer.tolist()
        population = self._world.population
        self._payments = list(live_payments(self._events, self._ids, self.config, population))
        self._row = 0

    def _planned(self) -> LiveEvent:
        """The planned payment that is next, of a later day if this one is over."""
        while self._row >= len(self._payments):
            self._day += 1
            self._begin_day()
            self._forget()
        return self._payments[self._row]

    def _planned_attempt(self, row: int) -> Attempt:
        columns = tuple(int(getattr(self._events, name)[row]) for name in COLUMNS)
        return Attempt(int(self._ids[row]), 0, columns)

    def _promise_labels(self, day: int) -> None:
        """Expect the labels of planned payments before the first moment that come after it."""
        events, ids = self._events_of(day)
        late = (events.claimed_us >= self._from_us) | (events.corrected_us >= self._from_us)
        rows = [
            row
            for row in np.flatnonzero((events.time_us < self._from_us) & late).tolist()
            if int(ids[row]) not in self._withheld and not self._was_quiet(events, row)
        ]
        for label in live_labels(events.take(np.array(rows, np.int64)), ids[rows]):
            if label.due_us >= self._from_us:
                self._push(label, _label_of(label).label_id)

    def _events_of(self, day: int) -> tuple[Events, np.ndarray[tuple[int], np.dtype[np.int64]]]:
        events = self._world.day(day)
        return events, transaction_ids(self.config.first_day + day, len(events))

    def _was_quiet(self, events: Events, row: int) -> bool:
        return self._quiet(
            int(events.card[row]),
            int(events.customer[row]),
            int(events.time_us[row]),
            fraud=int(events.scenario[row]) != LEGITIMATE,
        )

    def _is_quiet(self, card: int, customer: int, payment: LiveEvent) -> bool:
        return self._quiet(card, customer, payment.due_us, fraud=payment.is_fraud)

    def _quiet(self, card: int, customer: int, time_us: int, *, fraud: bool) -> bool:
        """Whether a payment does not come: its card is stopped, or its customer has left."""
        if self._left.get(customer, time_us + 1) <= time_us:
            return True
        return fraud and any(
            since <= time_us < since + STOPPED_DAYS * DAY_US
            for since in self._stopped.get(card, ())
        )

    def _forget(self) -> None:
        """Once a day: let go of what can change nothing any more."""
        today = self.config.start_us + self._day * DAY_US
        oldest = today - LABEL_DAYS * DAY_US
        self._withheld = {key: at for key, at in self._withheld.items() if at >= oldest}
        oldest -= STOPPED_DAYS * DAY_US
        for card, many in list(self._stopped.items()):
            kept = [since for since in many if since >= oldest]
            if kept:
                self._stopped[card] = kept
            else:
                del self._stopped[card]

    # What follows

    def _push(self, item: LiveEvent | Coming, key: str) -> None:
        heapq.heappush(self._heap, (item.due_us, key, item))

    def _take_coming(self) -> LiveEvent | None:
        """The next of what was set going; None if it is a try that does not come any more."""
        _, _, item = heapq.heappop(self._heap)
        self._taken = item
        if isinstance(item, LiveEvent):
            return item
        if item.label is not None:
            return LiveEvent(due_us=item.due_us, entry=item.label, scenario=item.scenario)
        attempt = item.attempt
        assert attempt is not None  # it is one of the two
        fraud = attempt.get("scenario") != LEGITIMATE
        if self._quiet(attempt.get("card"), attempt.get("customer"), item.due_us, fraud=fraud):
            self._taken = None
            return None
        self._undecided = attempt
        ids = np.array([attempt.transaction_id])
        population = self._world.population
        return next(live_payments(attempt.events, ids, self.config, population))

    def _promise(self, payment: Attempt, *, as_planned: bool) -> None:
        """Expect the claim on a payment that is made, and its correction."""
        for event in live_labels(payment.events, np.array([payment.transaction_id])):
            label = _label_of(event)
            if as_planned:
                self._push(event, label.label_id)
            else:
                coming = Coming(event.due_us, event.scenario, label=label)
                self._push(coming, coming.key)

    def _say(self, payment: Attempt, due_us: int, verdict: Verdict, origin: str) -> None:
        label = Label(
            label_id=f"{payment.transaction_id}-{origin}",
            transaction_id=payment.transaction_id,
            verdict=verdict,
            received_at_us=due_us,
            origin=origin,
        )
        self._push(Coming(due_us, SCENARIOS[payment.get("scenario")], label=label), label.label_id)

    def _review(self, payment: Attempt, chance: Chance) -> None:
        """An analyst looks at a payment, which is made or not made then."""
        behaviour = self.behaviour
        at = payment.get("time_us") + chance.review_us(behaviour)
        is_fraud = payment.get("scenario") != LEGITIMATE
        called_fraud = False
        if chance.verdict < behaviour.verdict_share:
            errs = behaviour.analysts_miss if is_fraud else behaviour.analysts_accuse
            called_fraud = is_fraud != (chance.mistake < errs)
            verdict = Verdict.FRAUD if called_fraud else Verdict.LEGITIMATE
            self._say(payment, at, verdict, "analyst")
        if called_fraud and is_fraud:
            self._stop_card(payment, at)
        elif called_fraud:
            self._turn_away(payment, chance, at)
        elif payment.get("claimed_us"):
            claimed = max(payment.get("claimed_us"), at + _CLAIM_AFTER_US)
            corrected = payment.get("corrected_us")
            if corrected:
                corrected = max(corrected, claimed + _CLAIM_AFTER_US)
            self._promise(
                payment.with_(claimed_us=claimed, corrected_us=corrected), as_planned=False
            )

    def _turn_away(self, payment: Attempt, chance: Chance, at: int) -> None:
        """A customer whose payment was not made may complain, and may leave."""
        if chance.complain < self.behaviour.customers_complain:
            self._say(payment, at + chance.complaint_us(), Verdict.LEGITIMATE, "complaint")
        if chance.leave < self.behaviour.customers_leave:
            self._left.setdefault(payment.get("customer"), at)

    def _defeat(self, payment: Attempt, chance: Chance) -> None:
        """A fraudster whose payment was declined tries again, or loses the card."""
        behaviour = self.behaviour
        if chance.stop < behaviour.decline_stops:
            self._stop_card(payment, payment.get("time_us"))
        elif chance.retry < behaviour.fraudsters_retry and payment.tries + 1 < behaviour.most_tries:
            self._try_again(self._fraudsters_next(payment, chance))

    def _stop_card(self, payment: Attempt, at: int) -> None:
        self._stopped.setdefault(payment.get("card"), []).append(at)

    def _try_again(self, attempt: Attempt) -> None:
        again = Attempt(attempt.planned, attempt.tries + 1, attempt.columns)
        coming = Coming(again.get("time_us"), SCENARIOS[again.get("scenario")], attempt=again)
        self._push(coming, coming.key)

    def _customers_next(self, payment: Attempt, chance: Chance) -> Attempt:
        """The same purchase minutes later, perhaps with the other card or a stronger proof."""
        customer, card = payment.get("customer"), payment.get("card")
        if self._world.population.customers.cards[customer] == 2 and chance.other_card < 0.4:
            card = 2 * customer + 1 - card % 2
        changes = {"card": card, "time_us": payment.get("time_us") + chance.retry_us(fraud=False)}
        if payment.get("channel") == ONLINE and chance.challenge < 0.5:
            changes["authentication"] = CHALLENGE
        return payment.with_(**changes)

    def _fraudsters_next(self, payment: Attempt, chance: Chance) -> Attempt:
        """Elsewhere for as much, or at the same merchant for less."""
        time_us = payment.get("time_us") + chance.retry_us(fraud=True)
        changes = {"time_us": time_us}
        kinds = {ONLINE: "online", POS: "street"}
        kind = kinds.get(payment.get("channel"))
        if kind is not None and chance.elsewhere < 0.5:
            changes["merchant"] = self._fraudsters.shop(kind, chance.merchant)
        else:
            amount = payment.get("amount_minor")
            changes["amount_minor"] = max(round(amount * (0.2 + 0.5 * chance.size)), min(amount, 1))
        if payment.get("claimed_us"):
            changes["claimed_us"] = max(payment.get("claimed_us"), time_us + _CLAIM_AFTER_US)
        return payment.with_(**changes)


def _label_of(event: LiveEvent) -> Label:
    assert isinstance(event.entry, Label)
    return event.entry
