"""Compiles the kernels of serving and of jobs, so that processes find them compiled.

    NUMBA_CACHE_DIR=/opt/sentinel/kernels python -m sentinel.scoring.compile_kernels

Builds of images run it. Numba compiles a kernel when it is first called, so everything that serves,
recovers and backfills is run once on a few payments. What is found is machine code of this kind of
processor within pickles, so nobody who serves may write the folder.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sentinel.domain import Transaction
from sentinel.drift.bins import SCORE, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.detector import DriftDetector, HourCounts
from sentinel.drift.reference import freeze_reference
from sentinel.drift.segments import ALL, Segment
from sentinel.features import jit
from sentinel.features.offline import OfflineFold
from sentinel.features.plan.parts import Aggregate, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.features.plan.program import Program, compile_program
from sentinel.log.schema import KIND_LABEL, KIND_TRANSACTION, LOG_SCHEMA
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.calibration import Calibration
from sentinel.models.ensemble import MISSING_NAN, TreeEnsemble
from sentinel.models.many_scorers import ManyScorers
from sentinel.models.thresholds import Thresholds
from sentinel.scoring.panel import Panel
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import DriftSettings, MoneySettings
from sentinel.state.embedded import EmbeddedState, restore
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis.effects import Effects
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.layout import EVENT_WORDS
from sentinel.state.redis.records import REPLY, Records, Stored
from sentinel.state.redis.wire import Wire

_PLAN: Final = Plan(
    views=(
        View(
            name="card",
            keys=("card_id",),
            aggregates=(
                Aggregate(name="count_1d", function="count", window_us=DAY_US, hop_us=HOUR_US),
            ),
        ),
    ),
    request=(RequestFeature(name="amount", kind="amount"),),
)
_MANY: Final = 2_000
"""Entries of a batch that threads share."""


def compile_kernels(folder: Path) -> None:
    """Run everything that has kernels once.

    Args:
        folder: For files that are of no use afterwards.
    """
    program = compile_program(_PLAN)
    _jobs(program)
    state = _embedded(program, folder)
    model = _model(folder / "model")
    Scorer(state, Panel(model)).decide([_payment(10)])
    ManyScorers([model.many, model.many]).score(np.zeros((1, 2), dtype=np.float32))
    _shared(program)
    _old_ids(folder)
    _drift()


def _drift() -> None:
    """What the monitor runs: four quiet weeks, and an hour after them."""
    hours = np.arange(28 * 24)
    bins = freeze_bins(np.arange(100, dtype=np.float32).reshape(50, 2), ["amount", SCORE])
    segments = (Segment(ALL),)
    counted = np.zeros((1, bins.cells), np.uint32)
    count_cells(bins, np.ones((9, 2), np.float32), np.ones((9, 1), np.bool_), counted)
    reference = freeze_reference(bins, segments, hours, np.tile(counted, (len(hours), 1, 1)))
    after = HourCounts(int(hours[-1]) + 1, counted, np.array([9]))
    DriftDetector(reference, DriftSettings()).advance(after)


def _payment(number: int) -> Transaction:
    return Transaction(
        transaction_id=f"p-{number}",
        event_time_us=number * HOUR_US,
        received_at_us=number * HOUR_US,
        amount_minor=100 + number,
        card_id=f"c-{number % 7}",
    )


def _log(n: int) -> pa.RecordBatch:
    """Payments with labels among them, as a log batch."""
    rows: list[dict[str, Any]] = []
    for number in range(n):
        payment = _payment(number)
        entry = {name: getattr(payment, name, None) for name in LOG_SCHEMA.names}
        rows.append({**entry, "kind": KIND_TRANSACTION})
        if number % 5 == 3:
            label = {"label_id": f"l-{number}", "verdict": "fraud", "origin": "issuer"}
            received = {name: entry[name] for name in ("transaction_id", "received_at_us")}
            rows.append({**received, **label, "kind": KIND_LABEL})
    return pa.RecordBatch.from_pylist(rows, schema=LOG_SCHEMA)


def _jobs(program: Program) -> None:
    """Backfill and recovery, alone and with threads."""
    batch = _log(_MANY)
    for threads in (1, 2):
        folding = OfflineFold(program, threads=threads)
        folding.book.scan([batch])
        for part in (batch, _log(10)):
            folding.step(part)
        folding.step(_log(10), vectors=False)


def _embedded(program: Program, folder: Path) -> EmbeddedState:
    """State of one process: payments, a snapshot, and what is read of it."""
    state = EmbeddedState.empty(program, folder)
    state.warm()
    state.add([_payment(number) for number in range(3)])
    state.add([_payment(3)], known_only={0})
    state.freeze().write(folder)
    return restore(program, folder)


def _model(folder: Path) -> ServingModel:
    """A forest of one split."""
    one, whole = np.ones(1), np.array([0, 1], dtype=np.int32)
    trees = TreeEnsemble(
        feature_names=_PLAN.feature_names,
        objective="probability",
        average_output=True,
        feature_infos=(),
        node_offset=whole,
        leaf_offset=np.array([0, 2], dtype=np.int32),
        feature=np.zeros(1, dtype=np.int32),
        threshold=one,
        left=np.array([-1], dtype=np.int32),
        right=np.array([-2], dtype=np.int32),
        decision=np.array([MISSING_NAN], dtype=np.uint8),
        category_set=np.array([-1], dtype=np.int32),
        category_offset=np.zeros(1, dtype=np.int32),
        category_bits=np.zeros(0, dtype=np.uint32),
        node_cover=2 * one,
        leaf_cover=np.ones(2),
        leaf_value=np.array([0.1, 0.9]),
    )
    save_artifact(
        folder,
        name="compiled",
        plan=_PLAN,
        model=trees,
        calibration=Calibration(x=np.array([0.0, 1.0]), y=np.array([0.1, 0.9])),
        thresholds=Thresholds(fraud=0.5, review=0.4, decline=0.8),
        metrics={},
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=1, frauds=0),
        data_hash="none",
        created_at_us=1,
        version="1",
    )
    return ServingModel.load(folder, MoneySettings())


class _NoRecords(Wire):
    """Answers as a Redis without a record does."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1/0", timeout_seconds=1.0)

    def exchange(self, commands: Sequence[tuple[bytes, bytes]]) -> list[Any]:
        return [REPLY.pack(0, 0, 1, 0)] * len(commands)

    def is_cluster(self) -> bool:
        return False


