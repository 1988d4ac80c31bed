"""The engines of `backfill`, each run in a process of its own.

    python -m benchmarks.backfill_engines ENGINE KEY ROWS_FILE OUT_FOLDER

An engine writes ``values`` (float32, FEATURES to a row) and ``places`` (int64, the row each is of)
into its folder, and prints its seconds, CPU seconds and peak memory. The seconds are those of
reading rows and computing features; to write the values down for the comparison is not part of
them.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.backfill_rows import COLUMNS, FEATURES, KEYS, WINDOWS, Key, plan
from sentinel.features.plan.plan import default_hop_us

Part = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]
"""Rows and their features, float32 (n, len(FEATURES)), NaN = none."""

_BATCH_ROWS = 100_000


def sentinel(path: Path, key: Key) -> Iterator[Part]:
    """The fold over batches of the log, on all cores."""
    import pyarrow.parquet as pq

    from sentinel.features.offline import OfflineFold, batch_rows
    from sentinel.features.plan.program import compile_program

    folding = OfflineFold(compile_program(plan(key)))
    file, columns = pq.ParquetFile(path), [*COLUMNS, f"{key}_id"]
    few = next(file.iter_batches(1_000, columns=columns))
    rows = batch_rows(folding.program, log_row_bytes=-(-few.nbytes // few.num_rows))
    out = np.empty((rows, len(FEATURES)), dtype=np.float32)  # written out before the next batch
    start = 0
    for batch in file.iter_batches(rows, columns=columns):
        values = folding.step(batch, out=out)
        yield np.arange(start, start + len(values)), values
        start += len(values)


def duckdb(path: Path, key: Key) -> Iterator[Part]:
    """Range windows whose lower bounds are the sawtooth's: the first tile is taken whole."""
    import duckdb as engine

    frames, outputs = [], []
    for name, window_us in WINDOWS.items():
        hop = default_hop_us(window_us)
        reach = f"event_time_us - (event_time_us - {window_us}) // {hop} * {hop}"
        frames.append(
            f"w{name} AS (PARTITION BY {key}_id ORDER BY event_time_us "
            f"RANGE BETWEEN {reach} PRECEDING AND 1 PRECEDING)"
        )
        outputs += [
            f"count(*) OVER w{name} AS count_{name}",
            f"sum(amount_minor) OVER w{name} AS sum_{name}",
            f"max(amount_minor) OVER w{name} AS max_{name}",
        ]
    windows = (
        f"SELECT file_row_number AS place, {', '.join(outputs)} "
        f"FROM read_parquet('{path}', file_row_number=true) WINDOW {', '.join(frames)}"
    )
    features = [
        expression
        for name in WINDOWS
        for expression in (
            f"count_{name}::FLOAT",
            f"coalesce(sum_{name}, 0)::FLOAT",
            f"(sum_{name}::DOUBLE / nullif(count_{name}, 0))::FLOAT",
            f"max_{name}::FLOAT",
        )
    ]
    connection = engine.connect(
        config={"threads": os.cpu_count() or 1, "preserve_insertion_order": False}
    )
    connection.execute(f"SET temp_directory = '{path.parent}'")
    result = connection.execute(f"SELECT place, {', '.join(features)} FROM ({windows})")
    for batch in result.to_arrow_reader(_BATCH_ROWS):
        columns = [
            column.to_numpy(zero_copy_only=False).astype(np.float32) for column in batch.columns[1:]
        ]
        yield batch.column(0).to_numpy(), np.column_stack(columns)


def pandas(path: Path, key: Key) -> Iterator[Part]:
    """Rolling windows by time: true windows, pandas knows no sawtooth."""
    import pandas as pd

    frame = pd.read_parquet(path, columns=["event_time_us", "amount_minor", f"{key}_id"])
    frame["time"] = pd.to_datetime(frame["event_time_us"], unit="us")
    frame["place"] = np.arange(len(frame))
    columns = []
    for window_us in WINDOWS.values():
        rolling = frame.groupby(f"{key}_id").rolling(
            pd.Timedelta(window_us, "us"), on="time", closed="left", min_periods=0
        )["amount_minor"]
        columns += [rolling.count(), rolling.sum(), rolling.mean(), rolling.max()]
    order = np.concatenate(list(frame.groupby(f"{key}_id").indices.values()))
    yield order, np.column_stack([column.to_numpy(np.float32) for column in columns])


ENGINES = {"sentinel": sentinel, "duckdb": duckdb, "pandas": pandas}


def run(engine: str, key: Key, path: Path, folder: Path) -> dict[str, float]:
    """Run an engine over rows; see the module."""
    folder.mkdir(parents=True, exist_ok=True)
    base_mb = _peak_mb()
    seconds = cpu_seconds = 0.0
    with (folder / "values").open("wb") as values, (folder / "places").open("wb") as places:
        parts = ENGINES[engine](path, key)
        while True:
            began, cpu_began = time.perf_counter(), time.process_time()
            part = next(parts, None)
            seconds += time.perf_counter() - began
            cpu_seconds += time.process_time() - cpu_began
            if part is None:
                break
            part[0].astype(np.int64).tofile(places)
            np.ascontiguousarray(part[1], dtype=np.float32).tofile(values)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": _peak_mb(),
        "base_mb": base_mb,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _warm_up(engine: str, key: Key, folder: Path) -> None:
    """Imports and compiled code, which a day's backfill pays for once."""
    from benchmarks.backfill_rows import write_rows

    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "warm", 5_000)
    for _ in ENGINES[engine](folder / "warm", key):
        pass


if __name__ == "__main__":
    engine, key, path, folder = sys.argv[1:]
    (chosen,) = (known for known in KEYS if known == key)
    _warm_up(engine, chosen, Path(folder))
    print(json.dumps(run(engine, chosen, Path(path), Path(folder))))
    assert len(FEATURES) == 4 * len(WINDOWS)
