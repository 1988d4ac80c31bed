"""The log as training and the gate look at it: vectors, times, amounts and labels by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.features.plan import DAY_US, Plan
from sentinel.ledger.log import read_log
from sentinel.models.dataset import History, Ints, LabelLog, codes_of, rows_of
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.workspace import ledger_reader
from sentinel.schema import KIND_LABEL
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress


@dataclass(frozen=True, eq=False)
class LabelledHistory:
    """The transactions and labels of the log up to where vectors reach.

    Attributes:
        plan: Of the vectors.
        parts: The vectors.
        history: Row i is the i-th transaction of the log, whatever the plan.
        labels: What is known of the rows, and since when.
        end_us: The moment after the last entry.
    """

    plan: Plan
    parts: FeatureParts
    history: History
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
        tables = self.parts.tables(self.plan.feature_names)
        for part, table in zip(self.parts.manifest.parts, tables, strict=True):
            start, stop = np.searchsorted(rows, [first, first + part.rows])
            here = rows[start:stop] - first
            for column, values in enumerate(table.columns):
                out[start:stop, column] = values.to_numpy()[here]
            first += part.rows
        return out


def labelled_history(
    settings: Settings,
    *,
    plan: Plan | None = None,
    progress: ProgressCallback = no_progress,
) -> LabelledHistory:
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
    table = pa.concat_tables(tables).combine_chunks() if tables else None
    if table is None or table.num_rows == 0:
        nothing = np.empty(0, dtype=np.int64)
        history = History(
            event_time_us=nothing, received_at_us=nothing, amount_minor=nothing, card=nothing
        )
        ids = pa.array([], pa.string())
    else:
        history = History(
            event_time_us=table.column("event_time_us").to_numpy(),
            received_at_us=table.column("received_at_us").to_numpy(),
            amount_minor=table.column("amount_minor").to_numpy(),
            card=codes_of(_one(pc.coalesce(table.column("card_id"), table.column("customer_id")))),
        )
        ids = _one(table.column("transaction_id"))
    labels, end_us = _labels(settings, ids, parts.manifest.sequence)
    return LabelledHistory(plan, parts, history, labels, end_us)


def maturity_us(settings: Settings) -> int:
    """How long after a payment its silence starts to count, microseconds."""
    return round(settings.labels.maturity_days * DAY_US)


def _labels(settings: Settings, ids: pa.Array, until: int) -> tuple[LabelLog, int]:
    found: list[pa.RecordBatch] = []
    end_us = 0
    with ledger_reader(settings) as ledger:
        for _, batch in read_log(ledger, until=until):
            end_us = batch.column("received_at_us")[-1].as_py() + 1
            few = batch.filter(pc.equal(batch.column("kind"), KIND_LABEL))
            if few.num_rows:
                found.append(few.select(["transaction_id", "verdict", "received_at_us"]))
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return LabelLog(row=nothing, fraud=nothing.astype(np.bool_), received_at_us=nothing), end_us
    table = pa.Table.from_batches(found).combine_chunks()
    verdict = table.column("verdict")
    return (
        LabelLog(
            row=rows_of(ids, _one(table.column("transaction_id"))),
            fraud=pc.equal(verdict, Verdict.FRAUD.value).to_numpy(),
            received_at_us=table.column("received_at_us").to_numpy(),
        ),
        end_us,
    )


def _one(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else combined.chunk(0)
