"""Payments of the log with their vectors and what a model says of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import ModelManifest, load_manifest, load_trees
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.feature_parts import FeatureParts

ROWS: Final = 50_000
"""Rows that are scored, or written, together."""

_TIME: Final = pa.timestamp("us", tz="UTC")


class BulkScorer:
    """A model that scores vectors in bulk.

    Args:
        folder: Of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.manifest: ModelManifest = load_manifest(folder)
        self._scorer = Scorer(load_trees(folder, self.manifest))
        self._calibration = self.manifest.calibrator()
        self._threads = os.cpu_count() or 1

    def score(
        self, vectors: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Calibrated probabilities and whether they are called fraud.

        Args:
            vectors: float32 (n, n_features), NaN = unknown.

        Returns:
            float64 (n,) and bool (n,).
        """
        with ThreadPoolExecutor(self._threads) as pool:  # the kernel lets go of the interpreter
            shares = pool.map(self._scorer.raw_many, np.array_split(vectors, self._threads))
            probability = self._calibration.apply(np.concatenate(list(shares)))
        return probability, probability >= self.manifest.thresholds.fraud


@dataclass(frozen=True)
class ScoredPayments:
    """A stretch of the per-transaction table.

    Attributes:
        rows: ``transaction_id``, ``event_timestamp``, ``amount_minor``, ``plan_hash``, ``vector``,
            ``fraud_probability``, ``is_fraud``, ``model_version``.
        last_sequence: The last log entry that it covers.
        as_of_us: The moment after it.
    """

    rows: pa.Table
    last_sequence: int
    as_of_us: int


def scored_payments(
    parts: FeatureParts, plan: Plan, model: BulkScorer | None, after: int
) -> Iterator[ScoredPayments]:
    """The transactions of the log behind an entry, in portions.

    Args:
        parts: Their vectors.
        plan: Of the vectors.
        model: Scores them if it was trained with that plan.
        after: Only entries with a sequence above this.
    """
    names = ["sequence", "transaction_id", "event_time_us", "received_at_us", "amount_minor"]
    if model is not None and model.manifest.plan_hash != plan.hash:
        model = None
    for part, path in zip(parts.manifest.parts, parts.paths, strict=True):
        if part.last_sequence <= after:
            continue
        table = pa.parquet.read_table(path, columns=[*names, *plan.feature_names])
        first = int(np.searchsorted(table.column("sequence").to_numpy(), after, side="right"))
        table = table.slice(first)
        for start in range(0, max(table.num_rows, 1), ROWS):
            few = table.slice(start, ROWS)
            is_last = start + ROWS >= table.num_rows
            last = part.last_sequence if is_last else few.column("sequence")[-1].as_py()
            as_of = few.column("received_at_us")[-1].as_py() + 1 if few.num_rows else 0
            yield ScoredPayments(_rows(few, plan, model), last, as_of)


def _rows(table: pa.Table, plan: Plan, model: BulkScorer | None) -> pa.Table:
    n, width = table.num_rows, len(plan.feature_names)
    vectors = np.column_stack([table.column(name).to_numpy() for name in plan.feature_names])
    vectors = np.ascontiguousarray(vectors, dtype=np.float32).reshape(n, width)
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    columns: dict[str, pa.Array] = {
        "transaction_id": table.column("transaction_id"),
        "event_timestamp": table.column("event_time_us").cast(_TIME),
        "amount_minor": table.column("amount_minor"),
        "plan_hash": pa.array([plan.hash] * n, pa.string()),
        "vector": pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.reshape(-1))),
    }
    if model is None or n == 0:
        columns["fraud_probability"] = pa.nulls(n, pa.float64())
        columns["is_fraud"] = pa.nulls(n, pa.bool_())
        columns["model_version"] = pa.nulls(n, pa.string())
    else:
        probability, is_fraud = model.score(vectors)
        columns["fraud_probability"] = pa.array(probability)
        columns["is_fraud"] = pa.array(is_fraud)
        columns["model_version"] = pa.array([model.manifest.version] * n, pa.string())
    return pa.table(columns)
