"""The simulated transactions of the Fraud Detection Handbook (Le Borgne et al., 2022).

One Parquet file of 1,754,155 transactions of 2018-04-01 to 2018-09-30 with three fraud
scenarios, see https://fraud-detection-handbook.github.io (chapter 3, "Simulator").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError, Verdict
from sentinel.sources.amounts import amount_column
from sentinel.sources.base import (
    DAY_US,
    DEFAULT_CHUNK_ROWS,
    Chunk,
    ColumnUse,
    Description,
    Source,
    canonical_rows,
    transaction_schema,
)
from sentinel.sources.columns import id_column
from sentinel.sources.readers import TableFile
from sentinel.sources.times import time_column

_BECOMES: Final = {
    "TRANSACTION_ID": ("transaction_id", ""),
    "TX_DATETIME": ("event_time_us", "UTC"),
    "CUSTOMER_ID": ("customer_id", "there is one card per customer"),
    "TERMINAL_ID": ("merchant_id", "a terminal stands for a merchant"),
    "TX_AMOUNT": ("amount_minor", "two decimals"),
    "TX_FRAUD": ("verdict", "1 = fraud; 0 is no label, as nobody reports a good payment"),
}


class HandbookSource(Source):
    """The Handbook's raw transactions as a source.

    Args:
        path: The Parquet file.
        label_delay_days: From a fraud to its label; the Handbook's protocol uses 7.

    Raises:
        ConfigurationError: The file is missing, or lacks one of the columns.
    """

    name = "handbook"
    scale = 2

    def __init__(self, path: Path | str, *, label_delay_days: float = 7.0) -> None:
        self._file = TableFile(Path(path), "parquet")
        self.attributes = {}
        self.label_delay_us = round(label_delay_days * DAY_US)
        self._label_delay_days = label_delay_days
        self._types = {item.name: str(item.type) for item in self._file.schema()}
        missing = [name for name in _BECOMES if name not in self._types]
        if missing:
            raise ConfigurationError(
                f"{path} is not the Handbook's raw data: it lacks {', '.join(missing)}. "
                "Use a mapping file for data of another form."
            )

    def describe(self) -> Description:
        """What the columns became."""
        uses = [
            ColumnUse(name, kind, *_BECOMES.get(name, ("", "not used: derived from the others")))
            for name, kind in self._types.items()
        ]
        labels = f"frauds are known {self._label_delay_days:g} days after they happened"
        return Description(self.name, (str(self._file.path),), tuple(uses), labels)

    def row_count(self) -> int | None:
        """Rows of the file."""
        return self._file.row_count()

    def raw_batches(self, chunk_rows: int = DEFAULT_CHUNK_ROWS) -> Iterator[Chunk]:
        """The file's rows in its own order, which is that of time."""
        schema = transaction_schema(self.attributes)
        for block in self._file.blocks(chunk_rows, list(_BECOMES)):
            rows = block.rows
            times, bad_times = time_column(rows.column("TX_DATETIME"))
            amounts, bad_amounts = amount_column(rows.column("TX_AMOUNT"), scale=self.scale)
            fraud = pc.equal(rows.column("TX_FRAUD"), 1)
            columns = {
                "transaction_id": id_column(rows.column("TRANSACTION_ID")),
                "event_time_us": times,
                "amount_minor": amounts,
                "customer_id": id_column(rows.column("CUSTOMER_ID")),
                "merchant_id": id_column(rows.column("TERMINAL_ID")),
                "verdict": pc.if_else(fraud, Verdict.FRAUD.value, pa.scalar(None, pa.string())),
            }
            yield Chunk(
                self._file.name,
                block.row_numbers,
                canonical_rows(columns, schema, rows.num_rows),
                rows,
                (*bad_times, *bad_amounts),
            )
