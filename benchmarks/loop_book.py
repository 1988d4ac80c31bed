"""A deployment's log in the benchmark `loop`: columns that grow, with the truth beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.plan.plan import Plan
from sentinel.models.dataset import LabelLog, PaymentLog
from sentinel.models.decided import Decided
from sentinel.sources.simulator import LiveEvent

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

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
