"""The log that parity is proved on: a source, imported into a scratch ledger."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from sentinel.domain import ConfigurationError
from sentinel.ledger.log import append_import, read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.schema import KIND_TRANSACTION
from sentinel.sources import Source, log_batches, open_source

REPOSITORY: Final = Path(__file__).resolve().parent.parent
END_OF_TIME_US: Final = 4_000_000_000_000_000
BATCH_ROWS: Final = 50_000


def handbook_path() -> Path:
    """The Handbook's raw data; raises ConfigurationError if it is not there."""
    named = os.environ.get("SENTINEL_HANDBOOK") or os.environ.get("HANDBOOK_PARQUET")
    places = (
        [Path(named)]
        if named
        else [
            REPOSITORY / "data" / "handbook_raw.parquet",
            REPOSITORY.parent / "shared" / "data" / "handbook_raw.parquet",
        ]
    )
    for path in places:
        if path.is_file():
            return path
    raise ConfigurationError(
        f"The Handbook's data is not at {' or '.join(map(str, places))}. "
        "Set SENTINEL_HANDBOOK to the Parquet file, or use --source simulator."
    )


def open_by_name(name: str, rows: int | None) -> Source:
    """The Handbook with labels after 7 days, or a simulated world of about so many rows."""
    if name == "handbook":
        return open_source("handbook", path=handbook_path(), label_delay_days=7.0)
    wanted = rows or 300_000
    days = 120.0
    customers = max(20, round(wanted / (days * 0.6)))
    return open_source(
        "simulator", customers=customers, merchants=max(40, customers // 3), days=days
    )


def write_ledger(source: Source, path: Path, rows: int | None) -> int:
    """Import a source into a new ledger, the first ``rows`` transactions or all; how many."""
    transactions = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = SqliteLedger.open_writer(path)
    try:
        with log_batches(source, now_us=END_OF_TIME_US, batch_rows=BATCH_ROWS) as log:
            for batch in log:
                batch = _first(batch, None if rows is None else rows - transactions)
                if batch.num_rows:
                    append_import(ledger, batch)
                transactions += _transactions(batch)
                if rows is not None and transactions >= rows:
                    break
    finally:
        ledger.close()
    return transactions


def _transactions(batch: pa.RecordBatch) -> int:
    return int((batch.column("kind").to_numpy() == KIND_TRANSACTION).sum())


def _first(batch: pa.RecordBatch, transactions: int | None) -> pa.RecordBatch:
    """The rows up to the transaction of that number."""
    if transactions is None or _transactions(batch) <= transactions:
        return batch
    numbers = (batch.column("kind").to_numpy() == KIND_TRANSACTION).cumsum()
    return batch.slice(0, int((numbers <= transactions).sum()))


def batches(path: Path, after: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The log in a ledger with the sequence of each batch's first row."""
    ledger = SqliteLedger.open_reader(path)
    try:
        yield from read_log(ledger, after=after)
    finally:
        ledger.close()
