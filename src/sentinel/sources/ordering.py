"""Two streams that are each in order become one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.log.schema import KIND_TRANSACTION


def merged(
    transactions: Iterator[pa.RecordBatch],
    repeated: npt.NDArray[np.int64],
    labels: pa.RecordBatchReader,
) -> Iterator[pa.RecordBatch]:
    """Transactions and labels by time of receipt, transactions first where it is the same.

    Args:
        transactions: Batches in order, with their ``ordinal``.
        repeated: Ordinals to leave out.
        labels: Batches in order.

    Yields:
        Batches in order, with the columns of both.
    """
    waiting = pa.Table.from_batches([], labels.schema)
    more = True
    for batch in transactions:
        new = np.isin(batch.column("ordinal").to_numpy(), repeated, invert=True)
        batch = batch.filter(pa.array(new))
        if not batch.num_rows:
            continue
        received = batch.column("received_at_us").to_numpy()
        # A label at the very last time waits: the next batch may hold that time too.
        while more and (not waiting.num_rows or _last(waiting) < received[-1]):
            told = next(labels, None)
            more = told is not None
            if told is not None:
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([told])])
        arrivals = waiting.column("received_at_us").to_numpy()
        due = int(np.searchsorted(arrivals, received[-1], side="left"))
        kind = pa.array(np.full(batch.num_rows, KIND_TRANSACTION, np.int8))
        payments = pa.Table.from_batches([batch.append_column("kind", kind)])
        both = pa.concat_tables([payments, waiting.slice(0, due)], promote_options="default")
        order = np.argsort(np.concatenate([received, arrivals[:due]]), kind="stable")
        waiting = waiting.slice(due)
        yield from both.take(pa.array(order)).combine_chunks().to_batches()
    yield from waiting.to_batches()
    yield from labels


def resized(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, most: int
) -> Iterator[pa.RecordBatch]:
    """Batches of the schema, with at most so many rows each; columns not given are null."""
    for batch in batches:
        columns = [
            pc.cast(batch.column(item.name), item.type)
            if item.name in batch.schema.names
            else pa.nulls(batch.num_rows, item.type)
            for item in schema
        ]
        whole = pa.RecordBatch.from_arrays(columns, schema=schema)
        for start in range(0, whole.num_rows, most):
            yield whole.slice(start, most)


def _last(labels: pa.Table) -> int:
    return int(labels.column("received_at_us")[-1].as_py())
