"""One deployment's life in a world that answers, for the benchmark `loop`.

Payments come one by one in the order in which they happen. Each is folded into the state, scored
and ruled on by the project's own `Scorer`, and the world hears the outcome before it goes on.
Labels take effect in the state as they arrive. Once a night the deployment learns.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from benchmarks.loop_book import Book
from sentinel.domain import Label, Outcome, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.features.plan.program import Program
from sentinel.ledger.base import Appended
from sentinel.log.entries import OUTCOMES, outcome_codes
from sentinel.models.decided import DECLINE, SENTINEL, UNSAID
from sentinel.policy.exploration import ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring.panel import Panel
from sentinel.scoring.scorer import Scored, Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.sources.simulator import AnsweringWorld, LiveEvent
from sentinel.state.embedded import EmbeddedState
from sentinel.state.snapshot_file import FrozenState

KEY: Final = ExplorationKey(b"the control group of a benchmark")


@dataclass(frozen=True, eq=False)
class InCharge:
    """What decides for a day.

    Attributes:
        model: Scores.
        policy: Rules.
        notes: For people: why it is what it is.
    """

    model: ServingModel
    policy: Policy
    notes: str = ""


@dataclass
class Life:
    """A deployment: its state, its log, and who decides.

    Attributes:
        program: Its plan.
        book: Its log.
        state: Its records.
        in_charge: Who decides; None while everything is approved.
        waiting: An event of the world that was heard of and not lived through yet.
        today: Its day, counted from 1970; -1 before the first.

    A life can be pickled, so that a run can be cut and go on.
    """

    program: Program
    book: Book
    state: EmbeddedState
    in_charge: InCharge | None = None
    waiting: LiveEvent | None = None
    today: int = -1
    _scorer: Scorer | None = field(default=None, repr=False)
    _entries: int = 0

    @classmethod
    def begin(cls, program: Program) -> Life:
        """A deployment without history."""
        state = EmbeddedState.empty(program)
        state.warm()
        return cls(program, Book(program.plan), state)

    def fork(self) -> Life:
        """Another deployment with the same history, which begins its own days."""
        other = Life(self.program, self.book.copy(), self._same_state(self.state.freeze()))
        other._entries = self._entries
        if self.in_charge is not None:
            other.put_in_charge(self.in_charge)
        return other

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"state": self.state.freeze(), "_scorer": None}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__.update(kept)
        self.state = self._same_state(kept["state"])
        if self.in_charge is not None:
            self.put_in_charge(self.in_charge)

    def _same_state(self, frozen: FrozenState) -> EmbeddedState:
        return EmbeddedState.of(self.program, frozen)

    def put_in_charge(self, who: InCharge) -> None:
        """Let a model and a policy decide from now on."""
        self.in_charge = who
        self._scorer = Scorer(self.state, Panel(who.model), who.policy, KEY)

    def pay(self, event: LiveEvent, world: AnsweringWorld) -> None:
        """Decide on a payment, and let the world hear it."""
        payment = event.entry
        assert isinstance(payment, Transaction)
        recovered = world.recovered_minor(event) if event.is_fraud else 0
        if self._scorer is None:
            reading = self.state.add([payment])
            self.book.add(
                event, reading.vectors[0], propensity=1, source=UNSAID, recovered_minor=recovered
            )
            world.answer(Outcome.APPROVE)
            return
        scored = self._scorer.decide([payment])
        outcome = int(outcome_codes(scored.flags)[0])
        base, eligible, propensity = _control(scored, outcome)
        self.book.add(
            event,
            scored.vectors[0],
            outcome=outcome,
            base_outcome=base,
            eligible=eligible,
            propensity=propensity,
            source=SENTINEL,
            score=float(scored.scores[0]),
            probability=float(scored.probabilities[0]),
            recovered_minor=recovered,
            stopped=outcome == DECLINE,
        )
        world.answer(OUTCOMES[outcome])

    def promise_all(self, truth: TruthFeed, now_us: int) -> None:
        """Let the truth of the whole history arrive: at once where its delay is over.

        Args:
            truth: Where it comes from.
            now_us: The moment from which on it does.
        """
        is_fraud = self.book.column("is_fraud")
        for identifier, row in self.book.rows.items():
            if is_fraud[row]:
                truth.promise(self.book.transactions[identifier], is_fraud=True)
        for label in truth.due(now_us):
            self.hear(label)

    def hear(self, label: Label) -> None:
        """Take a label in."""
        self.book.tell(label)
        self._entries += 1
        appended = Appended(self._entries, label.received_at_us)
        self.state.apply_labels([label], appended, self.book.transactions)


def _control(scored: Scored, outcome: int) -> tuple[int, bool, float]:
    """Base outcome, eligibility and propensity of a single payment."""
    control = scored.control
    if control is None:
        return outcome, False, 1.0
    return (
        int(control.base_outcomes[0]),
        bool(control.eligible[0]),
        float(control.propensities[0]),
    )


class TruthFeed:
    """The truth of every payment as a label, days after it, whatever was decided.

    Args:
        seed: Of the delays.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 77])
        self._due: list[tuple[int, str, Label]] = []

    def promise(self, payment: Transaction, *, is_fraud: bool) -> None:
        """Expect the truth of a payment; that of good ones is their silence."""
        if is_fraud:
            days = min(float(np.exp(self._rng.normal(np.log(7.0), 0.75))), 29.0)
            at = payment.event_time_us + int(days * DAY_US)
            label = Label(
                label_id=f"{payment.transaction_id}-truth",
                transaction_id=payment.transaction_id,
                verdict=Verdict.FRAUD,
                received_at_us=at,
            )
            heapq.heappush(self._due, (at, label.label_id, label))

    def due(self, until_us: int) -> Iterator[Label]:
        """What arrives before a moment, in order."""
        while self._due and self._due[0][0] < until_us:
            yield heapq.heappop(self._due)[2]


def live(
    life: Life,
    world: AnsweringWorld,
    until_us: int,
    *,
    night: Callable[[int], None] | None = None,
    truth: TruthFeed | None = None,
) -> None:
    """Let a deployment and its world go on until a moment; from there they can go on again.

    Args:
        life: The deployment.
        world: Its world.
        until_us: The end, microseconds UTC.
        night: Called at each midnight UTC before anything of the new day, with its moment.
        truth: Labels come from here instead of from the world; None if the world's own count.
    """
    while True:
        event = life.waiting or world.next()
        life.waiting = None
        if event.due_us >= until_us:
            life.waiting = event
            return
        if truth is not None:
            for label in truth.due(event.due_us):
                life.hear(label)
        if event.due_us // DAY_US != life.today:
            first, life.today = life.today < 0, event.due_us // DAY_US
            if night is not None and not first:
                night(life.today * DAY_US)
        if isinstance(event.entry, Label):
            if event.entry.origin == "analyst" and event.entry.verdict == Verdict.FRAUD:
                life.book.stop(event.entry.transaction_id)
            if truth is None:
                life.hear(event.entry)
            continue
        life.pay(event, world)
        if truth is not None:
            truth.promise(event.entry, is_fraud=event.is_fraud)
