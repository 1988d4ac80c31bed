"""The Handbook's raw transactions become a log in the order of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.domain import ConfigurationError
from sentinel.sources import log_batches, open_source
from tests.sources.tables import DAY_US, NOW_US, log_of


def test_a_few_rows_become_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / "raw.parquet"
    table = pa.table(
        {
            "TRANSACTION_ID": [1, 0],
            "TX_DATETIME": pa.array([31_000_000, 30_000_000], pa.timestamp("us")),
            "CUSTOMER_ID": pa.array([596, 4961], pa.int32()),
            "TERMINAL_ID": pa.array([3156, 3412], pa.int32()),
            "TX_AMOUNT": [57.16, 81.51],
            "TX_FRAUD": pa.array([1, 0], pa.int8()),
        }
    )
    pq.write_table(table, path)
    entries, report = log_of(open_source("handbook", path=path, label_delay_days=7))
    assert [(row["kind"], row["transaction_id"]) for row in entries] == [
        (0, "0"),
        (0, "1"),
        (1, "1"),
    ]
    assert entries[1]["amount_minor"] == 5716
    assert (entries[1]["customer_id"], entries[1]["merchant_id"]) == ("596", "3156")
    assert entries[1]["card_id"] is None
    assert entries[2]["received_at_us"] == 31_000_000 + 7 * DAY_US
    assert report.frauds == 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigurationError, match="lacks TRANSACTION_ID"):
        open_source("handbook", path=tmp_path / "a.parquet")
    with pytest.raises(ConfigurationError, match="no file"):
        open_source("handbook", path=tmp_path / "b.parquet")


@pytest.mark.slow
def test_all_rows_of_the_handbook_are_accepted_in_order(handbook_path: Path) -> None:
    raw = pq.read_table(handbook_path, columns=["TX_AMOUNT", "TX_FRAUD"])
    cents = int(np.rint(raw["TX_AMOUNT"].to_numpy() * 100).astype(np.int64).sum())
    log = log_batches(open_source("handbook", path=handbook_path), now_us=NOW_US)
    total, last = 0, 0
    for batch in log:
        received = batch.column("received_at_us").to_numpy()
        assert received[0] >= last
        assert (np.diff(received) >= 0).all()
        last = received[-1]
        total += sum(batch.column("amount_minor").drop_null().to_numpy().tolist())
    assert log.report.read == log.report.accepted == raw.num_rows == 1_754_155
    assert log.report.frauds == int(raw["TX_FRAUD"].to_numpy().sum())
    assert total == cents
