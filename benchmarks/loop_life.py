"""One deployment's life in a world that answers, for the benchmark `loop`.

Payments come one by one in the order in which they happen. Each is folded into the state, scored
and ruled on by the project's own `Scorer`, and the world hears the outcome before it goes on.
Labels take effect in the state as they arrive. Once a night the deployment learns.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, Outcome, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.features.plan.program import Program
from sentinel.ledger.base import Appended
from sentinel.log.entries import OUTCOMES, outcome_codes
from sentinel.models.dataset import LabelLog, PaymentLog
from sentinel.models.decided import DECLINE, SENTINEL, UNSAID, Decided
from sentinel.policy.exploration import ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.scoring.panel import Panel
from sentinel.scoring.scorer import Scored, Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.sources.simulator import AnsweringWorld, LiveEvent
from sentinel.state.embedded import EmbeddedState

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

KEY: Final = ExplorationKey(b"the control group of a benchmark")

_COLUMNS: Final = {
    "event_time_us": np.int64,
    "amount_minor": np.int64,
    "card": np.int64,
    "outcome": np.int8,
    "base_outcome": np.int8,
    "eligible": np.bool_,
    "propensity": np.float32,
    "source": np.int8,
    "score": np.float64,
    "probability": np.float64,
    "is_fraud": np.bool_,
    "recovered_minor": np.int64,
    "stopped": np.bool_,
}


@dataclass(frozen=True, eq=False)
class Served:
    """What a deployment knows of its log: `sentinel.pipeline.labelled_payments.KnownPayments`.

    Attributes:
        plan: Of the vectors.
        payments, labels: The log.
        end_us: The moment after its last entry.
        served: float32 (n_rows, n_features), the vectors that were decided on.
    """

    plan: Plan
    payments: PaymentLog
    labels: LabelLog
    end_us: int
    served: Vectors

    def vectors(self, rows: Ints) -> Vectors:
        """The vectors of some rows."""
        return self.served[rows]


class Book:
    """The log of a deployment as columns that grow, with the truth beside it.

    Args:
        plan: Of the vectors.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows: dict[str, int] = {}
        self.transactions: dict[str, Transaction] = {}
        self.labels: list[tuple[int, bool, int]] = []
        self._cards: dict[str | None, int] = {}
        self._n = 0
        self._vectors = np.empty((1 << 14, len(plan.feature_names)), np.float32)
        self._columns: dict[str, npt.NDArray[Any]] = {
            name: np.zeros(1 << 14, kind) for name, kind in _COLUMNS.items()
        }

    def __len__(self) -> int:
        return self._n

    @property
    def vectors(self) -> Vectors:
        """float32 (n_rows, n_features), what was decided on."""
        return self._vectors[: self._n]

    def column(self, name: str) -> npt.NDArray[Any]:
        """A column of `_COLUMNS`, (n_rows,)."""
        return self._columns[name][: self._n]

    def copy(self) -> Book:
        """Another book with the same content."""
        other = Book(self.plan)
        other.rows, other.labels = dict(self.rows), list(self.labels)
        other.transactions, other._cards = dict(self.transactions), dict(self._cards)
        other._n, other._vectors = self._n, self._vectors.copy()
        other._columns = {name: values.copy() for name, values in self._columns.items()}
        return other

    def add(self, event: LiveEvent, vector: Vectors, **known: float) -> None:
        """Note a payment.

        Args:
            event: The payment.
            vector: float32 (n_features,).
            known: Values of the other columns; 0 where nothing is said.
        """
        payment = event.entry
        assert isinstance(payment, Transaction)
        if self._n == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
            self._columns = {
                name: np.concatenate([values, np.zeros_like(values)])
                for name, values in self._columns.items()
            }
        row = self._n
        self._n += 1
        self._vectors[row] = vector
        self.rows[payment.transaction_id] = row
        self.transactions[payment.transaction_id] = payment
        columns = self._columns
        columns["event_time_us"][row] = payment.event_time_us
        columns["amount_minor"][row] = payment.amount_minor
        columns["card"][row] = self._cards.setdefault(payment.card_id, len(self._cards))
        columns["is_fraud"][row] = event.is_fraud
        for name, value in known.items():
            columns[name][row] = value

    def tell(self, label: Label) -> None:
        """Note a label."""
        row = self.rows.get(label.transaction_id, -1)
        self.labels.append((row, label.verdict == Verdict.FRAUD, label.received_at_us))

    def stop(self, transaction_id: str) -> None:
        """Note that an analyst stopped a reviewed payment."""
        self._columns["stopped"][self.rows[transaction_id]] = True

    def served(self, end_us: int) -> Served:
        """The log up to now."""
        rows, fraud, at = zip(*self.labels, strict=True) if self.labels else ((), (), ())
        times = self.column("event_time_us").astype(np.int64)
        payments = PaymentLog(
            event_time_us=times,
            received_at_us=times,
            amount_minor=self.column("amount_minor").astype(np.int64),
            card=self.column("card").astype(np.int64),
            decided=Decided(
                outcome=self.column("outcome").astype(np.int8),
                base_outcome=self.column("base_outcome").astype(np.int8),
                eligible=self.column("eligible").astype(np.bool_),
                propensity=self.column("propensity").astype(np.float32),
                source=self.column("source").astype(np.int8),
            ),
        )
        labels = LabelLog(
            row=np.array(rows, np.int64),
            fraud=np.array(fraud, np.bool_),
            received_at_us=np.array(at, np.int64),
        )
        return Served(self.plan, payments, labels, end_us, self._vectors[: self._n])


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
    """

    program: Program
    book: Book
    state: EmbeddedState
    in_charge: InCharge | None = None
    _scorer: Scorer | None = field(default=None, repr=False)
    _entries: int = 0

    @classmethod
    def begin(cls, program: Program) -> Life:
        """A deployment without history."""
        state = EmbeddedState.empty(program)
        state.warm()
        return cls(program, Book(program.plan), state)

    def fork(self) -> Life:
        """Another deployment with the same history."""
        state = EmbeddedState.of(self.program, self.state.freeze())
        return replace(self, book=self.book.copy(), state=state)

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
    """Let a deployment and its world go on until a moment.

    Args:
        life: The deployment.
        world: Its world.
        until_us: The end, microseconds UTC.
        night: Called at each midnight UTC before anything of the new day, with its moment.
        truth: Labels come from here instead of from the world; None if the world's own count.
    """
    today = -1
    while True:
        event = world.next()
        if event.due_us >= until_us:
            return
        if truth is not None:
            for label in truth.due(event.due_us):
                life.hear(label)
        if event.due_us // DAY_US != today:
            first, today = today < 0, event.due_us // DAY_US
            if night is not None and not first:
                night(today * DAY_US)
        if isinstance(event.entry, Label):
            if event.entry.origin == "analyst" and event.entry.verdict == Verdict.FRAUD:
                life.book.stop(event.entry.transaction_id)
            if truth is None:
                life.hear(event.entry)
            continue
        life.pay(event, world)
        if truth is not None:
            truth.promise(event.entry, is_fraud=event.is_fraud)
