"""The log as training and the gate look at it: vectors, times, amounts and labels by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import Ints, LabelLog, PaymentLog, codes_of
from sentinel.models.label_delays import maturity_of
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.history import ids_of, read_history
from sentinel.pipeline.served_columns import ServedColumns
from sentinel.pipeline.served_vectors import NO_GROUPS, Overridden, ServedGroups, put_served
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

WAIT_SECONDS: Final = 60.0
"""How long another one's backfill is waited for: jobs of one night look at the log together."""


class KnownPayments(Protocol):
    """The transactions and labels of a log, wherever their vectors are.

    Attributes:
        plan: Of the vectors.
        payments: Row i is the i-th transaction of the log.
        labels: What is known of the rows, and since when.
        end_us: The moment after the last entry.
    """

    @property
    def plan(self) -> Plan: ...

    @property
    def payments(self) -> PaymentLog: ...

    @property
    def labels(self) -> LabelLog: ...

    @property
    def end_us(self) -> int: ...

    def vectors(self, rows: Ints) -> npt.NDArray[np.float32]:
        """The vectors of some rows, int64 (n,) rising: float32 (n, n_features), NaN = unknown."""
        ...


@dataclass(frozen=True, eq=False)
class LabelledPayments:
    """The transactions and labels of the log up to where vectors reach.

    Attributes:
        plan: Of the vectors.
        parts: The vectors.
        payments: Row i is the i-th transaction of the log, whatever the plan.
        labels: What is known of the rows, and since when.
        end_us: The moment after the last entry.
        served: The groups of decisions whose vectors have the plan's features.
    """

    plan: Plan
    parts: FeatureParts
    payments: PaymentLog
    labels: LabelLog
    end_us: int
    served: ServedGroups = NO_GROUPS

    def vectors(self, rows: Ints) -> npt.NDArray[np.float32]:
        """The vectors of some rows.

        Args:
            rows: int64 (n,), rising.

        Returns:
            float32 (n, n_features), C-contiguous, NaN = unknown.
        """
        out = np.empty((len(rows), len(self.plan.feature_names)), dtype=np.float32)
        first = 0
        for part in self.parts.manifest.parts:
            start, stop = np.searchsorted(rows, [first, first + part.rows])
            if start < stop:  # parts are in order of time, and most samples are of a span
                here = rows[start:stop] - first
                table = self.parts.table(part, self.plan.feature_names)
                for column, values in enumerate(table.columns):
                    out[start:stop, column] = values.to_numpy()[here]
            first += part.rows
        return out


def served_over(
    settings: Settings, known: LabelledPayments, rows: Ints
) -> tuple[npt.NDArray[np.float32], Overridden]:
    """The vectors of some rows, those that were served in place of those that are computed.

    Args:
        settings: Where the log is.
        known: The log.
        rows: int64 (n,), rising.

    Returns:
        float32 (n, n_features), C-contiguous, NaN = unknown; and how many were served.
    """
    X = known.vectors(rows)
    if len(known.served.rows) == 0:
        return X, Overridden()
    with ledger_reader(settings) as ledger:
        groups = ledger.groups(int(known.served.first_sequence[0]) - 1)
        return X, put_served(groups, known.served, rows, X, ServedColumns(settings, known.plan))


def labelled_payments(
    settings: Settings,
    *,
    plan: Plan | None = None,
    progress: ProgressCallback = no_progress,
) -> LabelledPayments:
    """Bring the vectors of a plan up to date, and put the labels beside them.

    Args:
        settings: The deployment.
        plan: The plan; default: the one that was applied last.
        progress: Told of the stages "labels" and "backfill".

    Raises:
        DefinitionError, WorkspaceError: See `backfill`.
    """
    plan = Plan.load(settings.plan_path) if plan is None else plan
    parts = backfill(settings, plan=plan, wait_seconds=WAIT_SECONDS, progress=progress).parts
    names = ["transaction_id", "event_time_us", "received_at_us", "amount_minor"]
    names += ["customer_id", "card_id"]
    tables = list(parts.tables(names))
    table = pa.concat_tables(tables) if tables else None
    if table is None or table.num_rows == 0:
        ids = pa.array([], pa.large_string())
        times = received = amounts = cards = np.empty(0, dtype=np.int64)
    else:
        ids = ids_of(table.column("transaction_id"))
        times = table.column("event_time_us").to_numpy()
        received = table.column("received_at_us").to_numpy()
        amounts = table.column("amount_minor").to_numpy()
        cards = codes_of(ids_of(pc.coalesce(table.column("card_id"), table.column("customer_id"))))
    with ledger_reader(settings) as ledger:
        columns = ServedColumns(settings, plan)
        history = read_history(ledger.groups(), ids, parts.manifest.sequence, columns)
    payments = PaymentLog(
        event_time_us=times,
        received_at_us=np.where(history.arrived_at_us > 0, history.arrived_at_us, received),
        amount_minor=amounts,
        card=cards,
        decided=history.decided,
        void=history.void,
    )
    return LabelledPayments(
        plan, parts, payments, history.labels, history.end_us, served=history.served
    )


def maturity_us(settings: Settings) -> int:
    """How long after a payment its silence starts to count, microseconds, as it is set."""
    return round(settings.labels.maturity_days * DAY_US)


def maturity_is_default(settings: Settings) -> bool:
    """Whether nobody has set the maturity, so that it may follow the labels."""
    return "maturity_days" not in settings.labels.model_fields_set


def shown_maturity_us(settings: Settings, known: KnownPayments, now_us: int) -> int:
    """How long after a payment its silence starts to count: as set, else as labels show."""
    given = maturity_us(settings)
    if not maturity_is_default(settings):
        return given
    return maturity_of(known.payments, known.labels, now_us=now_us, maturity_us=given)[0]
