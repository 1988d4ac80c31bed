"""A bad row goes to the rejects file with its reason; accepted + rejected = read, always."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.domain import (
    FUTURE_TOLERANCE_US,
    MAX_AMOUNT_MINOR,
    ConfigurationError,
)
from sentinel.ingest.cards import masked
from sentinel.ingest.issuers import is_card
from sentinel.log.schema import KIND_TRANSACTION
from tests.sources.tables import NOW_US, TableSource, log_of, payment, rejects

CARD = "4111111111111111"


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (payment(None, 1), "missing_id"),
        (payment("t", None), "missing_time"),
        (payment("t", -1), "invalid_time"),
        (payment("t", 1, amount_minor=None), "missing_amount"),
        (payment("t", 1, amount_minor=MAX_AMOUNT_MINOR + 1), "amount_too_large"),
        (payment("t", 1, amount_minor=-MAX_AMOUNT_MINOR - 1), "amount_too_large"),
        (payment("t", NOW_US + FUTURE_TOLERANCE_US + 1), "future_time"),
        (payment("t", 1, received_at_us=NOW_US + 1), "future_time"),
        (payment("t", FUTURE_TOLERANCE_US + 2, received_at_us=1), "future_time"),
        (payment(CARD, 1), "card_number"),
        (payment("t", 1, customer_id="4111 1111 1111 1111"), "card_number"),
        (payment("t", 1, card_id=CARD), "card_number"),
        (payment("t", 1, ip_address=CARD), "card_number"),
        (payment("x" * 129, 1), "id_too_long"),
        (payment("t", 1, device_id="é" * 129), "id_too_long"),
    ],
)
def test_a_bad_row_is_rejected_with_its_code(
    row: dict[str, Any], code: str, tmp_path: Path
) -> None:
    source = TableSource([payment("good", 5), row])
    entries, report = log_of(source, rejects_path=tmp_path / "rejects.parquet")
    assert [entry["transaction_id"] for entry in entries] == ["good"]
    assert report.rejected == {code: 1}
    assert (report.read, report.accepted) == (2, 1)
    (rejected,) = rejects(tmp_path / "rejects.parquet")
    assert (rejected["source"], rejected["row"], rejected["code"]) == ("table", 2, code)
    assert len(rejected["reason"]) > 15
    assert CARD not in rejected["raw"] + (rejected["transaction_id"] or "")


@pytest.mark.parametrize(
    ("label", "code"),
    [
        ({"verdict": "maybe"}, "invalid_verdict"),
        ({"verdict": "fraud"}, "missing_time"),  # when did the label arrive?
        ({"verdict": "fraud", "label_received_at_us": -1}, "invalid_time"),
    ],
)
def test_a_payment_is_accepted_whatever_its_label_is(
    label: dict[str, Any], code: str, tmp_path: Path
) -> None:
    source = TableSource([payment("t", 1, **label)])
    entries, report = log_of(source, rejects_path=tmp_path / "rejects.parquet")
    assert [entry["transaction_id"] for entry in entries] == ["t"]
    assert (report.accepted, report.rejected, report.labels_rejected) == (1, {}, {code: 1})
    assert [row["code"] for row in rejects(tmp_path / "rejects.parquet")] == [code]


@pytest.mark.parametrize(
    "row",
    [
        payment("t", 0, amount_minor=0),
        payment("t", 1, amount_minor=-500),
        payment("t", 1, amount_minor=MAX_AMOUNT_MINOR),
        payment("t", NOW_US + FUTURE_TOLERANCE_US),
        payment("4111111111111112", 1),  # sixteen digits, but no card number
        payment("x" * 128, 1, device_id="é" * 128),
    ],
)
def test_what_looks_odd_but_is_legal_is_accepted(row: dict[str, Any]) -> None:
    entries, report = log_of(TableSource([row]))
    assert report.accepted == 1
    assert entries[0]["amount_minor"] == row["amount_minor"]


ids = st.sampled_from([None, "a", "b", "c", "d", CARD, "x" * 200])
rows = st.fixed_dictionaries(
    {
        "transaction_id": ids,
        "event_time_us": st.sampled_from([None, -5, 0, 7, 7, 9, NOW_US, NOW_US * 2]),
        "amount_minor": st.sampled_from([None, 0, -1, 10**12, 10**13]),
        "received_at_us": st.sampled_from([None, 8, NOW_US]),
        "customer_id": ids,
        "verdict": st.sampled_from([None, "fraud", "legitimate", "?"]),
        "label_received_at_us": st.sampled_from([None, 20, NOW_US * 2]),
    }
)
labels = st.fixed_dictionaries(
    {
        "label_id": ids,
        "transaction_id": ids,
        "verdict": st.sampled_from([None, "fraud", "legitimate", "?"]),
        "received_at_us": st.sampled_from([None, -1, 20, NOW_US * 2]),
    }
)


@settings(max_examples=25)
@given(
    st.lists(rows, max_size=12),
    st.lists(labels, max_size=8),
    st.sampled_from([None, 5]),
    st.integers(1, 5),
    st.sets(st.sampled_from(["a", "b"])),
)
def test_accepted_and_rejected_add_up_to_what_was_read(
    table: list[dict[str, Any]],
    told: list[dict[str, Any]],
    delay_us: int | None,
    chunk_rows: int,
    in_ledger: set[str],
) -> None:
    source = TableSource(table, told, delay_us=delay_us)

    def known(asked: pa.Array) -> np.ndarray:
        return np.array([item in in_ledger for item in asked.to_pylist()], bool)

    entries, report = log_of(source, chunk_rows=chunk_rows, known=known)
    assert report.read == len(table)
    assert report.accepted + sum(report.rejected.values()) + report.known == report.read
    assert (
        report.labels_accepted + report.labels_not_arrived + sum(report.labels_rejected.values())
        == report.labels_read
    )
    assert report.labels_unmatched <= report.labels_read
    payments = [entry["transaction_id"] for entry in entries if entry["kind"] == KIND_TRANSACTION]
    assert len(payments) == len(set(payments)) == report.accepted
    assert not in_ledger & set(payments)
    assert len(entries) == report.accepted + report.labels_accepted


def test_the_first_valid_row_of_an_id_wins_and_later_ones_are_rejected(tmp_path: Path) -> None:
    source = TableSource(
        [
            payment("t", 9, amount_minor=None),
            payment("t", 8, amount_minor=1, verdict="fraud", label_received_at_us=50),
            payment("u", 3),
            payment("t", 2, amount_minor=2, verdict="fraud", label_received_at_us=60),
        ]
    )
    path = tmp_path / "rejects.parquet"
    entries, report = log_of(source, rejects_path=path, chunk_rows=1)
    assert [(row["kind"], row["transaction_id"]) for row in entries] == [
        (0, "u"),
        (0, "t"),
        (1, "t"),
    ]
    assert entries[1]["amount_minor"] == 1
    assert report.rejected == {"missing_amount": 1, "duplicate_id": 1}
    assert report.labels_read == report.labels_accepted == 1
    assert [(row["row"], row["code"]) for row in rejects(path)] == [
        (1, "missing_amount"),
        (4, "duplicate_id"),
    ]
    assert json.loads(rejects(path)[1]["raw"])["amount_minor"] == 2


def test_an_id_that_the_ledger_has_is_counted_apart() -> None:
    source = TableSource([payment("old", 1), payment("new", 2)])
    entries, report = log_of(source, known=lambda asked: pc.is_in(asked, pa.array(["old"])))
    assert [entry["transaction_id"] for entry in entries] == ["new"]
    assert (report.rejected, report.known) == ({}, 1)


def test_a_csv_rejects_file_says_the_same_and_an_old_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rejects.csv"
    _, report = log_of(TableSource([payment(None, 1)]), rejects_path=path)
    assert report.rejects_path == path
    assert pacsv.read_csv(path).column("code").to_pylist() == ["missing_id"]
    _, report = log_of(TableSource([payment("t", 1)]), rejects_path=path)
    assert report.rejects_path is None
    assert not path.exists()


def test_a_rejects_file_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="must end in"):
        log_of(TableSource([]), rejects_path=tmp_path / "rejects.xlsx")


@given(st.text("23456789", min_size=12, max_size=18), st.sampled_from(["", " and more", ","]))
def test_a_card_number_is_masked_wherever_it_stands(start: str, rest: str) -> None:
    for last in "0123456789":
        if is_card(start + last):
            hidden = masked(f"paid by {start}{last}{rest}")
            assert start + last not in hidden
            assert start[:6] in hidden
            assert hidden.endswith((start + last)[-4:] + rest)
