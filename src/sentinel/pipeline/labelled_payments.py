"""The log as training and the gate look at it: vectors, times, amounts and labels by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Outcome, Verdict
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.ledger.log import read_log
from sentinel.log.schema import ATTRIBUTE_PREFIX, KIND_LABEL, KIND_TRANSACTION
from sentinel.models.dataset import Ints, LabelLog, PaymentLog, codes_of, rows_of
from sentinel.models.splitting import maturity_of
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

OUTCOME_BEFORE: Final = "outcome_before"
"""The attribute that says what the system before decided; see `docs/sources.md`."""

_NO_IDS: Final = pa.array([], pa.large_string())
_WITHHELD: Final = (Outcome.DECLINE.value, Outcome.REVIEW.value)


@dataclass(frozen=True, eq=False)
class LabelledPayments:
    """The transactions and labels of the log up to where vectors reach.

    Attributes:
        plan: Of the vectors.
        parts: The vectors.
        payments: Row i is the i-th transaction of the log, whatever the plan.
        labels: What is known of the rows, and since when.
        end_us: The moment after the last entry.
    """

    plan: Plan
    parts: FeatureParts
    payments: PaymentLog
    labels: LabelLog
    end_us: int

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
    parts = backfill(settings, plan=plan, progress=progress).parts
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
    labels, withheld, end_us = _read_log(settings, ids, parts.manifest.sequence)
    payments = PaymentLog(
        event_time_us=times,
        received_at_us=received,
        amount_minor=amounts,
        card=cards,
        withheld=withheld,
    )
    return LabelledPayments(plan, parts, payments, labels, end_us)


def maturity_us(settings: Settings) -> int:
    """How long after a payment its silence starts to count, microseconds, as it is set."""
    return round(settings.labels.maturity_days * DAY_US)


def maturity_is_default(settings: Settings) -> bool:
    """Whether nobody has set the maturity, so that it may follow the labels."""
    return "maturity_days" not in settings.labels.model_fields_set


def shown_maturity_us(settings: Settings, known: LabelledPayments, now_us: int) -> int:
    """How long after a payment its silence starts to count: as set, else as labels show."""
    given = maturity_us(settings)
    if not maturity_is_default(settings):
        return given
    return maturity_of(known.payments, known.labels, now_us=now_us, maturity_us=given)[0]


def _read_log(
    settings: Settings, ids: pa.Array, until: int
) -> tuple[LabelLog, npt.NDArray[np.bool_] | None, int]:
    """Labels, which payments the system before withheld, and the moment after the last entry."""
    outcome_column = ATTRIBUTE_PREFIX + OUTCOME_BEFORE
    names = ("kind", "transaction_id", "verdict", "received_at_us", outcome_column)
    found: list[pa.RecordBatch] = []
    withheld = np.zeros(len(ids), dtype=np.bool_)
    end_us = row = 0
    with ledger_reader(settings) as ledger:
        for _, batch in read_log(ledger, until=until, columns=names):
            end_us = batch.column("received_at_us")[-1].as_py() + 1
            few = batch.filter(pc.equal(batch.column("kind"), KIND_LABEL))
            if few.num_rows:
                found.append(few.select(["transaction_id", "verdict", "received_at_us"]))
            payments = batch.num_rows - few.num_rows
            at = batch.schema.get_field_index(outcome_column)
            if at >= 0 and payments:
                is_payment = pc.equal(batch.column("kind"), KIND_TRANSACTION)
                said = batch.column(at).filter(is_payment).cast(pa.string())
                mask = pc.is_in(said, value_set=pa.array(_WITHHELD))
                withheld[row : row + payments] = mask.to_numpy(zero_copy_only=False)
            row += payments
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        labels = LabelLog(row=nothing, fraud=nothing.astype(np.bool_), received_at_us=nothing)
    else:
        table = pa.Table.from_batches(found)
        labels = LabelLog(
            row=rows_of(ids, ids_of(table.column("transaction_id"))),
            fraud=pc.equal(table.column("verdict"), Verdict.FRAUD.value).to_numpy(),
            received_at_us=table.column("received_at_us").to_numpy(),
        )
    return labels, withheld if withheld.any() else None, end_us


def ids_of(column: pa.ChunkedArray) -> pa.LargeStringArray:
    """A column of ids as one array.

    Its offsets have 64 bits: those of Arrow's plain strings end at 2 GiB of text, which is what
    60 million ids of 36 characters take.
    """
    combined = column.cast(pa.large_string()).combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return pa.concat_arrays(combined.chunks) if combined.num_chunks else _NO_IDS
    return combined
