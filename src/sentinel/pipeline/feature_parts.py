"""Writes the vectors of log batches as a part, see `sentinel.retrieval.vector_parts`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.features.plan.plan import Plan
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.retrieval.vector_parts import FeatureParts, Part, PartsManifest

__all__ = ["KEY_COLUMNS", "FeatureParts", "Part", "PartWriter", "PartsManifest"]

KEY_COLUMNS: Final = (
    "sequence",
    "transaction_id",
    "event_time_us",
    "received_at_us",
    "amount_minor",
    "customer_id",
    "card_id",
)
_COPIED: Final = KEY_COLUMNS[1:]
_TEXTS: Final = ("transaction_id", "customer_id", "card_id")
_MEASURED: Final = ("sequence", "event_time_us", "received_at_us")


class PartWriter:
    """Collects the vectors of log batches, and writes them as a part.

    Args:
        folder: Where parts go.
        plan: Names the features.
        first_sequence: The first log entry that the part covers.
    """

    def __init__(self, folder: Path, plan: Plan, first_sequence: int) -> None:
        self._folder = folder
        self._names = plan.feature_names
        self._first = first_sequence
        self._last = first_sequence - 1
        self._keys: list[pa.RecordBatch] = []
        self._vectors: list[npt.NDArray[np.float32]] = []
        self.rows = 0

    def add(
        self, first_sequence: int, batch: pa.RecordBatch, vectors: npt.NDArray[np.float32]
    ) -> None:
        """Take a log batch and the vectors of its transactions, float32 (n, n_features)."""
        kinds = batch.column("kind").to_numpy(zero_copy_only=False)
        places = np.flatnonzero(kinds == KIND_TRANSACTION)
        few = batch.select(list(_COPIED)).take(pa.array(places))
        self._keys.append(few.add_column(0, "sequence", pa.array(first_sequence + places)))
        self._vectors.append(vectors)
        self.rows += len(places)
        self._last = first_sequence + batch.num_rows - 1

    def write(self) -> Part:
        """Write the file; it is there whole or not at all."""
        name = f"part-{self._first:020d}.parquet"
        keys = pa.Table.from_batches(self._keys).combine_chunks()
        vectors = np.concatenate(self._vectors)
        arrays = [column.chunk(0) if column.num_chunks else pa.nulls(0) for column in keys.columns]
        arrays += [pa.array(np.ascontiguousarray(column)) for column in vectors.T]
        table = pa.Table.from_arrays(arrays, names=[*KEY_COLUMNS, *self._names])
        partial = self._folder / f"{name}.partial"
        pq.write_table(
            table,
            partial,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(_TEXTS[1:]),
            write_statistics=list(_MEASURED),
        )
        partial.replace(self._folder / name)
        return Part(name, self._first, self._last, self.rows)
