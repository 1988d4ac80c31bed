"""Where the time of a backfill goes: CPU of each stage by row, in one thread.

The stages of `OfflineFold.step` are run one by one over the rows that `backfill` makes. Each is
repeated, and the fastest counts: whatever else the machine does only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.backfill_rows import COLUMNS, KEYS, Key, plan, write_rows
from sentinel.features.arena import Arena
from sentinel.features.encode_batch import encode_batch
from sentinel.features.kernel.sweep import finish_rows, fold_in_order, order_of
from sentinel.features.offline import batch_rows
from sentinel.features.plan.program import compile_program

_T = TypeVar("_T")


def one_pass(path: Path, key: Key) -> dict[str, float]:
    """CPU seconds of each stage over a file of rows."""
    program = compile_program(plan(key))
    arena = Arena(program)
    spent: dict[str, float] = {}

    def timed(stage: str, call: Callable[[], _T]) -> _T:
        began = time.process_time()
        result = call()
        spent[stage] = spent.get(stage, 0.0) + time.process_time() - began
        return result

    columns = [*COLUMNS, f"{key}_id"]
    batches = pq.ParquetFile(path).iter_batches(batch_rows(program), columns=columns)
    while True:
        batch: pa.RecordBatch | None = timed("read Parquet", lambda: next(batches, None))
        if batch is None:
            return spent
        _fold(timed, program, arena, batch)


def _fold(timed: Callable[..., Any], program: Any, arena: Arena, batch: pa.RecordBatch) -> None:
    events, given = timed("encode: keys to records", lambda: encode_batch(program, arena, batch))
    out = np.empty((len(events), program.n_features), dtype=np.float32)
    rows = np.arange(len(events), dtype=np.int64)
    words = program.record_words[0]
    order = timed("order by record", lambda: order_of(events, 0, words, 0, 1))
    timed("fold", lambda: fold_in_order(arena.words, program.code, 0, events, order, out, rows))
    timed("finish", lambda: finish_rows(program.code, events, given, out, rows))


def run(rows: int, rounds: int) -> dict[str, Any]:
    """Measure; see the module."""
    before = os.getloadavg()
    stages: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="sentinel-stages-") as folder:
        path = Path(folder) / "rows"
        write_rows(path, rows)
        for key in KEYS:
            passes = [one_pass(path, key) for _ in range(rounds + 1)][1:]  # the first compiles
            fastest = {stage: min(p[stage] for p in passes) / rows * 1e9 for stage in passes[0]}
            stages[key] = fastest | {"sum": sum(fastest.values())}
    return {
        "ns_per_row": stages,
        "settings": {"rows": rows, "rounds": rounds},
        "machine": {
            "cpus": os.cpu_count(),
            "loadavg_before": before,
            "loadavg_after": os.getloadavg(),
        },
    }


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks backfill_stages", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="20,000 rows, one round")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    result = run(*((20_000, 1) if options.quick else (options.rows, options.rounds)))
    table = Table(title="CPU ns per row, one thread", title_justify="left")
    table.add_column("")
    for key in KEYS:
        table.add_column(f"by {key}", justify="right")
    for stage in result["ns_per_row"][KEYS[0]]:
        table.add_row(stage, *(f"{result['ns_per_row'][key][stage]:.0f}" for key in KEYS))
    Console(soft_wrap=True).print(table)
    if options.json:
        print(json.dumps(result))
    return 0
