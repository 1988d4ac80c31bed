"""The simulated world answers decisions; without any it is the world of the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import pytest

from sentinel.domain import ConfigurationError, Label, Outcome, Transaction, Verdict
from sentinel.ingest.cards import holds_card_number
from sentinel.sources import SimulatorConfig, SimulatorSource
from sentinel.sources.simulator import AnsweringWorld, Behaviour, LiveEvent
from sentinel.sources.simulator.memory import Attempt, Memory

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
SMALL = SimulatorConfig(customers=400, merchants=120, days=90, fraud_rate=0.03, seed=3)
DAYS = 80

Decide = Callable[[LiveEvent], Outcome]


@dataclass
class Lived:
    """What happened in a world until a moment.

    Attributes:
        payments: In order.
        outcomes: What was decided, by id.
        labels: In order of their arrival, by the id of their payment.
    """

    payments: list[LiveEvent] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    labels: dict[str, list[Label]] = field(default_factory=dict)

    def labels_of(self, payment: Transaction) -> list[Label]:
        """Its labels in order of their arrival."""
        return self.labels.get(payment.transaction_id, [])

    def those(self, outcome: Outcome, *, fraud: bool) -> list[Transaction]:
        """Payments with an outcome, fraud or not."""
        return [
            transaction(event)
            for event in self.payments
            if event.is_fraud == fraud
            and self.outcomes[transaction(event).transaction_id] == outcome
        ]


def transaction(event: LiveEvent) -> Transaction:
    assert isinstance(event.entry, Transaction)
    return event.entry


def events_of(world: AnsweringWorld, decide: Decide, until_us: int) -> Iterator[LiveEvent]:
    """What happens until a moment, each payment answered as soon as it came."""
    while (event := world.next()).due_us < until_us:
        if isinstance(event.entry, Transaction):
            world.answer(decide(event))
        yield event


def live(decide: Decide, behaviour: Behaviour | None = None, days: int = DAYS) -> Lived:
    lived = Lived()
    world = AnsweringWorld(SMALL, behaviour)
    for event in events_of(world, decide, SMALL.start_us + days * DAY_US):
        if isinstance(event.entry, Label):
            lived.labels.setdefault(event.entry.transaction_id, []).append(event.entry)
        else:
            lived.payments.append(event)
            lived.outcomes[event.entry.transaction_id] = decide(event)
    return lived


def draw(event: LiveEvent) -> float:
    """A number of the payment's own, uniform in [0, 1)."""
    number = int(transaction(event).transaction_id.partition("r")[0])
    return float(np.random.default_rng(number).random())


def sees_through(event: LiveEvent) -> Outcome:
    """Declines nine frauds in ten and one honest payment in ten."""
    caught = draw(event) < (0.9 if event.is_fraud else 0.1)
    return Outcome.DECLINE if caught else Outcome.APPROVE


def asks_analysts(event: LiveEvent) -> Outcome:
    """Holds nine frauds in ten and one honest payment in ten for review."""
    asked = draw(event) < (0.9 if event.is_fraud else 0.1)
    return Outcome.REVIEW if asked else Outcome.APPROVE


@pytest.fixture(scope="module")
def declining() -> Lived:
    return live(sees_through)


@pytest.fixture(scope="module")
def reviewing() -> Lived:
    return live(asks_analysts)


def test_a_world_that_approves_everything_is_that_of_the_history() -> None:
    until = SMALL.start_us + 60 * DAY_US
    world = AnsweringWorld(SMALL)
    lived = [event.entry for event in events_of(world, lambda _: Outcome.APPROVE, until)]
    rows: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for chunk in SimulatorSource(SMALL).raw_batches(1_000_000):
        (labels if "label_id" in chunk.rows.schema.names else rows).extend(chunk.rows.to_pylist())
    assert [entry.transaction_id for entry in lived if isinstance(entry, Transaction)] == [
        row["transaction_id"] for row in rows if row["event_time_us"] < until
    ]
    told = {entry.label_id: entry for entry in lived if isinstance(entry, Label)}
    assert set(told) == {row["label_id"] for row in labels if row["received_at_us"] < until}
    for row in labels:
        if label := told.get(row["label_id"]):
            assert (label.verdict, label.received_at_us) == (row["verdict"], row["received_at_us"])


def test_a_declined_fraud_brings_no_chargeback(declining: Lived) -> None:
    declined = declining.those(Outcome.DECLINE, fraud=True)
    assert len(declined) > 300
    assert not any(declining.labels_of(payment) for payment in declined)
    approved = declining.those(Outcome.APPROVE, fraud=True)
    claimed = [payment for payment in approved if declining.labels_of(payment)]
    assert len(claimed) > 0.6 * len(approved) > 10


