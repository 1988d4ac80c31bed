"""The log that parity is proved on: a source, imported into a scratch ledger."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS, ConfigurationError, Transaction
from sentinel.ledger.log import append_import, read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.pipeline.verify import transactions_of
from sentinel.sources import Source, log_batches, open_source

REPOSITORY: Final = Path(__file__).resolve().parent.parent
END_OF_TIME_US: Final = 4_000_000_000_000_000
LEAST_ROWS: Final = 1_000
_MOST_BATCH_ROWS: Final = 50_000
_BATCHES: Final = 16
_HANDBOOK_ROWS_A_DAY: Final = 9_585
_LABEL_DELAY_DAYS: Final = 7.0


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
    """The Handbook with labels after 7 days, or a simulated world of about so many rows.

    Where only the first days of the Handbook are wanted, labels come sooner, so that there are
    some at all.
    """
    if name == "handbook":
        delay = _LABEL_DELAY_DAYS
        if rows is not None:
            delay = min(delay, rows / _HANDBOOK_ROWS_A_DAY / 8)
        return open_source("handbook", path=handbook_path(), label_delay_days=delay)
    wanted = rows or 300_000
    days = 120.0
    customers = max(20, round(wanted / (days * 0.5)))  # more than enough: `write_ledger` stops
    return open_source(
        "simulator", customers=customers, merchants=max(40, customers // 3), days=days
    )


def write_ledger(source: Source, path: Path, rows: int | None, *, tied: float = 0.0) -> int:
    """Import a source into a new ledger, the first ``rows`` transactions or all; how many.

    Args:
        source: Where the log comes from.
        path: The ledger's file.
        rows: Most transactions; they come in several batches, however few they are.
        tied: Share of transactions that are made to happen together with the one before.
    """
    transactions = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    ledger = SqliteLedger.open_writer(path)
    chance = np.random.default_rng(5)
    size = _MOST_BATCH_ROWS if rows is None else min(_MOST_BATCH_ROWS, -(-rows // _BATCHES))
    try:
        with log_batches(source, now_us=END_OF_TIME_US, batch_rows=size) as log:
            for batch in log:
                batch = _first(batch, None if rows is None else rows - transactions)
                if tied:
                    batch = _with_ties(batch, tied, chance)
                if batch.num_rows:
                    append_import(ledger, batch)
                transactions += _transactions(batch)
                if rows is not None and transactions >= rows:
                    break
    finally:
        ledger.close()
    return transactions


def _with_ties(batch: pa.RecordBatch, share: float, chance: np.random.Generator) -> pa.RecordBatch:
    """Some transactions get the event time and the entities of the transaction before them."""
    is_transaction = batch.column("kind").to_numpy() == KIND_TRANSACTION
    chosen = chance.random(batch.num_rows) < share
    chosen[:1] = False
    chosen[1:] &= is_transaction[1:] & is_transaction[:-1]
    rows = pa.array(np.arange(batch.num_rows) - chosen)
    columns = [
        column.take(rows) if name in ("event_time_us", *ENTITY_COLUMNS) else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


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


def transactions_in(ledger: Path, wanted: Iterable[str]) -> dict[str, Transaction]:
    """Those of some transactions that are in the log of a ledger."""
    ids = pa.array(sorted(wanted), pa.string())
    found: dict[str, Transaction] = {}
    for _, batch in batches(ledger):
        chosen = pc.and_(
            pc.equal(batch.column("kind"), KIND_TRANSACTION),
            pc.is_in(batch.column("transaction_id"), value_set=ids),
        )
        found.update((t.transaction_id, t) for t in transactions_of(batch.filter(chosen)))
    return found
