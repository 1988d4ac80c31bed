"""Feast's online store filled in production: all of a history, an increment, nothing new.

Ledger and Feast's registry are in a real PostgreSQL, online values in a real Redis. Each run is the
command `sentinel features materialize` in a process of its own, whose start counts too.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc
from redis import Redis as RedisClient
from rich.console import Console

from sentinel.ledger.log import append_import, read_log
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.pipeline.importing import import_history
from sentinel.pipeline.workspace import ledger_reader, ledger_writer
from sentinel.settings import Settings
from sentinel.sources.simulator import SimulatorConfig, SimulatorSource
from testkit.scratch import REPOSITORY, payments_again
from testkit.servers import Postgres, Redis, all_started

_TIMEOUT_SECONDS: Final = 3600.0
_SAID: Final = re.compile(r"([\d,]+) rows through log entry [\d,]+ in ([\d.]+) s")
_BATCH: Final = 5_000


def run(folder: Path, *, customers: int, days: float, added: int) -> dict[str, Any]:
    """Import, register, materialize four times; seconds and rows of each.

    Args:
        folder: For servers and workspace.
        customers, days: Of the simulated history.
        added: Payments that come after it.
    """
    postgres, redis = Postgres(folder / "postgres"), Redis(folder / "redis")
    with all_started(postgres, redis):
        variables = {
            "SENTINEL_WORKSPACE": str(folder / "workspace"),
            "SENTINEL_FEATURE_STORE": str(REPOSITORY / "feature_store"),
            "SENTINEL_LEDGER__URL": postgres.make_database("sentinel"),
            "SENTINEL_FEAST__REGISTRY_URL": postgres.make_database("feast_registry"),
            "SENTINEL_FEAST__ONLINE_URL": redis.url,
        }
        with mock.patch.dict(os.environ, variables):
            settings = Settings()
        now_us = time.time_ns() // 1000
        world = SimulatorConfig.ending(
            now_us, days=days, customers=customers, merchants=max(80, customers // 2), seed=3
        )
        imported = import_history(settings, SimulatorSource(world), now_us=now_us)
        result: dict[str, Any] = {"payments": imported.report.accepted}
        result["apply"] = {"seconds": _sentinel(variables, "apply")[0]}
        result["first"] = _materialize(variables)
        with RedisClient(port=redis.port) as client:
            result["redis_bytes"] = int(client.info("memory")["used_memory"])
        result["added"] = _add(settings, added)
        result["increment"] = _materialize(variables)
        result["nothing_new"] = _materialize(variables)
        result["full"] = _materialize(variables, "--full")
    return result


def _materialize(variables: Mapping[str, str], *options: str) -> dict[str, Any]:
    seconds, said = _sentinel(variables, "materialize", *options)
    found = _SAID.search(said)
    if found is None:
        raise RuntimeError(f"The command said nothing of its rows:\n{said}")
    rows = int(found[1].replace(",", ""))
    return {"rows": rows, "seconds": seconds, "seconds_at_work": float(found[2])}


def _sentinel(variables: Mapping[str, str], *arguments: str) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", "features", *arguments],
        env={**os.environ, **variables, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"`{' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}")
    return round(time.perf_counter() - began, 2), done.stdout


def _add(settings: Settings, n: int) -> int:
    """The first payments of the log once more, as new ones at its end."""
    with ledger_reader(settings) as ledger:
        end_us = ledger.last_received_at_us()
        batches, rows = [], 0
        for batch in _payments(ledger):
            batches.append(pa.Table.from_batches([batch]))
            rows += batch.num_rows
            if rows >= n:
                break
    first = pa.concat_tables(batches, promote_options="default").slice(0, n).combine_chunks()
    again = payments_again(first, "again", end_us)
    with ledger_writer(settings) as writer:
        for batch in again.to_batches():
            append_import(writer, batch)
    return int(again.num_rows)


def _payments(ledger: Any) -> Iterator[pa.RecordBatch]:
    for _, batch in read_log(ledger, max_rows=_BATCH):
        yield batch.filter(pc.equal(batch.column("kind"), KIND_TRANSACTION))


def main(argv: list[str]) -> int:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks materialize", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line of JSON and no words")
    parser.add_argument("--customers", type=int, default=720, help="in the history (720)")
    parser.add_argument("--days", type=float, default=120.0, help="of the history (120)")
    parser.add_argument("--added", type=int, default=5_000, help="payments after it (5,000)")
    parser.add_argument("--folder", type=Path, help="for the servers; default: a temporary one")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        result = run(folder, customers=given.customers, days=given.days, added=given.added)
    if given.json:
        print(json.dumps(result))
        return 0
    out = Console()
    out.print(f"{result['payments']:,} historic payments; {result['added']:,} came after them.")
    for what in ("first", "increment", "nothing_new", "full"):
        part = result[what]
        out.print(
            f"{what:12} {part['rows']:>9,} rows {part['seconds']:>8.1f} s, "
            f"{part['seconds_at_work']:.1f} s of them at work"
        )
    out.print(f"Redis holds {result['redis_bytes'] / 1e6:,.0f} MB after the first.")
    return 0