def test_a_declined_fraud_is_tried_again_elsewhere_or_smaller(declining: Lived) -> None:
    by_id = {transaction(event).transaction_id: transaction(event) for event in declining.payments}
    declined = declining.those(Outcome.DECLINE, fraud=True)
    elsewhere = smaller = 0
    for payment in declined:
        planned, _, tries = payment.transaction_id.partition("r")
        again = by_id.get(f"{planned}r{int(tries or 0) + 1}")
        if again is None:
            continue
        assert payment.event_time_us < again.event_time_us < payment.event_time_us + 2 * DAY_US
        assert again.card_id == payment.card_id
        if again.merchant_id != payment.merchant_id:
            elsewhere += 1
            assert again.amount_minor == payment.amount_minor
        else:
            smaller += again.amount_minor < payment.amount_minor
    assert min(elsewhere, smaller) > 0.1 * len(declined)
    assert max(key.partition("r")[2] for key in by_id) == str(Behaviour().most_tries - 1)


def test_a_stopped_account_stays_quiet() -> None:
    stopping = live(
        lambda event: Outcome.DECLINE if event.is_fraud else Outcome.APPROVE,
        Behaviour(decline_stops=1.0),
    )
    frauds = stopping.those(Outcome.DECLINE, fraud=True)
    first: dict[str | None, int] = {}
    for payment in frauds:
        since = payment.event_time_us - first.setdefault(payment.card_id, payment.event_time_us)
        assert since == 0 or since >= 60 * DAY_US
    everything = live(lambda _: Outcome.APPROVE)
    assert len(frauds) < 0.7 * len(everything.those(Outcome.APPROVE, fraud=True))
    # Its owner pays on.
    assert len(stopping.those(Outcome.APPROVE, fraud=False)) == len(
        everything.those(Outcome.APPROVE, fraud=False)
    )


def test_an_honest_customer_who_was_declined_tries_again_or_leaves(declining: Lived) -> None:
    by_id = {transaction(event).transaction_id: transaction(event) for event in declining.payments}
    declined = [
        payment
        for payment in declining.those(Outcome.DECLINE, fraud=False)
        if "r" not in payment.transaction_id
    ]
    again = [by_id.get(f"{payment.transaction_id}r1") for payment in declined]
    share = np.mean([payment is not None for payment in again])
    assert abs(share - Behaviour().customers_retry) < 0.06
    for before, after in zip(declined, again, strict=True):
        if after is not None:
            assert before.event_time_us < after.event_time_us < before.event_time_us + 2 * HOUR_US
            assert (before.customer_id, before.merchant_id, before.amount_minor) == (
                after.customer_id,
                after.merchant_id,
                after.amount_minor,
            )
    patient = live(sees_through, Behaviour(customers_leave=0.0))
    impatient = live(sees_through, Behaviour(customers_leave=0.5))
    assert len(impatient.payments) < 0.8 * len(patient.payments)


def test_some_whose_honest_payment_was_declined_complain(declining: Lived) -> None:
    declined = declining.those(Outcome.DECLINE, fraud=False)
    told = [label for payment in declined for label in declining.labels_of(payment)]
    assert {(label.origin, label.verdict) for label in told} == {("complaint", Verdict.LEGITIMATE)}
    assert abs(len(told) / len(declined) - Behaviour().customers_complain) < 0.05


def test_analysts_err_at_the_stated_rate(reviewing: Lived) -> None:
    wanted = Behaviour()
    for fraud, errs in ((True, wanted.analysts_miss), (False, wanted.analysts_accuse)):
        reviewed = reviewing.those(Outcome.REVIEW, fraud=fraud)
        verdicts = [
            (label.verdict == Verdict.FRAUD) == fraud
            for payment in reviewed
            for label in reviewing.labels_of(payment)
            if label.origin == "analyst"
        ]
        assert abs(len(verdicts) / len(reviewed) - wanted.verdict_share) < 0.03
        assert abs(1 - np.mean(verdicts) - errs) < 0.04, fraud


def test_a_verdict_comes_after_an_analysts_time(reviewing: Lived) -> None:
    hours = [
        (label.received_at_us - payment.event_time_us) / HOUR_US
        for fraud in (True, False)
        for payment in reviewing.those(Outcome.REVIEW, fraud=fraud)
        for label in reviewing.labels_of(payment)
        if label.origin == "analyst"
    ]
    assert abs(np.median(hours) - Behaviour().analyst_hours) < 0.5
    assert min(hours) > 0
    assert max(hours) <= 48


def test_what_an_analyst_missed_is_charged_back_and_what_was_found_is_not(
    reviewing: Lived,
) -> None:
    found = missed = charged = 0
    for payment in reviewing.those(Outcome.REVIEW, fraud=True):
        labels = reviewing.labels_of(payment)
        if not labels or labels[0].origin != "analyst":
            continue
        if labels[0].verdict == Verdict.FRAUD:
            found += 1
            assert len(labels) == 1
        else:
            missed += 1
            charged += [label.origin for label in labels[1:]] == ["chargeback"]
    assert found > 100
    assert 0.5 * missed < charged <= missed


