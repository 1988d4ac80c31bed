"""Transactions and labels come out in one order: that of their receipt."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from sentinel.domain import ConfigurationError
from sentinel.log.schema import LOG_SCHEMA
from sentinel.sources import log_batches, open_source, progress_bar
from tests.sources.tables import DAY_US, NOW_US, TableSource, log_of, payment

small = st.integers(0, 9)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(small, st.none() | small, st.none() | small), max_size=15),
    st.lists(small, max_size=6),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_the_log_is_sorted_by_receipt_then_kind_then_source_row(
    rows: list[tuple[int, int | None, int | None]],
    arrivals: list[int],
    chunk_rows: int,
    batch_rows: int,
) -> None:
    payments, expected = [], []
    for number, (event, received, label) in enumerate(rows):
        columns: dict[str, Any] = {"received_at_us": received}
        if label is not None:
            columns |= {"verdict": "fraud", "label_received_at_us": label}
            expected.append((label, 1, 0, number, f"t{number}"))
        payments.append(payment(f"t{number}", event, **columns))
        expected.append((event if received is None else received, 0, 0, number, f"t{number}"))
    labels = []
    for number, arrival in enumerate(arrivals):
        labels.append(
            {"label_id": f"l{number}", "transaction_id": "x", "verdict": "fraud"}
            | {"received_at_us": arrival}
        )
        expected.append((arrival, 1, 1, number, "x"))
    source = TableSource(payments, labels)
    entries, _ = log_of(source, chunk_rows=chunk_rows, batch_rows=batch_rows)
    assert [(row["received_at_us"], row["kind"], row["transaction_id"]) for row in entries] == [
        (moment, kind, name) for moment, kind, _, _, name in sorted(expected)
    ]


def test_labels_that_arrive_after_now_are_left_out_and_counted() -> None:
    rows = [
        payment("old", NOW_US - 8 * DAY_US, verdict="fraud"),
        payment("new", NOW_US - 6 * DAY_US, verdict="fraud"),
    ]
    entries, report = log_of(TableSource(rows, delay_us=7 * DAY_US))
    assert [row["transaction_id"] for row in entries if row["kind"] == 1] == ["old"]
    assert (report.labels_read, report.labels_accepted, report.labels_not_arrived) == (2, 1, 1)
    assert report.frauds == 1
    assert report.fraud_share == 0.5


def test_a_corrected_label_counts_as_what_it_says_last() -> None:
    labels = [
        {"transaction_id": "t", "verdict": "fraud", "received_at_us": 10},
        {"transaction_id": "t", "verdict": "legitimate", "received_at_us": 20},
    ]
    entries, report = log_of(TableSource([payment("t", 1)], labels))
    assert [row["verdict"] for row in entries] == [None, "fraud", "legitimate"]
    assert report.frauds == 0
    assert report.labels_accepted == 2


def test_labels_of_their_own_without_a_time_follow_their_transaction_by_the_delay() -> None:
    labels = [
        {"transaction_id": "t", "verdict": "fraud"},
        {"transaction_id": "unheard of", "verdict": "fraud"},
    ]
    entries, report = log_of(TableSource([payment("t", 100)], labels, delay_us=50))
    assert [(row["kind"], row["received_at_us"]) for row in entries] == [(0, 100), (1, 150)]
    assert report.labels_rejected == {"missing_time": 1}


def test_a_label_for_an_unknown_transaction_is_kept_to_wait_for_it() -> None:
    labels = [{"transaction_id": "later", "verdict": "fraud", "received_at_us": 3}]
    entries, report = log_of(TableSource([], labels))
    assert [row["transaction_id"] for row in entries] == ["later"]
    assert (report.read, report.labels_accepted, report.frauds) == (0, 1, 0)


def test_label_ids_are_the_same_in_every_import_and_always_legal() -> None:
    labels = [
        {"transaction_id": "x" * 128, "verdict": "fraud", "received_at_us": 1},
        {"transaction_id": "t", "verdict": "fraud", "received_at_us": 1},
        {"transaction_id": "t", "verdict": "fraud", "received_at_us": 2},
    ]
    first, _ = log_of(TableSource([], labels))
    again, report = log_of(TableSource([], [*labels, labels[1]]), chunk_rows=1)
    assert [row["label_id"] for row in again] == [row["label_id"] for row in first]
    assert len({row["label_id"] for row in first}) == 3
    assert max(len(row["label_id"]) for row in first) <= 128
    assert report.labels_rejected == {"duplicate_id": 1}


def test_batches_have_the_log_schema_and_never_more_rows_than_asked() -> None:
    source = open_source("simulator", customers=40, days=4)
    log = log_batches(source, now_us=NOW_US, batch_rows=30)
    sizes = []
    for batch in log:
        assert batch.schema.names[: len(LOG_SCHEMA)] == LOG_SCHEMA.names
        assert [batch.schema.field(item.name) for item in LOG_SCHEMA] == list(LOG_SCHEMA)
        sizes.append(batch.num_rows)
    assert max(sizes) <= 30
    assert sum(sizes) == log.report.logged > 60


def test_an_empty_source_gives_an_empty_log() -> None:
    entries, report = log_of(TableSource([]))
    assert entries == []
    assert (report.read, report.first_event_us, report.fraud_share) == (0, None, 0.0)


def test_stopping_early_leaves_no_files_behind(tmp_path: Path) -> None:
    source = open_source("simulator", customers=40, days=4)
    with log_batches(source, now_us=NOW_US, batch_rows=5, work_folder=tmp_path) as log:
        next(log)
        assert list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_source_of_another_money_scale_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigurationError, match="SENTINEL_MONEY__SCALE=2"):
        log_batches(TableSource([]), now_us=NOW_US, scale=3)


def test_progress_names_each_stage_and_ends_where_it_should() -> None:
    told: list[tuple[str, int, int | None]] = []
    rows = [payment(f"t{number}", number) for number in range(10)]
    log_of(
        TableSource(rows),
        chunk_rows=4,
        batch_rows=5,
        progress=lambda stage, done, total: told.append((stage, done, total)),
    )
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == ["read", "sort", "log"]
    assert ("read", 4, 10) in told
    assert told[-1] == ("log", 10, 10)


def test_without_a_terminal_progress_is_two_lines_a_stage() -> None:
    output = io.StringIO()
    with progress_bar(Console(file=output, force_terminal=False, width=80)) as progress:
        log_of(TableSource([payment("t", 1)]), progress=progress)
    assert output.getvalue().splitlines() == [
        "Reading and checking rows ...",
        "Reading and checking rows: 1 done",
        "Bringing the log in order ...",
        "Bringing the log in order: 1 done",
        "Writing the log ...",
        "Writing the log: 1 done",
    ]


def test_a_stage_around_another_is_announced_once_and_counts_nothing() -> None:
    output = io.StringIO()
    with progress_bar(Console(file=output, force_terminal=False, width=80)) as progress:
        progress("compile", 0, 1)
        progress("dictionaries", 10, 10)
        progress("compile", 1, 1)
    assert output.getvalue().splitlines() == [
        "Compiling the feature definitions ...",
        "Learning the values of categories ...",
        "Learning the values of categories: 10 done",
    ]


def test_on_a_terminal_progress_is_a_bar() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=100)
    with progress_bar(console) as progress:
        progress("read", 5, 4)  # an estimate that proved too small
    assert "Reading and checking rows" in output.getvalue()
    assert "5/5" in output.getvalue()


_PEAK = """
import resource, sys
from sentinel.sources import log_batches, open_source
source = open_source("simulator", customers=int(sys.argv[1]), days=15)
log = log_batches(source, now_us=10**16, chunk_rows=20_000, batch_rows=20_000,
                  memory_limit_bytes=100_000_000)
rows = sum(batch.num_rows for batch in log)
print(rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_memory_does_not_grow_with_the_source() -> None:
    """Ten times the rows need no more than a fixed amount of memory on top."""

    def peak(customers: int) -> tuple[int, int]:
        run = [sys.executable, "-c", _PEAK, str(customers)]
        rows, kilobytes = subprocess.check_output(run, text=True).split()
        return int(rows), int(kilobytes) * 1_024

    rows_small, peak_small = peak(2_000)
    rows_large, peak_large = peak(25_000)
    assert rows_large > 10 * rows_small
    # 250,000 rows of some 600 bytes are 150 MB, and more while they are sorted.
    assert peak_large - peak_small < 110_000_000
