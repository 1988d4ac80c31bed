"""A fresh process: the backfill of a log, its vectors and the state it ends in.

Run by `benchmarks.parity_http` as ``python -m benchmarks.parity_recomputed JSON``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.parity_log import batches
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.state.embedded import EmbeddedState


@dataclass(frozen=True)
class Task:
    """What to do.

    Attributes:
        plan, ledger: Where things are.
        vectors: Where float32 vectors of the log's transactions go.
        recomputed: Folder for a snapshot of the last state.
    """

    plan: Path
    ledger: Path
    vectors: Path
    recomputed: Path


def run(task: Task) -> None:
    state = EmbeddedState.empty(compile_program(Plan.load(task.plan)))
    book = LabelBook(fraud=state.fraud)
    book.scan(batch for _, batch in batches(task.ledger))
    folding = OfflineFold(state.program, state.arena, book)
    with task.vectors.open("wb") as file:
        for first, batch in batches(task.ledger):
            file.write(folding.step(batch).tobytes())
            state.sequence = first + batch.num_rows - 1
    state.freeze().write(task.recomputed)


if __name__ == "__main__":
    run(Task(**{name: Path(path) for name, path in json.loads(sys.argv[1]).items()}))