def test_the_same_decisions_give_the_same_world(declining: Lived) -> None:
    again = live(sees_through)
    assert again.payments == declining.payments
    assert again.labels == declining.labels


def test_a_decision_changes_nothing_but_what_follows_it() -> None:
    """All but one payment, and what its own customer or card does, stay as they were."""
    chosen = next(
        transaction(event)
        for event in live(sees_through, days=30).payments
        if event.is_fraud and sees_through(event) == Outcome.APPROVE
    )

    def otherwise(event: LiveEvent) -> Outcome:
        if transaction(event).transaction_id == chosen.transaction_id:
            return Outcome.DECLINE
        return sees_through(event)

    def of_others(lived: Lived) -> list[LiveEvent]:
        return [e for e in lived.payments if transaction(e).card_id != chosen.card_id]

    assert of_others(live(otherwise, days=40)) == of_others(live(sees_through, days=40))


def test_a_world_that_is_interrupted_goes_on_as_if_it_had_not_been() -> None:
    def mixed(event: LiveEvent) -> Outcome:
        number = int(transaction(event).transaction_id.partition("r")[0])
        return asks_analysts(event) if number % 3 == 0 else sees_through(event)

    end, middle = SMALL.start_us + 60 * DAY_US, SMALL.start_us + 31 * DAY_US + 12_345_000
    whole = list(events_of(AnsweringWorld(SMALL), mixed, end))

    first = AnsweringWorld(SMALL)
    parts = list(events_of(first, mixed, middle))
    kept = msgspec.json.decode(msgspec.json.encode(first.memory), type=Memory)
    assert min(len(kept.withheld), len(kept.coming), len(kept.stopped), len(kept.left)) > 0
    second = AnsweringWorld(SMALL, from_us=middle, memory=kept)
    parts += events_of(second, mixed, end)
    assert parts == whole


def test_what_was_answered_before_an_interruption_has_its_consequences_once() -> None:
    first = AnsweringWorld(SMALL)
    for _ in islice(events_of(first, lambda _: Outcome.DECLINE, SMALL.end_us), 200):
        last = _
    second = AnsweringWorld(SMALL, from_us=last.due_us, memory=first.memory)
    assert second.next() == last  # what was sent last may be sent twice
    second.answer(Outcome.DECLINE)

    def keys(world: AnsweringWorld) -> list[tuple[int, str]]:
        return sorted((item.due_us, item.scenario) for item in world.memory.coming)

    assert keys(second) == keys(first)


def test_a_memory_forgets_what_can_change_nothing_any_more() -> None:
    config = SimulatorConfig(customers=20, merchants=60, days=1, fraud_rate=0.1, seed=5)
    world = AnsweringWorld(config, Behaviour(customers_leave=0.0))
    sizes = {}
    declined = 0
    for event in events_of(world, lambda _: Outcome.DECLINE, config.start_us + 430 * DAY_US):
        declined += isinstance(event.entry, Transaction)
        day = (event.due_us - config.start_us) // DAY_US
        if day in (215, 429):
            sizes[day] = len(world.memory.withheld) + len(world.memory.stopped)
    assert sizes[429] < 1.4 * sizes[215] < 0.8 * declined


def test_a_payment_that_nobody_decided_on_is_not_made() -> None:
    world = AnsweringWorld(SMALL)
    ids: list[str] = []
    while len(ids) < 300:
        event = world.next()
        ids.append(transaction(event).transaction_id)
        world.answer(None)
    assert len(set(ids)) == 300
    assert not any("r" in key for key in ids)
    assert world.memory.coming == []


def test_the_world_waits_for_an_answer() -> None:
    world = AnsweringWorld(SMALL)
    world.next()
    with pytest.raises(RuntimeError, match=r"call answer\(\) first"):
        world.next()
    world.answer(Outcome.APPROVE)
    with pytest.raises(RuntimeError, match=r"call next\(\) first"):
        world.answer(Outcome.APPROVE)


def test_part_of_a_fraud_comes_back() -> None:
    lived = live(lambda _: Outcome.APPROVE)
    world = AnsweringWorld(SMALL)
    lost = [event for event in lived.payments if event.is_fraud]
    back = sum(map(world.recovered_minor, lost))
    share = back / sum(transaction(event).amount_minor for event in lost)
    assert abs(share - Behaviour().recovered) < 0.08
    honest = next(event for event in lived.payments if not event.is_fraud)
    assert world.recovered_minor(honest) == 0


def test_no_id_of_a_payment_that_is_tried_again_holds_a_card_number() -> None:
    for number in range(197_440_000_000, 197_440_003_000):
        assert not holds_card_number(Attempt(number, 3, ()).transaction_id)


def test_a_behaviour_out_of_its_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"analysts_miss is 1\.5; it must be 0 to 1"):
        Behaviour(analysts_miss=1.5)
    with pytest.raises(ConfigurationError, match="most_tries is 0; it must be 1 to 20"):
        Behaviour(most_tries=0)