def _shared(program: Program) -> None:
    """State that is shared, with a server that holds nothing."""
    with closing(Records(program, _NoRecords())) as records:
        features = SharedFeatures(records)
        features.peek([_payment(1)])
        features.read([{"card_id": "c-1"}], 0)
        features.add([_payment(2)], features.next_ticket())
        features.add([_payment(3), _payment(10)], features.next_ticket())
        words = np.zeros(program.record_words[0], dtype=np.int64)
        words[0] = 1
        base = records.packed(words)
        tail = np.zeros((0, EVENT_WORDS), dtype=np.int64)
        Effects(records).folded(0, Stored(base, 0, 0, tail))


def _old_ids(folder: Path) -> None:
    """Ids that went to disk, which a thread brings there."""
    (folder / "ids").mkdir()
    known = KnownIds(folder / "ids", recent=4)
    for start in range(0, 256, 64):
        known.add(f"p-{number}" for number in range(start, start + 64))
        known.wait()
    known.add(["p-1", "another"])
    known.holds_id("p-2")
    known.which(["p-3"])
    known.wait()


def main() -> int:
    """Compile into ``NUMBA_CACHE_DIR`` and say how much there is."""
    if "NUMBA_CACHE_DIR" not in os.environ or not jit.CACHE_IS_WRITABLE:
        print("Set NUMBA_CACHE_DIR to a folder that can be written.", file=sys.stderr)  # noqa: T201
        return 2
    with tempfile.TemporaryDirectory() as folder:
        compile_kernels(Path(folder))
    number = sum(len(kernel.signatures) for kernel in jit.KERNELS)
    print(f"{number} kernels are in {jit.CACHE_FOLDER}.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
